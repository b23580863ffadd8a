"""One line that moves on a terminal, and one line per interval elsewhere."""

import sys
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

INTERVAL_S = 10.0
"""Seconds between lines where there is no terminal."""


class LiveLine:
    """Shows how far something is; a context manager, so that the terminal is left in order."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.clock = clock
        self._printed_at = clock()
        self._live = Live(console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def on_stage(self, text: str) -> None:
        """Something that takes a while begins."""
        self.show(f"{text} ...", always=True)

    def show(self, text: str, *, always: bool) -> None:
        """Show a text in place of the last; elsewhere only now and then, or `always`."""
        if self.console.is_terminal:
            self._live.update(Text(text))
        elif always or self.clock() - self._printed_at >= INTERVAL_S:
            self.print(text)

    def print(self, text: str) -> None:
        """Print a line that stays."""
        self._printed_at = self.clock()
        self.console.print(Text(text))
        sys.stdout.flush()
