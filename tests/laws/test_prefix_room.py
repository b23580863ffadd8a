"""Law 6 where not all that a run wants kept can be kept: each phase goes on by itself."""

import shutil
from pathlib import Path

import pytest

from rayft.data.prepare import PreparedDataset
from rayft.errors import CacheError
from rayft.storage.location import Location
from rayft.store.activation_use import in_use
from tests.laws.harness import keep, make_test_plan
from tests.laws.test_prefix import Heard, run, same, spec_of
from tests.unit.store.building import SHAPE, build

ROW_BYTES = 4 * SHAPE[0] * SHAPE[1]


def test_a_phase_whose_store_finds_no_room_goes_on_without(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    probe, top = (phase.prefix for phase in make_test_plan(spec_of(), prepared).phases)
    assert probe is not None
    assert top is not None
    assert probe.bytes < top.bytes / 2
    others = 10**6 - probe.bytes - top.bytes // 2
    spec = spec_of(cache={"mode": "auto", "budget": "1 MB"})
    heard = Heard()

    with in_use(Location(str(tmp_path / "stores")), "abc") as use:
        build(use, num_rows=others // ROW_BYTES)
        with keep(spec, prepared, tmp_path, listener=heard) as kept:
            assert set(kept.phases) == {0}
            cached = run(spec, prepared, tmp_path / "cached", kept=kept)
        required = spec_of(cache={"mode": "require", "budget": "1 MB"})
        with pytest.raises(CacheError), keep(required, prepared, tmp_path):
            pass

    (event,) = heard.events
    assert (event["kind"], event["phases"]) == ("not_kept", ["top"])
    assert "GB too large for the budget" in str(event["problem"])
    same(cached, run(spec, prepared, tmp_path / "made"))


def test_what_was_finished_before_the_disk_failed_is_kept(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    class Fails(Heard):
        """Takes the folder away in which the next store is built."""

        def on_rows(self, done: int, total: int) -> None:
            for folder in (tmp_path / "stores/activations").glob(".*.part"):
                shutil.rmtree(folder)
                folder.touch()

    heard = Fails()

    with keep(spec_of(cache={"mode": "auto"}), prepared, tmp_path, listener=heard) as kept:
        assert len(kept.phases) == 1
        assert kept.rows_made > 0

    (event,) = heard.events
    assert event["phases"] == [["top"], ["probe"]][min(kept.phases)]
    assert "activations cannot be kept here" in str(event["problem"])
