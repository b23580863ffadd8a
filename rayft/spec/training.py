"""Phases, optimizer, schedule and the policies around them."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayft.spec.base import NonNegative, Positive, Probability, Spec
from rayft.spec.duration import DurationText, PhaseLengthText, parse_duration
from rayft.spec.unfreeze import UnfreezeSpec

_LONGEST_NAME = 64
_BelowOne = Annotated[float, Field(ge=0, lt=1)]


class CosineSchedule(Spec):
    """Warm up linearly, then fall along a half cosine.

    Source: Loshchilov & Hutter 2017 (https://arxiv.org/abs/1608.03983), section 3, one cycle.
    """

    kind: Literal["cosine"]
    warmup: DurationText = "5%"
    """Length of the linear rise; a share is of the phase."""
    final_fraction: Probability = 0.0
    """Rate at the end of the phase, as a share of the peak."""


class LinearSchedule(Spec):
    """Warm up linearly, then fall linearly."""

    kind: Literal["linear"]
    warmup: DurationText = "5%"
    """Length of the linear rise; a share is of the phase."""
    final_fraction: Probability = 0.0
    """Rate at the end of the phase, as a share of the peak."""


class ConstantSchedule(Spec):
    """Warm up linearly, then stay."""

    kind: Literal["constant"]
    warmup: DurationText = "0%"
    """Length of the linear rise; a share is of the phase."""


class OneCycleSchedule(Spec):
    """Rise to the peak, then fall below the start, both along half cosines.

    Source: Smith & Topin 2018 (https://arxiv.org/abs/1708.07120).
    """

    kind: Literal["one_cycle"]
    rise: DurationText = "30%"
    """Length of the rise; a share is of the phase."""
    start_fraction: Probability = 0.04
    """Rate at the start, as a share of the peak."""
    final_fraction: Probability = 0.0001
    """Rate at the end, as a share of the peak."""


ScheduleSpec = Annotated[
    CosineSchedule | LinearSchedule | ConstantSchedule | OneCycleSchedule,
    Field(discriminator="kind"),
]


class PlateauSpec(Spec):
    """End a phase before its planned length, when a metric has stopped improving."""

    plateau: str = Field(examples=["validation/loss", "validation/macro_f1"])
    """Metric to watch, such as `validation/loss` or `validation/macro_f1`."""
    patience: int = Field(default=3, ge=1)
    """Epochs without improvement before the phase ends."""
    min_delta: NonNegative = 0.0
    """Smallest change that counts as improvement."""


class PhaseSpec(Spec):
    """One stage of a run: which groups train, for how long, at which learning rates."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    """Name of the phase, for reports."""
    train: tuple[str, ...] = Field(min_length=1)
    """What trains: `heads`, `heads.label`, a group (`layer4`), a range (`layer2..layer4`), a
    position (`all`, `last 2`, `top 30%`) or a band (`base`, `middle`, `top`). The rest freezes."""
    for_: PhaseLengthText = Field(alias="for")
    """Length of the phase: `2 epochs`, `500 steps`, or a share of the run's `total`: `30%`."""
    until: PlateauSpec | None = None
    """End the phase earlier, when a metric has stopped improving; `for` is then the most. It holds
    in place of `early_stopping`."""
    lr: Positive | dict[str, Positive]
    """Peak learning rate for the whole global batch: one number, or a table with `heads`,
    `backbone`, `decay` (factor for each group further from the heads) and groups by name."""
    schedule: ScheduleSpec | None = None
    """Schedule of this phase, where it differs from the run's."""
    image_size: int | None = Field(default=None, ge=8)
    """Height and width in pixels that images are scaled to in this phase, smaller than
    `data.image_size`: a step costs about as much less as there are fewer pixels. Evaluation takes
    `data.image_size`. Source: Howard 2018, "Training Imagenet in 3 hours for USD 25",
    https://www.fast.ai/posts/2018-04-30-dawnbench-fastai.html, progressive resizing."""
    unfreeze: UnfreezeSpec | None = None
    """Thaw what trains step by step. Schedule and `until` then hold for each step."""

    @model_validator(mode="after")
    def _leaves_room_for_a_number(self) -> Self:
        longest = _LONGEST_NAME - len("-999")
        if self.unfreeze and len(self.name) > longest:
            raise ValueError(
                f"name has no room for the number that unfreeze adds; shorten it to {longest} "
                "characters"
            )
        return self


def check_phases(phases: Sequence[PhaseSpec], total: str | None, *, has_validation: bool) -> None:
    """Check that phases take shares of something, and watch what is measured.

    Raises:
        ValueError: they do not, or `total` has no effect.
    """
    shares: list[float] = []
    for index, phase in enumerate(phases):
        length = parse_duration(phase.for_)
        if length.unit == "percent":
            shares.append(length.amount)
            if total is None:
                raise ValueError(
                    f"phases.{index}.for is {phase.for_} of a run whose length is not given; set "
                    "total, such as total: 10 epochs, or write '2 epochs' or '500 steps'"
                )
        if phase.until and not has_validation:
            raise ValueError(
                f"phases.{index}.until has no effect without validation rows; set "
                "data.validation or remove it"
            )
    if total is not None and not shares:
        raise ValueError(
            "total has no effect while no phase takes a share of it; remove it, or write such as "
            "for: 30%"
        )
    if sum(shares) > 100 + 1e-9:
        raise ValueError(f"phases take {sum(shares):g}% of the run together; make it 100% or less")


DecayTarget = Literal["zero", "pretrained"]


class AdamW(Spec):
    """AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101)."""

    kind: Literal["adamw"]
    weight_decay: NonNegative = 0.05
    """Decoupled weight decay, for all parameters but biases and norms."""
    decay_towards: DecayTarget = "zero"
    """What weight decay pulls the backbone's weights to: to zero, or back to where they started
    (L2-SP, Li et al. 2018, https://arxiv.org/abs/1802.01483). Heads always decay to zero."""
    betas: tuple[_BelowOne, _BelowOne] = (0.9, 0.999)
    """Decay rates of the two moments."""
    eps: Positive = 1e-8
    """Term that keeps the denominator above 0."""


class SGD(Spec):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"]
    weight_decay: NonNegative = 1e-4
    """Weight decay, for all parameters but biases and norms."""
    decay_towards: DecayTarget = "zero"
    """What weight decay pulls the backbone's weights to: to zero, or back to where they started
    (L2-SP, Li et al. 2018, https://arxiv.org/abs/1802.01483). Heads always decay to zero."""
    momentum: _BelowOne = 0.9
    """Share of the last update that is kept."""
    nesterov: bool = False
    """Look ahead along the momentum."""

    @model_validator(mode="after")
    def _looks_ahead_along_something(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError(
                "nesterov has no effect without momentum; remove it, or set momentum above 0"
            )
        return self


OptimizerSpec = Annotated[AdamW | SGD, Field(discriminator="kind")]


class EmaSpec(Spec):
    """Exponential moving average of the weights; evaluation and the result use it."""

    decay: float = Field(default=0.999, gt=0, lt=1)
    """Share of the average kept at each step; it rises to this over the first steps."""


class EarlyStoppingSpec(Spec):
    """End the phase when a metric has stopped improving; the next phase starts afresh."""

    metric: str = "validation/loss"
    """Metric to watch, such as `validation/loss` or `validation/macro_f1`."""
    patience: int = Field(default=3, ge=1)
    """Epochs without improvement before the phase ends."""
    min_delta: NonNegative = 0.0
    """Smallest change that counts as improvement."""


class CheckpointSpec(Spec):
    """When checkpoints are written and how many are kept."""

    interval_s: NonNegative = 60.0
    """Seconds between checkpoints inside an epoch; 0 writes one after every step. One is always
    written at the end of an epoch."""
    keep: int = Field(default=2, ge=1)
    """Newest checkpoints kept, beside the best one."""
