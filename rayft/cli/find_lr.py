"""`rayft find-lr`: run a range test, show its losses, name the setting to paste."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rayft.cli.command import Output
from rayft.cli.live_line import LiveLine
from rayft.cli.lr_chart import draw_chart
from rayft.cli.output_file import check_output_file
from rayft.errors import Problem, SpecError, TrainingError
from rayft.plan.lr_range import LossCurve
from rayft.runtime.find_lr import FoundRate, find_lr
from rayft.spec.load import load_spec

_MOST_LINES = 20


def find_rate(  # noqa: PLR0913, PLR0917  each is an option
    path: Path,
    overrides: Sequence[str],
    phase: str | None,
    steps: int,
    checkpoint: str | None,
    picture: Path | None,
    out: Output,
) -> None:
    """Find a learning rate for one phase and say how to set it.

    Raises:
        RequestError: the request cannot be honoured.
        TrainingError: no rate can be suggested.
    """
    _check_picture(picture)
    out.loaded = load_spec(path, overrides)
    with LiveLine(out.console) as line:
        found = find_lr(
            out.loaded.spec,
            phase=phase,
            num_steps=steps,
            checkpoint=checkpoint,
            on_stage=line.on_stage,
            on_rows=lambda done, total: line.show(
                f"preparing rows: {done:,} of {total:,}", always=done == total
            ),
            on_step=lambda done, total: line.show(f"step {done} of {total}", always=False),
        )
    for text in curve_lines(found):
        out.say(text)
    if picture is not None:
        draw_chart(found, picture)
        out.say(f"picture: {picture}")
    _conclude(found, out, path, overrides)


def _check_picture(picture: Path | None) -> None:
    if picture is None:
        return
    if picture.suffix.lower() != ".png":
        what = f"expected a file that ends in .png, got {picture.name}"
        raise SpecError(Problem("--output", what, f"write {picture.with_suffix('.png').name}"))
    check_output_file(picture, option="--output", such_as="rates.png")


def _conclude(found: FoundRate, out: Output, path: Path, overrides: Sequence[str]) -> None:
    if found.suggestion is None or found.setting is None:
        raise TrainingError(
            Problem(
                f"phase {found.phase}",
                "no rate can be suggested: the loss did not clearly fall at any rate",
                "look at the losses above; use more --steps, a larger global_batch_size, or a "
                "checkpoint that is not yet trained to the end",
            )
        )
    at = found.suggestion
    out.say(
        f"the loss falls most steeply at {at.steepest:.2g} and is lowest at {at.lowest:.2g}; "
        "suggested is the steepest, but at most a tenth of the lowest:"
    )
    out.say(f"  {found.setting}")
    replaced = found.setting.partition("=")[0]
    kept = [override for override in overrides if not override.startswith(replaced)]
    out.next("rayft", "plan", path, *kept, found.setting)
    out.result(
        {
            "status": "found",
            "phase": found.phase,
            "start": found.start,
            "device": found.device,
            "suggestion": asdict(at),
            "setting": found.setting,
            "exploded": found.curve.exploded,
            "rates": list(found.curve.rates),
            "losses": list(found.curve.losses),
        }
    )


def curve_lines(found: FoundRate) -> list[str]:
    """Return the range test as lines of text: what it began with, and its smoothed losses."""
    curve = found.curve
    end = "then it exploded" if curve.exploded else "it did not explode"
    return [
        f"phase {found.phase} on {found.device}, from {found.start}",
        f"{len(curve.losses)} steps, rate of the fastest group {curve.rates[0]:.2g} to "
        f"{curve.rates[-1]:.2g}; loss, smoothed ({end}):",
        *_loss_lines(curve),
    ]


def _loss_lines(curve: LossCurve) -> list[str]:
    smoothed = curve.smoothed
    stride = max(1, -(-len(smoothed) // _MOST_LINES))
    return [f"  {curve.rates[i]:>8.2g}  {smoothed[i]:.4f}" for i in range(0, len(smoothed), stride)]
