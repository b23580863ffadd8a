"""Live progress of a sweep: a line for each trial that ends, and one that moves for the rest."""

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console

from rayft.cli.live_line import LiveLine
from rayft.cli.show_sweep_plan import print_sweep_plan
from rayft.metrics import check_metric
from rayft.runtime.journal import Event
from rayft.runtime.sweep_plan import SweepPlan


class SweepProgress(LiveLine):
    """Hears what a sweep does and shows it."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, clock=clock)
        self._began = time.time()
        self._stage = "preparing rows"
        self._metric = ""
        self._sign = 1.0
        self._trials: set[int] = set()
        self._over: set[int] = set()
        self._epochs = 0
        self._best: tuple[float, int] | None = None
        self._works: dict[str, str] = {}

    def on_stage(self, text: str) -> None:
        """Something that takes a while begins."""
        self._stage = text
        super().on_stage(text)

    def on_rows(self, done: int, total: int) -> None:
        """Rows were prepared."""
        self.show(f"{self._stage}: {done:,} of {total:,}", always=done == total)

    def on_sweep(self, plan: SweepPlan) -> None:
        """The plan is made; trials begin."""
        self._metric = plan.sweep.metric
        self._sign = 1.0 if check_metric(self._metric, setting="metric") == "max" else -1.0
        print_sweep_plan(plan, self.console)

    def on_event(self, event: Event) -> None:
        """The board wrote an event."""
        values: dict[str, Any] = dict(event)
        match event["kind"]:
            case "asked":
                self._trials |= {point["trial"] for point in values["points"]}
                self._over |= set(map(int, values["problems"]))
            case "reported":
                self._take(values["reports"])
                self.show(self._line(), always=False)
            case "handed":
                self._works[values["unit"]] = values["work"]
            case "ended":
                # What an earlier command came to is counted, and not told again.
                is_news = values.get("time", self._began) >= self._began
                self._end_unit(values["unit"], values["endings"], is_news=is_news)
            case _:
                pass

    def _take(self, reports: list[dict[str, Any]]) -> None:
        self._epochs += len(reports)
        for report in reports:
            self._compare(report["trial"], report["metrics"])

    def _compare(self, trial: int, metrics: dict[str, float]) -> None:
        value = metrics.get(self._metric)
        if value is None:
            return
        if self._best is None or self._sign * (value - self._best[0]) > 0:
            self._best = (value, trial)

    def _end_unit(self, unit: str, endings: list[dict[str, Any]], *, is_news: bool) -> None:
        is_stage = self._works.get(unit) == "stage"
        failed = [
            one
            for one in endings
            if one.get("together") or (is_stage and one["status"] == "failed")
        ]
        for ending in endings:
            if ending not in failed:
                self._end(ending, is_news=is_news)
        if failed and is_news:
            trials = ", ".join(str(one["trial"]) for one in failed)
            self.print(f"{unit} failed  {failed[0]['reason']}  alone from now on: trials {trials}")

    def _end(self, ending: dict[str, Any], *, is_news: bool) -> None:
        trial = ending["trial"]
        self._over.add(trial)
        if not is_news:
            return
        value = ending["metrics"].get(self._metric)
        figure = "" if value is None else f"  {self._metric} {value:.4f}"
        reason = f"  {ending['reason']}" if ending["reason"] else ""
        self.print(
            f"trial {trial} {ending['status']}{figure}  {ending['seconds']:,.0f} s{reason}  "
            f"({len(self._over)} of {len(self._trials)} trials)"
        )

    def _line(self) -> str:
        best = f"  best {self._best[0]:.4f} (trial {self._best[1]})" if self._best else ""
        return (
            f"{len(self._over)} of {len(self._trials)} trials are over, "
            f"{self._epochs:,} epochs reported{best}"
        )
