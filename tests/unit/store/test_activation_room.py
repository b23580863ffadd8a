"""Who uses a store is known, and what nobody uses makes room, oldest first."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from rayft.errors import CacheError, DataError
from rayft.storage import lease, lock
from rayft.storage.location import Location
from rayft.store import shards
from rayft.store.activation_list import list_stores
from rayft.store.activation_room import (
    budget_of,
    drop_damaged,
    list_with_users,
    make_room,
    remove_stores,
)
from rayft.store.activation_use import LAST_USE, in_use, last_use, place_of, touch, uses_of
from rayft.store.manifest import MANIFEST_NAME
from tests.unit.store.building import AMPLE, Making, build, build_once, request_of


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 0.3)
    monkeypatch.setattr(lease, "EXPIRES_S", 3.0)
    monkeypatch.setattr(lease, "LOOK_S", 0.05)
    monkeypatch.setattr(shards, "MAX_ROWS_PER_SHARD", 6)


@pytest.fixture
def root(place: Location) -> Location:
    return place / "storage/.stores"


@pytest.fixture
def here(tmp_path: Path) -> Location:
    """The folder of all stores, on this disk."""
    return Location(str(tmp_path / "storage/.stores"))


def used_at(root: Location, key: str, seconds: float) -> None:
    (uses_of(root, key) / LAST_USE).write_bytes(json.dumps({"time": seconds}).encode())


def keys(root: Location) -> list[str]:
    return [entry.key for entry in list_stores(root)]


def leave_unfinished(root: Location, key: str) -> None:
    def fail(index: int) -> None:
        if index == 2:
            raise DataError

    with in_use(root, key) as use, pytest.raises(DataError):
        build(use, making=Making(key, before=fail))


def size_of(root: Location, key: str) -> int:
    (size,) = (entry.stored_bytes for entry in list_stores(root) if entry.key == key)
    return size


class TestUse:
    def test_a_use_lasts_as_long_as_its_block_and_names_its_process(self, root: Location) -> None:
        build_once(root, "a1")

        with in_use(root, "a1"), in_use(root, "a1"):
            held = list_with_users(root)[1]["a1"]
        free = list_with_users(root)[1]["a1"]

        assert len(held) == 2
        assert held[0].startswith(f"process {os.getpid()} on ")
        assert free == []
        assert uses_of(root, "a1").children() == [LAST_USE]

    def test_the_last_use_is_noted_when_it_begins_and_when_it_ends(self, here: Location) -> None:
        with in_use(here, "a1") as use:
            begun = last_use(uses_of(here, "a1"))
            used_at(here, "a1", 5.0)
            assert last_use(uses_of(here, "a1")) == 5.0
            touch(use)
            assert last_use(uses_of(here, "a1")) >= begun > 5.0
            used_at(here, "a1", 5.0)

        assert last_use(uses_of(here, "a1")) >= begun

    def test_the_use_of_a_killed_process_ends_with_it(self, root: Location) -> None:
        build_once(root, "a1")
        code = f"""
            import os, signal
            from rayft.storage import lease, lock
            from rayft.storage.location import Location
            from rayft.store.activation_use import in_use

            lease.EXPIRES_S = 1.0
            with in_use(Location({root.url!r}), "a1"):
                os.kill(os.getpid(), signal.SIGKILL)
        """
        words = [sys.executable, "-c", textwrap.dedent(code)]
        killed = subprocess.run(words, check=False, env={**os.environ})
        assert killed.returncode == -signal.SIGKILL
        assert len(uses_of(root, "a1").children()) == 2

        assert list_with_users(root)[1] == {"a1": []}
        assert uses_of(root, "a1").children() == [LAST_USE]

    def test_a_use_that_ends_while_it_is_looked_at_is_none(
        self, here: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        build_once(here, "a1")
        real = lock.exclusive

        @contextmanager
        def ends_then(path: Path, *, wait: bool) -> Iterator[None]:
            with ExitStack() as stack:
                try:
                    stack.enter_context(real(path, wait=wait))
                except BlockingIOError:
                    path.unlink()
                    raise
                yield

        with in_use(here, "a1"):
            monkeypatch.setattr(lock, "exclusive", ends_then)
            users = list_with_users(here)[1]

        assert users == {"a1": []}

    def test_a_use_ends_with_its_error(self, here: Location) -> None:
        build_once(here, "a1")

        with pytest.raises(RuntimeError, match="inside"), in_use(here, "a1"):
            raise RuntimeError("inside")

        assert list_with_users(here)[1] == {"a1": []}

    def test_a_use_cannot_begin_in_what_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        with (
            pytest.raises(CacheError, match="cannot be kept here: Not a directory"),
            in_use(Location(str(tmp_path / "file/.stores")), "a1"),
        ):
            pass


class TestRoom:
    def test_what_was_used_longest_ago_goes_first_and_no_more_than_needed(
        self, root: Location
    ) -> None:
        for key, seconds in (("a1", 30.0), ("b2", 10.0), ("c3", 20.0)):
            build_once(root, key)
            used_at(root, key, seconds)
        size = size_of(root, "a1")

        with make_room(root, key="d4", needed_bytes=size, budget=3 * size) as room:
            assert (room.removed, room.short_by) == (("b2",), 0)

        assert keys(root) == ["a1", "c3"]
        assert not uses_of(root, "b2").children()
        assert budget_of(root) == 3 * size

    def test_what_fits_removes_nothing(self, here: Location) -> None:
        build_once(here, "a1")
        size = size_of(here, "a1")

        with make_room(here, key="b2", needed_bytes=size, budget=2 * size) as room:
            assert (room.removed, room.short_by) == ((), 0)

    def test_what_a_dead_build_left_goes_before_any_whole_store(self, root: Location) -> None:
        build_once(root, "a1")
        used_at(root, "a1", 1.0)
        leave_unfinished(root, "b2")
        size = size_of(root, "a1")

        with make_room(root, key="c3", needed_bytes=size, budget=2 * size) as room:
            assert room.removed == ("b2",)

    def test_one_in_use_stays_however_old_and_nothing_goes_in_vain(self, root: Location) -> None:
        for key, seconds in (("a1", 1.0), ("b2", 2.0)):
            build_once(root, key)
            used_at(root, key, seconds)
        size = size_of(root, "a1")

        with in_use(root, "a1"):
            used_at(root, "a1", 1.0)
            with make_room(root, key="c3", needed_bytes=size + 7, budget=2 * size) as room:
                assert (room.removed, room.short_by) == ((), 7)
            assert keys(root) == ["a1", "b2"]
            with make_room(root, key="c3", needed_bytes=size, budget=2 * size) as room:
                assert (room.removed, room.short_by) == (("b2",), 0)

    def test_more_than_the_budget_is_short_by_the_rest(self, here: Location) -> None:
        build_once(here, "a1")

        with make_room(here, key="b2", needed_bytes=1000, budget=900) as room:
            assert (room.removed, room.short_by) == ((), 100)

    def test_what_is_there_of_the_store_itself_does_not_count(self, here: Location) -> None:
        leave_unfinished(here, "a1")
        needed = request_of().expected_bytes

        with make_room(here, key="a1", needed_bytes=needed, budget=needed) as room:
            assert (room.removed, room.short_by) == ((), 0)

    def test_a_build_makes_room_for_all_that_it_will_write(self, root: Location) -> None:
        build_once(root, "a1")
        needed = request_of().expected_bytes

        with in_use(root, "b2") as use:
            assert build(use, budget=2 * needed).removed == ("a1",)
            with in_use(root, "c3") as second, pytest.raises(CacheError) as caught:
                build(second, budget=2 * needed)

        assert "too large for the budget" in caught.value.problems[0].what
        assert keys(root) == ["b2"]

    def test_builds_at_once_stay_within_the_budget(self, here: Location) -> None:
        budget = 3 * request_of().expected_bytes // 2
        started, others_done = threading.Barrier(3), threading.Event()

        def hold(index: int) -> None:
            others_done.wait(20)

        def one(key: str) -> bool:
            with in_use(here, key) as use:
                started.wait()
                try:
                    build(use, making=Making(key, before=hold), budget=budget)
                except CacheError:
                    refused.append(key)
                    if len(refused) == 2:
                        others_done.set()
                    return False
                return True

        refused: list[str] = []
        with ThreadPoolExecutor(3) as threads:
            found = sorted(threads.map(one, ["a1", "b2", "c3"]))

        assert found == [False, False, True]


class TestRemoving:
    def test_stores_in_use_are_kept_with_who_uses_them(self, root: Location) -> None:
        for key in ("a1", "b2"):
            build_once(root, key)
        leave_unfinished(root, "c3")

        with in_use(root, "b2"):
            kept = remove_stores(root, ["a1", "b2", "c3", "d4"])

        assert list(kept) == ["b2"]
        assert kept["b2"][0].startswith("process ")
        assert keys(root) == ["b2"]
        assert (root / "activations").children() == [".budget", ".uses", "b2"]
        assert (root / "activations/.uses").children() == ["b2"]

    def test_a_damaged_store_goes_while_its_only_user_is_this_one(self, here: Location) -> None:
        place = build_once(here, "a1")

        with in_use(here, "a1") as use:
            with in_use(here, "a1"), pytest.raises(CacheError, match="damaged, and used by"):
                drop_damaged(use)
            assert (place / MANIFEST_NAME).exists()
            drop_damaged(use)

        assert keys(here) == []

    def test_a_store_is_never_removed_under_who_uses_it(self, here: Location) -> None:
        build_once(here, "a1")
        stop, wrong = threading.Event(), []

        def remove() -> None:
            while not stop.is_set():
                remove_stores(here, ["a1"])

        remover = threading.Thread(target=remove)
        remover.start()
        try:
            for _ in range(20):
                with in_use(here, "a1") as use:
                    build(use, budget=AMPLE)
                    if not (use.place / MANIFEST_NAME).exists():
                        wrong.append(use)
        finally:
            stop.set()
            remover.join()
        assert not wrong


class TestList:
    def test_every_state_is_told_with_what_is_known(self, root: Location) -> None:
        for key in ("a1", "b2"):
            build_once(root, key)
        (place_of(root, "b2") / MANIFEST_NAME).write_bytes(b"{")
        leave_unfinished(root, "c3")
        used_at(root, "a1", 7.0)

        whole, damaged, unfinished = list_stores(root)

        assert (whole.key, whole.state, whole.num_rows) == ("a1", "whole", 20)
        assert (whole.shape, whole.dtype, whole.last_used) == ((6, 2), "fp32", 7.0)
        assert whole.stored_bytes == whole.expected_bytes > request_of().expected_bytes
        assert (damaged.key, damaged.state, damaged.about) == ("b2", "damaged", {})
        assert damaged.stored_bytes > 900
        assert (unfinished.key, unfinished.state) == ("c3", "unfinished")
        assert unfinished.about == whole.about
        assert unfinished.stored_bytes > 300

    def test_there_is_none_where_nothing_was_ever_kept(self, root: Location) -> None:
        assert list_stores(root) == ()
        assert list_with_users(root) == ((), {})
        assert budget_of(root) is None
        assert root.files() == []
