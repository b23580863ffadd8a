"""The whole of one sweep: a run, what differs from trial to trial, and how it is searched."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from rayft.spec.base import Spec
from rayft.spec.space import Domain


class GridSearch(Spec):
    """Every combination of the values; each setting of the space is a `choice`."""

    kind: Literal["grid"]


class RandomSearch(Spec):
    """Points at random, each independent of the others; none occurs twice.

    Source: Bergstra & Bengio 2012 (https://jmlr.org/papers/v13/bergstra12a.html).
    """

    kind: Literal["random"]
    num_trials: int = Field(ge=1, le=100_000)
    """Trials, the run's own values among them."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the points; the seed of the trials is the run's."""


class TpeSearch(Spec):
    """Points near those that did well so far, by Optuna's tree-structured Parzen estimator.

    Source: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", section 4.
    """

    kind: Literal["tpe"]
    num_trials: int = Field(ge=1, le=10_000)
    """Trials, the run's own values among them."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the points; the seed of the trials is the run's."""
    startup: int = Field(default=10, ge=1)
    """Trials that end before the search learns from them; until then points are random."""

    @model_validator(mode="after")
    def _learns_from_some(self) -> Self:
        if self.startup >= self.num_trials:
            raise ValueError(
                f"startup is {self.startup} and num_trials {self.num_trials}, so every point would "
                "be random; set startup below num_trials, or use kind: random"
            )
        return self


SearchSpec = Annotated[GridSearch | RandomSearch | TpeSearch, Field(discriminator="kind")]


class FifoScheduler(Spec):
    """Every trial runs to its end."""

    kind: Literal["fifo"] = "fifo"


class AshaScheduler(Spec):
    """Stop all but the best at epochs that lie further and further apart.

    Trials are compared inside a phase, at the same epoch of it.

    Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning"
    (https://arxiv.org/abs/1810.05934), section 3.
    """

    kind: Literal["asha"]
    grace: int = Field(default=1, ge=1)
    """Epochs of a phase before a trial can be stopped in it."""
    reduction_factor: int = Field(default=3, ge=2)
    """One in so many goes on; the next comparison is after so many times the epochs."""


class MedianScheduler(Spec):
    """Stop a trial whose best is worse than the median of what others had on average by then.

    Trials are compared inside a phase, at the same epoch of it.

    Source: Golovin et al. 2017, "Google Vizier" (https://doi.org/10.1145/3097983.3098043),
    section 3.2.
    """

    kind: Literal["median"]
    grace: int = Field(default=1, ge=1)
    """Epochs of a phase before a trial can be stopped in it."""
    min_trials: int = Field(default=3, ge=2)
    """Other trials that must have got as far before one is stopped."""


SchedulerSpec = Annotated[
    FifoScheduler | AshaScheduler | MedianScheduler, Field(discriminator="kind")
]


class SweepSpec(Spec):
    """A sweep: one run, many times, each time with other values."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    """Name of the sweep: its folder under `storage_path`. The same name and spec goes on where it
    stopped."""
    storage_path: str = "~/rayft_results"
    """Folder for the sweep, its trials and the prepared data that they share: a path that every
    node sees, or an address in an object store."""
    run: str | dict[str, JsonValue] = Field(title="a YAML file or the settings of a run")
    """The run that trials begin from: a YAML file, found from the folder of the sweep's own, or
    the settings of a run as they would stand in one. Its `name` and `storage_path` give way to
    those of the sweep."""
    space: dict[str, Domain] = Field(min_length=1)
    """What differs between trials: paths in the run, such as `phases.1.lr.heads`, each with its
    domain. Where one path lies in another, the outer one is set first."""
    search: SearchSpec
    """How points of the space are chosen. The run's own values are always the first trial."""
    scheduler: SchedulerSpec = FifoScheduler()
    """Which trials are stopped before their end."""
    metric: str = "validation/accuracy"
    """Metric that trials are compared by; of the validation split. A run that has no `best_metric`
    of its own chooses its best checkpoint by it too."""
    max_concurrent: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Most trials at a time; `auto` is as many as the cluster has room for."""
    fuse: Literal["auto", "off"] = "auto"
    """Train trials that differ only in what concerns their heads as one model, where they can."""
    share_phases: Literal["auto", "off"] = "auto"
    """Run phases that trials have in common once, and begin each trial from their end."""
