"""Several runs that keep what frozen layers make below one `storage_path`."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event

from rayft.data.prepare import PreparedDataset
from rayft.runtime.train import Silence
from rayft.storage.commit import exclusive
from rayft.store.activation_use import FOLDER
from tests.laws.harness import keep
from tests.laws.test_prefix import HEADS, spec_of


class Slow(Silence):
    """Holds a run where it has made its first rows."""

    def __init__(self) -> None:
        self.begun, self.may_go_on = Event(), Event()

    def on_rows(self, done: int, total: int) -> None:
        self.begun.set()
        assert self.may_go_on.wait(60)


def test_a_store_that_is_there_is_not_held_while_others_are_made(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    def rows_made(listener: Silence, **changes: object) -> int:
        with keep(spec_of(**changes), prepared, tmp_path, listener=listener) as kept:
            return kept.rows_made

    assert rows_made(Silence(), phases=[HEADS]) > 0
    slow = Slow()
    with ThreadPoolExecutor(2) as threads:
        both = threads.submit(rows_made, slow)
        try:
            assert slow.begun.wait(60)
            probe = threads.submit(rows_made, Silence(), phases=[HEADS])
            assert probe.result(timeout=30) == 0
        finally:
            slow.may_go_on.set()
        assert both.result(timeout=60) > 0


def test_a_run_says_that_it_waits_for_another(prepared: PreparedDataset, tmp_path: Path) -> None:
    with keep(spec_of(phases=[HEADS]), prepared, tmp_path) as kept:
        key = Path(kept.phases[0]["train"][0]).name
    stages: list[str] = []

    with ExitStack() as other:
        other.enter_context(
            exclusive(tmp_path / "stores/locks" / f"{FOLDER}-{key}.lock", wait=False)
        )

        class Hears(Silence):
            def on_stage(self, text: str) -> None:
                stages.append(text)
                other.close()

        with keep(spec_of(phases=[HEADS]), prepared, tmp_path, listener=Hears()) as again:
            assert again.phases == kept.phases

    assert stages == ["waiting for another run that makes the same"]
