"""What all commands share: where they print, and how they end.

Exit codes: 0 done, 1 failed, 2 the request was wrong and nothing was started, 128 + N stopped by
signal N after saving.
"""

import json
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from rayft.errors import Problem, RayftError, Stopped

if TYPE_CHECKING:
    from rich.console import Console

    from rayft.spec.load import LoadedSpec
    from rayft.spec.load_sweep import LoadedSweep

_PIPE_WIDTH = 120

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


class Output:
    """Text for people, and one JSON object for scripts."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.loaded: LoadedSpec | LoadedSweep | None = None
        """The spec in hand, so that a problem found later can name its line."""
        self._console: Console | None = None

    @property
    def console(self) -> "Console":
        """Console for people: stdout, or stderr where stdout belongs to a script."""
        if self._console is None:
            from rich.console import Console

            stream = sys.stderr if self.as_json else sys.stdout
            width = None if stream.isatty() else _PIPE_WIDTH
            self._console = Console(
                file=stream, width=width, highlight=False, soft_wrap=not stream.isatty()
            )
        return self._console

    def say(self, text: str) -> None:
        """Print a line for people."""
        typer.echo(text, err=self.as_json)

    def next(self, *words: object) -> None:
        """Name the next command, quoted so that it can be pasted."""
        self.say(f"next: {shlex.join(map(str, words))}")

    def result(self, values: Mapping[str, object]) -> None:
        """Print the result, where a script asked for it."""
        if self.as_json:
            typer.echo(json.dumps(values))


@contextmanager
def guarded(*, as_json: bool, debug: bool) -> Iterator[Output]:
    """Turn a deliberate error into its message and exit code; others keep their traceback."""
    out = Output(as_json=as_json)
    try:
        yield out
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001  told, never swallowed
        if debug:
            traceback.print_exc()
        raise typer.Exit(_tell(error, out)) from None


def _tell(error: BaseException, out: Output) -> int:
    """Say what went wrong, to people and to scripts; return the exit code."""
    stopped = isinstance(error, Stopped)
    match error:
        case RayftError():
            problems = [_located(problem, out) for problem in error.problems]
            code = error.exit_code
        case KeyboardInterrupt():
            problems = [Problem("interrupted", "nothing is half-written", "run the command again")]
            code = 130
        case _:
            what = f"{type(error).__name__}: {error}"
            fix = "this is a fault in rayft: run again with --debug and report the traceback"
            problems, code = [Problem("rayft", what, fix)], 1
    for problem in problems:
        typer.echo(str(problem) if stopped else f"error: {problem}", err=True)
    interrupted = stopped or isinstance(error, KeyboardInterrupt)
    status = "stopped" if interrupted else "refused" if code == 2 else "failed"
    out.result(
        {
            "status": status,
            "problems": [{"where": p.where, "what": p.what, "fix": p.fix} for p in problems],
        }
    )
    return code


def _located(problem: Problem, out: Output) -> Problem:
    if out.loaded is None:
        return problem
    from rayft.spec import load, load_sweep

    if isinstance(out.loaded, load_sweep.LoadedSweep):
        return load_sweep.locate(problem, out.loaded)
    return load.locate(problem, out.loaded)
