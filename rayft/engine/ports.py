"""What the engine needs from outside: other ranks, a reader of events, a place for checkpoints.

The loop is handed these and knows no more. In the calling process they are trivial; under Ray
Train they are torch.distributed, the run's journal and its folder.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


class Ranks(Protocol):
    """The processes that share a step."""

    rank: int
    world_size: int

    def gather(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the rows of every rank, in the order of ranks; lengths may differ."""
        ...

    def broadcast_text(self, text: str) -> str:
        """Return rank 0's text on every rank."""
        ...


class Events(Protocol):
    """Takes what happens, on rank 0 only, for people and for the journal."""

    def emit(self, kind: str, values: Mapping[str, Json]) -> None:
        """Take one event."""
        ...

    def stop_requested(self) -> bool:
        """Return whether someone asked the run to save and stop."""
        ...


class OneRank:
    """The only process there is."""

    rank = 0
    world_size = 1

    def gather(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the rows as they are."""
        return array

    def broadcast_text(self, text: str) -> str:
        """Return the text as it is."""
        return text
