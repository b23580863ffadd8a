"""A sweep for people: its trials as a table, what ended early and why, and the best one."""

from collections import defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from rayft.cli.table import print_columns
from rayft.runtime.sweep_table import SweepTable, TrialRow
from rayft.runtime.sweep_words import LEFT_OUT, ValueWords, short_names, words_for

_MOST_TRIALS = 60
_LEFT_HEAD, _RIGHT_HEAD = ("rank", "trial"), ("phase", "epoch", "seconds", "status")


def print_sweep(table: SweepTable, console: Console) -> None:
    """Print the trials, the best first, with the values of the settings that are varied."""
    head = table.head
    names = short_names(head.settings)
    words = {path: _words(table, path) for path in head.settings}
    shown = table.ranked()[:_MOST_TRIALS]
    titles = (*_LEFT_HEAD, *names.values(), head.metric, *_RIGHT_HEAD)
    rows = [_cells(rank, row, words) for rank, row in shown]
    print_columns([titles, *rows], console, right=range(len(titles) - 1))
    if len(table.rows) > len(shown):
        _say(f"and {len(table.rows) - len(shown)} more trials (--json lists all)", console)
    if short := [f"{name} is {path}" for path, name in names.items() if name != path]:
        _say(", ".join(short), console)
    for path, value in words.items():
        for number, text in value.legend().items():
            _say(f"{names[path]} {number}: {text}", console)
    for line in (*_reasons(table.rows), _counts(table), *_best(table)):
        _say(line, console)


def _words(table: SweepTable, path: str) -> ValueWords:
    """Number long values by trial, so that a number means the same however trials rank."""
    rows = sorted(table.rows, key=lambda row: row.trial)
    return words_for(row.values[path] for row in rows if path in row.values)


def _cells(rank: int | None, row: TrialRow, words: dict[str, ValueWords]) -> tuple[str, ...]:
    values = [
        word.word(row.values[path]) if path in row.values else LEFT_OUT
        for path, word in words.items()
    ]
    return (
        "" if rank is None else str(rank),
        str(row.trial),
        *values,
        "" if row.value is None else f"{row.value:.4f}",
        "" if row.phase is None else str(row.phase),
        "" if row.epoch is None else str(row.epoch),
        f"{row.seconds:,.1f}" if row.seconds else "",
        row.status,
    )


def _reasons(rows: Sequence[TrialRow]) -> list[str]:
    """Return each reason once, with the trials that it ended."""
    trials: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.trial):
        if row.reason:
            trials[row.status, row.reason].append(row.trial)
    return [
        f"{status}: {'trial' if len(numbers) == 1 else 'trials'} "
        f"{', '.join(map(str, numbers))}: {reason}"
        for (status, reason), numbers in trials.items()
    ]


def _counts(table: SweepTable) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in table.counts().items())
    number = len(table.rows)
    return f"{number:,} {'trial' if number == 1 else 'trials'}: {counts}"


def _best(table: SweepTable) -> list[str]:
    best = table.best
    if best is None:
        return ["no trial has finished yet, so that none is the best"]
    found = f"best: trial {best.trial}, {table.head.metric} {best.value:.4f}"
    return [found, *([f"checkpoint: {best.checkpoint}"] if best.checkpoint else [])]


def _say(line: str, console: Console) -> None:
    # Values and reasons are text, whatever brackets they hold.
    console.print(Text(line), soft_wrap=True)
