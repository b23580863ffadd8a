import threading
from collections.abc import Iterator

import pytest

from rayft.feed.prefetch import Prefetch, ahead


def test_items_come_in_order_and_all() -> None:
    with Prefetch(range(100), depth=3) as items:
        assert list(items) == list(range(100))


def test_an_error_is_raised_at_its_place() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("row 2 is broken")

    with Prefetch(source()) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="row 2 is broken"):
            next(items)


def test_leaving_early_ends_the_thread() -> None:
    before = threading.active_count()

    with Prefetch(iter(int, 1), depth=2) as items:
        next(items)

    assert threading.active_count() == before


def test_no_more_than_the_depth_is_made_ahead() -> None:
    made: list[int] = []
    far_enough = threading.Event()

    def source() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 3:
                far_enough.set()
            yield number

    with Prefetch(source(), depth=2) as items:
        next(items)
        assert far_enough.wait(5)
        assert len(made) <= 4


@pytest.mark.parametrize(("device", "beside"), [("cpu", False), ("cuda", True), ("mps", True)])
def test_what_another_device_reads_is_made_in_a_thread_beside(device: str, beside: bool) -> None:
    def source() -> Iterator[int]:
        for _ in range(3):
            yield threading.get_ident()

    with ahead(source(), device=device) as items:
        makers = set(items)

    assert makers != {threading.get_ident()} if beside else makers == {threading.get_ident()}
