"""One holder at a time, whatever happens to it."""

import logging
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from rayft.storage import client, lease
from rayft.storage.location import Location, StorageFault
from rayft.storage.lock import locked
from tests.unit.storage.proxy import Deed, Proxy, proxy_before_s3


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 0.3)
    monkeypatch.setattr(lease, "EXPIRES_S", 3.0)
    monkeypatch.setattr(lease, "LOOK_S", 0.05)


@pytest.fixture
def on_s3(bucket: Location) -> Location:
    """A lock in the bucket."""
    return bucket / f"locks/{uuid4().hex}.lock"


@pytest.fixture
def proxy(bucket: Location) -> Iterator[Proxy]:
    with proxy_before_s3() as found:
        yield found


def _until(condition: object, *, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


class TestHolding:
    def test_a_held_lock_keeps_others_out_and_names_its_holder(self, place: Location) -> None:
        lock = place / "locks/run.lock"

        with locked(lock, holder="process 7 on there", wait=False) as held:
            held.check()
            with (
                pytest.raises(BlockingIOError) as caught,
                locked(lock, holder="me", wait=False),
            ):
                pass

        assert caught.value.strerror == "process 7 on there"

    def test_a_released_lock_is_there_at_once(self, place: Location) -> None:
        lock = place / "run.lock"
        begun = time.monotonic()

        for number in range(3):
            with locked(lock, holder=str(number), wait=False):
                pass

        assert time.monotonic() - begun < lease.EXPIRES_S

    def test_a_failure_inside_releases_it(self, place: Location) -> None:
        lock = place / "run.lock"

        with pytest.raises(RuntimeError, match="inside"), locked(lock, holder="1", wait=False):
            raise RuntimeError("inside")

        with locked(lock, holder="2", wait=False) as held:
            held.check()

    def test_a_refusal_inside_is_passed_on_as_it_is(self, place: Location) -> None:
        with (
            pytest.raises(BlockingIOError, match="another thing"),
            locked(place / "run.lock", holder="1", wait=False),
        ):
            raise BlockingIOError(11, "another thing")

    def test_who_waits_gets_it_when_it_is_released(self, place: Location) -> None:
        lock, order = place / "run.lock", []

        def wait() -> None:
            with locked(lock, holder="second", wait=True):
                order.append("second")

        second = threading.Thread(target=wait)
        with locked(lock, holder="first", wait=False):
            second.start()
            time.sleep(0.5)
            order.append("first")
        second.join(timeout=20)

        assert order == ["first", "second"]

    def test_of_many_at_once_one_holds(self, place: Location) -> None:
        lock, inside, most = place / "run.lock", [], []
        ready = threading.Barrier(5)

        def enter(number: int) -> None:
            ready.wait()
            with locked(lock, holder=str(number), wait=True) as held:
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.1)
                held.check()
                inside.remove(number)

        with ThreadPoolExecutor(5) as threads:
            list(threads.map(enter, range(5)))

        assert most == [1] * 5


def _count_up(lock: Location, count: Location, times: int) -> None:
    lease.RENEW_S, lease.EXPIRES_S, lease.LOOK_S = 0.3, 10.0, 0.02
    for _ in range(times):
        with locked(lock, holder=f"process {os.getpid()}", wait=True):
            count.write_bytes(b"%d" % (int(count.read_bytes()) + 1))


class TestProcesses:
    def test_processes_hold_it_in_turn(self, place: Location) -> None:
        lock, count = place / "run.lock", place / "count"
        count.write_bytes(b"0")
        context = multiprocessing.get_context("spawn")

        processes = [context.Process(target=_count_up, args=(lock, count, 5)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()

        assert [process.exitcode for process in processes] == [0, 0]
        assert count.read_bytes() == b"10"

    @pytest.mark.parametrize("wait", [True, False])
    def test_a_killed_holder_is_succeeded(self, place: Location, wait: bool) -> None:
        lock = place / "run.lock"
        holder = _start_holder(lock)
        try:
            with pytest.raises(BlockingIOError), locked(lock, holder="2", wait=False):
                pass
        finally:
            holder.kill()
            holder.wait()
        killed = time.monotonic()

        with locked(lock, holder="2", wait=wait) as held:
            took = time.monotonic() - killed
            held.check()
            (place / "proof").write_bytes(b"1")

        assert took < lease.EXPIRES_S + 5
        assert place.is_local or took > lease.EXPIRES_S - lease.RENEW_S - 1

    def test_only_one_succeeds_a_killed_holder(self, on_s3: Location) -> None:
        holder = _start_holder(on_s3)
        holder.kill()
        holder.wait()
        inside: list[int] = []

        def enter(number: int) -> None:
            with locked(on_s3, holder=str(number), wait=True):
                inside.append(number)
                assert inside == [number]
                time.sleep(0.2)
                inside.remove(number)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(enter, range(4)))

    def test_a_holder_that_was_stopped_for_too_long_learns_it(self, on_s3: Location) -> None:
        # A stopped process cannot renew; when it goes on, another holds its lease.
        holder = _start_holder(on_s3, and_then="lock.check()")
        try:
            os.kill(holder.pid, 19)
            with locked(on_s3, holder="successor", wait=True) as held:
                os.kill(holder.pid, 18)
                assert holder.stdin is not None
                holder.stdin.write("go on\n")
                holder.stdin.close()
                assert holder.stderr is not None
                assert "StorageFault" in holder.stderr.read()
                held.check()
        finally:
            holder.kill()
            holder.wait()


def _start_holder(lock: Location, *, and_then: str = "") -> "subprocess.Popen[str]":
    """Start a process that holds a lock until it is told to go on."""
    code = f"""
        import sys
        from rayft.storage import lease
        from rayft.storage.location import Location
        from rayft.storage.lock import locked
        lease.RENEW_S, lease.EXPIRES_S = {lease.RENEW_S}, {lease.EXPIRES_S}
        with locked(Location({lock.url!r}), holder="the child", wait=True) as lock:
            print("held", flush=True)
            sys.stdin.readline()
            {and_then}
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


class TestLeases:
    def test_it_is_renewed_while_it_is_held(self, on_s3: Location) -> None:
        with locked(on_s3, holder="1", wait=False) as held:
            versions = set()
            end = time.monotonic() + 1.5 * lease.EXPIRES_S
            while time.monotonic() < end:
                versions.add(on_s3.read_versioned()[1])
                held.check()
                time.sleep(0.1)

        assert len(versions) > 5

    def test_a_short_fault_does_not_lose_it(
        self, on_s3: Location, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "RETRY_S", 0.5)
        with locked(on_s3, holder="1", wait=False) as held:
            version = on_s3.read_versioned()[1]
            proxy.deed = lambda method, path: "refuse"
            end = time.monotonic() + lease.EXPIRES_S / 2
            while time.monotonic() < end:
                held.check()
                time.sleep(0.05)
            proxy.deed = lambda method, path: "pass"

            _until(lambda: on_s3.read_versioned()[1] != version)
            held.check()

    def test_a_renewal_whose_answer_was_lost_is_no_loss(
        self, on_s3: Location, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "RETRY_S", 0.0)

        def decide(method: str, path: str) -> Deed:
            return "lose" if method == "PUT" else "pass"

        with locked(on_s3, holder="1", wait=False) as held:
            version = on_s3.read_versioned()[1]
            proxy.deed = decide
            _until(lambda: on_s3.read_versioned()[1] != version)
            proxy.deed = lambda method, path: "pass"
            version = on_s3.read_versioned()[1]

            _until(lambda: on_s3.read_versioned()[1] != version)
            held.check()

    def test_a_long_fault_is_told_in_time(
        self, on_s3: Location, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "RETRY_S", 0.2)
        with locked(on_s3, holder="1", wait=False) as held:
            cut_off = time.monotonic()
            proxy.deed = lambda method, path: "refuse"

            with pytest.raises(StorageFault, match=r"not renewed for \d+ s: .*cannot be reached"):
                _until(held.check)  # type: ignore[func-returns-value]

            assert time.monotonic() - cut_off < lease.EXPIRES_S + 1
            proxy.deed = lambda method, path: "pass"

    def test_a_lease_that_was_taken_is_lost_and_not_given_back(self, on_s3: Location) -> None:
        with locked(on_s3, holder="1", wait=False) as held:
            on_s3.write_bytes(b'{"holder": "2", "token": "x", "count": 0, "expires_s": 60}')
            with pytest.raises(StorageFault, match="lost to another process"):
                _until(held.check)  # type: ignore[func-returns-value]

        assert b'"holder": "2"' in on_s3.read_bytes()

    def test_a_lease_that_was_deleted_is_lost(self, on_s3: Location) -> None:
        with locked(on_s3, holder="1", wait=False) as held:
            on_s3.delete()
            with pytest.raises(StorageFault, match="lost to another process"):
                _until(held.check)  # type: ignore[func-returns-value]

        assert not on_s3.exists()

    def test_a_lease_that_cannot_be_released_is_only_told(
        self,
        on_s3: Location,
        proxy: Proxy,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(client, "RETRY_S", 0.2)

        with caplog.at_level(logging.WARNING), locked(on_s3, holder="1", wait=False):
            proxy.deed = lambda method, path: "refuse"

        assert "could not be released" in caplog.text
        proxy.deed = lambda method, path: "pass"
        with locked(on_s3, holder="2", wait=True) as held:
            held.check()

    def test_what_a_lease_says_of_its_length_counts(self, on_s3: Location) -> None:
        on_s3.write_bytes(b'{"holder": "1", "token": "x", "count": 0, "expires_s": 0.5}')
        begun = time.monotonic()

        with locked(on_s3, holder="2", wait=True):
            assert time.monotonic() - begun < lease.EXPIRES_S

    def test_a_clock_that_is_wrong_does_no_harm(
        self, on_s3: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(time, "time", lambda: 10.0**10)

        with (
            locked(on_s3, holder="1", wait=False) as held,
            pytest.raises(BlockingIOError),
            locked(on_s3, holder="2", wait=False),
        ):
            held.check()

    @pytest.mark.parametrize("content", [b"", b"no json", b"[]", b'{"holder": 1}'])
    def test_what_is_no_lease_is_taken_for_one_without_a_name(
        self, on_s3: Location, content: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lease, "EXPIRES_S", 0.5)
        on_s3.write_bytes(content)
        begun = time.monotonic()

        with locked(on_s3, holder="1", wait=False):
            assert time.monotonic() - begun > lease.EXPIRES_S

    def test_a_waiting_process_says_for_whom_it_waits(
        self, on_s3: Location, caplog: pytest.LogCaptureFixture
    ) -> None:
        with (
            caplog.at_level(logging.INFO, logger="rayft"),
            locked(on_s3, holder="first", wait=False),
            pytest.raises(BlockingIOError),
            locked(on_s3, holder="second", wait=False),
        ):
            pass

        assert f"{on_s3} is held by first" in caplog.text


def test_a_local_lock_file_names_its_holder(tmp_path: Path) -> None:
    lock = Location(str(tmp_path / "locks" / "run.lock"))

    with locked(lock, holder="é", wait=True):
        assert lock.read_bytes().decode() == "é"
