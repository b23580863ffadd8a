"""Small stores of activations for tests: rows that follow from the key and their place."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rayft.storage.location import Location
from rayft.store.activation_build import building
from rayft.store.activation_request import ActivationRequest
from rayft.store.activation_use import Use, in_use
from rayft.store.activation_work import ActivationReport, ActivationWork, finish_shard

SHAPE = (6, 2)
NUM_ROWS = 20
AMPLE = 10**9


def request_of(key: str = "abc", num_rows: int = NUM_ROWS) -> ActivationRequest:
    about = {"backbone": "torchvision/resnet18", "cut": "layer3", "view": "0"}
    return ActivationRequest(key=key, about=about, shape=SHAPE, dtype="fp32", num_rows=num_rows)


def rows_at(key: str, start: int, stop: int) -> npt.NDArray[Any]:
    values = np.arange(start, stop, dtype=np.float32)[:, None, None] + int(key[:2], 16)
    return np.broadcast_to(values, (stop - start, *SHAPE)) + np.float32(0.25)


class Making:
    """Makes shards in this process, tells which, and calls a hook before each."""

    def __init__(self, key: str = "abc", before: Callable[[int], None] = lambda _: None) -> None:
        self.key = key
        self.before = before
        self.made: list[int] = []

    def __call__(self, works: Sequence[ActivationWork]) -> Iterator[ActivationReport]:
        # Last first: reports may come in any order.
        for work in reversed(works):
            self.before(work.index)
            yield finish_shard(work, rows_at(self.key, work.start, work.stop))
            self.made.append(work.index)


@dataclass(frozen=True)
class Built:
    """What building a store came to."""

    rows_made: int
    rows_reused: int
    removed: tuple[str, ...]


def build(
    use: Use, *, making: Making | None = None, budget: int = AMPLE, num_rows: int = NUM_ROWS
) -> Built:
    run = making or Making(use.key)
    with building(use, request_of(use.key, num_rows), budget=budget) as begun:
        made = 0
        for report in run(begun.works):
            begun.take(report)
            made += report.record.rows
        begun.commit()
    return Built(rows_made=made, rows_reused=begun.rows_reused, removed=begun.removed)


def build_once(store_root: Location, key: str, *, num_rows: int = NUM_ROWS) -> Location:
    with in_use(store_root, key) as use:
        build(use, num_rows=num_rows)
        return use.place
