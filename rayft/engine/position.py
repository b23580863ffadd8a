"""Where a run stands: a few integers, because order and rates are functions of them."""

from dataclasses import asdict, dataclass

from rayft.engine.ports import Json
from rayft.plan.run_plan import RunPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The next step to take."""

    phase: int = 0
    """Index of the phase; the number of phases once all are done."""
    step: int = 0
    """Step inside the phase."""
    steps_done: int = 0
    """Steps taken in all; less than planned where a phase ended early."""

    def after_step(self, plan: RunPlan) -> "Position":
        """Return the position after one more step; the end of a phase is the next one's start."""
        done = self.steps_done + 1
        if self.step + 1 == plan.phases[self.phase].num_steps:
            return Position(phase=self.phase + 1, step=0, steps_done=done)
        return Position(phase=self.phase, step=self.step + 1, steps_done=done)

    def at_next_phase(self) -> "Position":
        """Return the position after an early end of the phase."""
        return Position(phase=self.phase + 1, step=0, steps_done=self.steps_done)

    def finished(self, plan: RunPlan) -> bool:
        """Return whether no phase is left."""
        return self.phase >= len(plan.phases)

    def to_json(self) -> dict[str, Json]:
        """Return the position as JSON."""
        return dict(asdict(self))
