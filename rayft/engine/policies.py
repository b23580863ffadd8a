"""Decisions that need memory: early stopping, the best checkpoint, non-finite steps.

Each gives and takes its memory as JSON, so that a resumed run decides as if never interrupted.
Every rank holds the same metrics and so decides alike, without asking.
"""

import math
from collections.abc import Mapping

from rayft.engine.ports import Json
from rayft.errors import Problem, TrainingError
from rayft.metrics import check_metric
from rayft.plan.run_plan import RunPlan
from rayft.spec.training import EarlyStoppingSpec

_MOST_SKIPPED_IN_A_ROW = 3
_TIE_BREAKER = "validation/loss"


class Watched:
    """The best value of a metric so far."""

    def __init__(self, metric: str, *, setting: str, min_delta: float = 0.0) -> None:
        self.metric = metric
        self._sign = 1.0 if check_metric(metric, setting=setting) == "max" else -1.0
        self._min_delta = min_delta
        self.best: float | None = None

    def improves(self, metrics: Mapping[str, float]) -> bool:
        """Take the newest value; return whether it is the best so far."""
        # A figure that is undefined on this split, such as an AUROC of one class, never improves.
        value = metrics.get(self.metric, math.nan)
        if not math.isfinite(value):
            return False
        if self.best is not None and self._sign * (value - self.best) <= self._min_delta:
            return False
        self.best = value
        return True


class EarlyStopping:
    """Ends a phase when a metric has not improved for `patience` epochs."""

    def __init__(self, spec: EarlyStoppingSpec) -> None:
        self._spec = spec
        self.start_phase()

    def start_phase(self) -> None:
        """Forget what the last phase reached: another one starts afresh."""
        self._watched = Watched(
            self._spec.metric, setting="early_stopping.metric", min_delta=self._spec.min_delta
        )
        self._num_bad_epochs = 0

    def should_end_phase(self, metrics: Mapping[str, float]) -> bool:
        """Take the metrics of an epoch; return whether the phase should end."""
        self._num_bad_epochs = 0 if self._watched.improves(metrics) else self._num_bad_epochs + 1
        return self._num_bad_epochs >= self._spec.patience

    def state(self) -> dict[str, Json]:
        """Return the memory."""
        return {"best": self._watched.best, "num_bad_epochs": self._num_bad_epochs}

    def load_state(self, state: Mapping[str, Json]) -> None:
        """Take over a saved memory."""
        self._watched.best = _number(state["best"])
        self._num_bad_epochs = int(_number(state["num_bad_epochs"]) or 0)


class BestCheckpoint:
    """Knows which checkpoint is the best, by a metric or, without one, the newest."""

    def __init__(self, metric: str | None) -> None:
        self.metric = metric
        self._watched = Watched(metric, setting="best_metric") if metric else None
        self._loss = math.inf
        self.name: str | None = None

    def take(self, name: str, metrics: Mapping[str, float]) -> bool:
        """Take the metrics that checkpoint `name` will hold; return whether it is the best."""
        if self._watched is None or self._watched.improves(metrics) or self._ties_at_less(metrics):
            self.name = name
            self._loss = metrics.get(_TIE_BREAKER, math.inf)
            return True
        return False

    def _ties_at_less(self, metrics: Mapping[str, float]) -> bool:
        """Return whether the best value came again at a lower loss: few rows make many ties."""
        assert self._watched is not None
        equal = metrics.get(self._watched.metric) == self._watched.best
        return equal and metrics.get(_TIE_BREAKER, math.inf) < self._loss

    def state(self) -> dict[str, Json]:
        """Return the memory."""
        best = self._watched.best if self._watched else None
        loss = self._loss if math.isfinite(self._loss) else None
        return {"name": self.name, "best": best, "loss": loss}

    def load_state(self, state: Mapping[str, Json]) -> None:
        """Take over a saved memory."""
        loss = _number(state["loss"])
        self._loss = math.inf if loss is None else loss
        name = state["name"]
        self.name = name if isinstance(name, str) else None
        if self._watched:
            self._watched.best = _number(state["best"])


class NonFinite:
    """Counts steps left out because their gradient was not finite; three in a row end the run."""

    def __init__(self) -> None:
        self.num_in_a_row = 0
        self.num_skipped = 0

    def take(self, *, finite: bool, where: str, lr: float) -> None:
        """Take the verdict on one step.

        Raises:
            TrainingError: several steps in a row were not finite.
        """
        if finite:
            self.num_in_a_row = 0
            return
        self.num_in_a_row += 1
        self.num_skipped += 1
        if self.num_in_a_row >= _MOST_SKIPPED_IN_A_ROW:
            raise TrainingError(
                Problem(
                    where,
                    f"the gradient of {self.num_in_a_row} steps in a row is not finite at a "
                    f"largest learning rate of {lr:.3g}; the weights are those of the last finite "
                    "step",
                    "lower lr, lengthen the warm-up, set gradient_clip, or use precision: fp32",
                )
            )

    def state(self) -> dict[str, Json]:
        """Return the memory."""
        return {"num_in_a_row": self.num_in_a_row, "num_skipped": self.num_skipped}

    def load_state(self, state: Mapping[str, Json]) -> None:
        """Take over a saved memory."""
        self.num_in_a_row = int(_number(state["num_in_a_row"]) or 0)
        self.num_skipped = int(_number(state["num_skipped"]) or 0)


class Policies:
    """All of a run's policies under their names."""

    def __init__(self, plan: RunPlan) -> None:
        stopping = plan.spec.early_stopping
        self.early_stopping = EarlyStopping(stopping) if stopping else None
        self.best = BestCheckpoint(plan.best_metric)
        self.non_finite = NonFinite()

    def state(self) -> dict[str, Json]:
        """Return the memory of all."""
        return {name: policy.state() for name, policy in self._named().items()}

    def load_state(self, state: Mapping[str, Json]) -> None:
        """Take over the saved memory of all."""
        for name, policy in self._named().items():
            saved = state[name]
            assert isinstance(saved, dict)
            policy.load_state(saved)

    def _named(self) -> dict[str, EarlyStopping | BestCheckpoint | NonFinite]:
        named: dict[str, EarlyStopping | BestCheckpoint | NonFinite] = {
            "best": self.best,
            "non_finite": self.non_finite,
        }
        if self.early_stopping:
            named["early_stopping"] = self.early_stopping
        return named


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) else None
