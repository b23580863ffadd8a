"""Live progress: a line that moves on a terminal, one line per interval elsewhere."""

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console

from rayft.cli.live_line import LiveLine
from rayft.cli.show_plan import print_plan
from rayft.plan.run_plan import PhasePlan, RunPlan
from rayft.runtime.journal import Event


class Progress(LiveLine):
    """Hears what a run does and shows it."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, clock=clock)
        self._plan: RunPlan | None = None
        self._stage = "preparing rows"
        self._left = _TimeLeft(clock)

    def on_stage(self, text: str) -> None:
        """Something that takes a while begins."""
        self._stage = text
        super().on_stage(text)

    def on_rows(self, done: int, total: int) -> None:
        """Rows were prepared, or run through frozen layers."""
        self.show(f"{self._stage}: {done:,} of {total:,}", always=done == total)

    def on_plan(self, plan: RunPlan) -> None:
        """The plan is exact; training begins."""
        self._plan = plan
        self._left.plan = plan
        print_plan(plan, self.console)

    def on_event(self, event: Event) -> None:
        """A worker wrote an event to the journal."""
        values: dict[str, Any] = dict(event)
        match event["kind"]:
            case "phase":
                self._left.phase_begins(values)
            case "progress":
                self._left.step_done(values)
                self.show(self._progress_line(values), always=False)
            case "epoch":
                self._left.step_done(values)
                self.print(self._epoch_line(values))
            case _:
                if news := _news(values):
                    self.print(news)

    def _progress_line(self, values: dict[str, Any]) -> str:
        phase = self._phase(values)
        rates = sorted(set(values["lr"].values()), reverse=True)
        lr = f"{rates[0]:.2e}" if len(rates) == 1 else f"{rates[0]:.2e}..{rates[-1]:.2e}"
        return (
            f"{phase.name} epoch {values['epoch']}/{phase.num_epochs} "
            f"step {values['step']}/{phase.num_steps}  loss {values['loss']:.4f}  lr {lr}  "
            f"{values['rows_per_s']:,.0f} rows/s  waiting {values['wait_fraction']:.0%}  "
            f"left {self._left.text()}"
        )

    def _epoch_line(self, values: dict[str, Any]) -> str:
        phase = self._phase(values)
        metrics = values["metrics"]
        shown = ("train/loss", "validation/loss", "validation/accuracy")
        figures = "  ".join(f"{name} {metrics[name]:.4f}" for name in shown if name in metrics)
        best = "  best" if values["best"] and len(metrics) > 1 else ""
        return (
            f"{phase.name} epoch {values['epoch']}/{phase.num_epochs} done  {figures}{best}  "
            f"left {self._left.text()}"
        )

    def _phase(self, values: dict[str, Any]) -> PhasePlan:
        assert self._plan is not None
        index: int = values["phase_index"]
        return self._plan.phases[index]


def _news(values: dict[str, Any]) -> str | None:
    """Say what is told once, where there is something to tell."""
    match values["kind"]:
        case "weights":
            return f"weights: {'; '.join(values['notes'])}" if values["notes"] else None
        case "resumed":
            return f"going on from {values['name']}, after {values['steps_done']} steps"
        case "changed":
            return f"{values['setting']} is {values['now']} from here on; it was {values['before']}"
        case "damaged":
            return f"warning: {values['name']} is damaged and put aside: {values['problem']}"
        case "not_kept":
            phases = ", ".join(values["phases"])
            what = "nothing is kept of the frozen layers, which run in every epoch"
            return f"warning: {phases}: {what}: {values['problem']}"
        case "early_end":
            return f"phase {values['phase']} ends early, at step {values['step']}"
        case _:
            return None


class _TimeLeft:
    """Predicts the time left from the pace so far; phases weigh by what their steps compute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.plan: RunPlan | None = None
        self._started: float | None = None
        self._work_at_start = 0.0
        self._work_done = 0.0

    def phase_begins(self, values: dict[str, Any]) -> None:
        done = self._work(values["index"], values["step"])
        if self._started is None:
            self._started, self._work_at_start = self._clock(), done
        self._work_done = done

    def step_done(self, values: dict[str, Any]) -> None:
        self._work_done = self._work(values["phase_index"], values["step"])

    def text(self) -> str:
        if self._started is None or self._work_done <= self._work_at_start or not self.plan:
            return "?"
        whole = self._work(len(self.plan.phases), 0)
        elapsed = self._clock() - self._started
        pace = elapsed / (self._work_done - self._work_at_start)
        seconds = int(pace * (whole - self._work_done))
        return f"{seconds // 60}:{seconds % 60:02d}"

    def _work(self, phase_index: int, step: int) -> float:
        """Return the work done before `step` of a phase, in units of its own."""
        assert self.plan is not None
        before = self.plan.phases[:phase_index]
        work = sum(phase.num_steps * self._cost(phase) for phase in before)
        if step:
            work += step * self._cost(self.plan.phases[phase_index])
        return work

    def _cost(self, phase: PhasePlan) -> float:
        """Return multiply-adds of a row: one pass forward, two back to the lowest trained group.

        Layers whose work is kept do not run.
        """
        assert self.plan is not None
        model = self.plan.model
        groups = [(group.name, group.flops_per_row) for group in model.groups]
        groups += [(f"heads.{head.name}", head.flops_per_row) for head in model.heads]
        trained = [phase.ledger.trains(name) for name, _ in groups]
        lowest = trained.index(True) if True in trained else len(groups)
        kept = phase.prefix.cut if phase.prefix and phase.prefix.keeps else 0
        forward = sum(flops for _, flops in groups[kept:])
        backward = 2 * sum(flops for _, flops in groups[lowest:])
        return (forward + backward) * (phase.image_size / model.image_size) ** 2
