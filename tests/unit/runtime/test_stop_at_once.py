"""A signal takes the main thread out of its wait, once, and only while it predicts."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from rayft.runtime.stop_at_once import StoppedBySignal, stopping_on_signals

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_ends_the_wait(number: int) -> None:
    before = [signal.getsignal(each) for each in BOTH]
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    started = time.monotonic()

    with pytest.raises(StoppedBySignal) as caught, stopping_on_signals():
        threading.Event().wait(20)

    assert caught.value.signal == number
    assert time.monotonic() - started < 10
    assert [signal.getsignal(each) for each in BOTH] == before


def test_a_signal_that_was_eaten_is_found_by_the_next_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Eats:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    eaten: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", eaten.append)

    with stopping_on_signals() as check:
        check()
        Eats()
        with pytest.raises(StoppedBySignal):
            check()

    assert len(eaten) == 1


def test_a_second_signal_ends_the_process_at_once() -> None:
    program = """
import os, signal
from rayft.runtime.stop_at_once import StoppedBySignal, stopping_on_signals
with stopping_on_signals():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except StoppedBySignal:
        os.kill(os.getpid(), signal.SIGTERM)
print("not reached")
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert found.returncode == 128 + signal.SIGTERM
    assert found.stdout == b""


def test_other_threads_are_left_alone() -> None:
    before = [signal.getsignal(each) for each in BOTH]
    seen = []

    def look() -> None:
        with stopping_on_signals() as check:
            seen.append([signal.getsignal(each) for each in BOTH])
            check()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()

    assert seen == [before]
