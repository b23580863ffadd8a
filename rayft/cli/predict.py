"""`rayft predict`: options, progress and the result for people."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from rich.console import Console

from rayft.cli.command import Output
from rayft.cli.live_line import LiveLine
from rayft.errors import Problem, SpecError
from rayft.runtime.predict import predict
from rayft.runtime.predict_job import PredictOptions


def column_names(text: str) -> tuple[str, ...] | Literal["all"]:
    """Return the columns that `--columns` names, with commas between them, or `all`."""
    return "all" if text == "all" else tuple(name for name in text.split(",") if name)


def number_or_auto(option: str, text: str) -> int | Literal["auto"]:
    """Return what an option means that takes a whole number or `auto`.

    Raises:
        SpecError: it is neither.
    """
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        what = f"expected a whole number or auto, found {text!r}"
        raise SpecError(Problem(option, what, "give one, or leave it out")) from None


def predict_images(
    checkpoint: str, inputs: Sequence[str], output: str, options: PredictOptions, out: Output
) -> None:
    """Predict and print what came out."""
    with PredictProgress(out.console) as progress:
        found = predict(checkpoint, inputs, output, options=options, listener=progress)
    print_predicted(found, out)
    out.result(found)


def print_predicted(found: Mapping[str, Any], out: Output) -> None:
    """Print where the predictions are, and what could not be read."""
    if "rows_per_s" in found:
        out.say(f"{found['rows_predicted']:,} rows predicted, {found['rows_per_s']:,.0f} rows/s")
    noun = "part" if found["parts"] == 1 else "parts"
    out.say(f"{found['status']}: {found['rows']:,} rows in {found['parts']:,} {noun}")
    if found["errors"]:
        out.say(
            f"warning: {found['errors']:,} of {found['rows']:,} images cannot be read; their label "
            "is empty, and the column error says why"
        )
        for example in found["examples"]:
            out.say(f"  {example}")
    out.say(f"next: pandas.read_parquet({str(found['output'])!r})")


class PredictProgress(LiveLine):
    """Shows how far predicting is."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, clock=clock)
        self._began_at = clock()
        self._began_with: int | None = None

    def on_rows(self, done: int, total: int) -> None:
        """Rows are predicted, by this call or before."""
        if self._began_with is None:
            # The pace counts from the first rows on: what comes before is the start-up.
            self._began_with, self._began_at = done, self.clock()
        pace = ""
        if done > self._began_with:
            rows_per_s = (done - self._began_with) / max(1e-9, self.clock() - self._began_at)
            left = int((total - done) / rows_per_s)
            pace = f"  {rows_per_s:,.0f} rows/s  left {left // 60}:{left % 60:02d}"
        self.show(f"predicted {done:,} of {total:,} rows{pace}", always=done == total)
