"""Decisions that need memory: early stopping, the best checkpoint, non-finite steps.

Each gives and takes its memory as JSON, so that a resumed run decides as if never interrupted.
Every rank holds the same metrics and so decides alike, without asking.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayft.engine.ports import Json
from rayft.errors import Problem, TrainingError
from rayft.metrics import check_metric
from rayft.plan.run_plan import RunPlan
from rayft.spec.run import RunSpec
from rayft.spec.training import EarlyStoppingSpec, PlateauSpec

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


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """When a phase ends before its planned length."""

    metric: str
    patience: int
    """Epochs without improvement."""
    min_delta: float
    setting: str
    """Path of the metric in the spec, for messages."""


def stop_rules(spec: RunSpec) -> tuple[StopRule | None, ...]:
    """Return the rule of each phase, its own or the run's; None where it runs to its end."""
    return tuple(
        _plateau_rule(phase.until, f"phases.{index}.until.plateau")
        if phase.until
        else _early_rule(spec.early_stopping)
        for index, phase in enumerate(spec.phases)
    )


def _plateau_rule(spec: PlateauSpec, setting: str) -> StopRule:
    return StopRule(
        metric=spec.plateau, patience=spec.patience, min_delta=spec.min_delta, setting=setting
    )


def _early_rule(spec: EarlyStoppingSpec | None) -> StopRule | None:
    if spec is None:
        return None
    return StopRule(
        metric=spec.metric,
        patience=spec.patience,
        min_delta=spec.min_delta,
        setting="early_stopping.metric",
    )


class EarlyStopping:
    """Ends a phase when its metric has not improved for `patience` epochs.

    It counts the phases that start, so that it needs to be told no more than that.

    Args:
        rules: one for each phase of the run, in their order; None where a phase runs to its end.

    Raises:
        SpecError: a rule names an unknown metric, of whichever phase.
    """

    def __init__(self, rules: Sequence[StopRule | None]) -> None:
        for rule in filter(None, rules):
            check_metric(rule.metric, setting=rule.setting)
        self._rules = rules
        self._enter(-1)

    def start_phase(self) -> None:
        """Forget what the last phase reached: another one starts afresh."""
        self._enter(self._phase + 1)

    def _enter(self, phase: int) -> None:
        self._phase = phase
        self._num_bad_epochs = 0
        rule = self._rules[phase] if phase >= 0 else None
        self._rule = rule
        self._watched = (
            Watched(rule.metric, setting=rule.setting, min_delta=rule.min_delta) if rule else None
        )

    def should_end_phase(self, metrics: Mapping[str, float]) -> bool:
        """Take the metrics of an epoch; return whether the phase should end."""
        if self._rule is None or self._watched is None:
            return False
        self._num_bad_epochs = 0 if self._watched.improves(metrics) else self._num_bad_epochs + 1
        return self._num_bad_epochs >= self._rule.patience

    def state(self) -> dict[str, Json]:
        """Return the memory."""
        best = self._watched.best if self._watched else None
        return {"phase": self._phase, "best": best, "num_bad_epochs": self._num_bad_epochs}

    def load_state(self, state: Mapping[str, Json]) -> None:
        """Take over a saved memory."""
        phase = _number(state["phase"])
        assert phase is not None
        self._enter(int(phase))
        if self._watched:
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
        rules = stop_rules(plan.spec)
        self.early_stopping = EarlyStopping(rules) if any(rules) else None
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
