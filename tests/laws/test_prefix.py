"""Law 6: what frozen layers make may be kept, or made in every epoch: no bit depends on it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayft.data.prepare import PreparedDataset
from rayft.errors import CacheError
from rayft.feed.kept import KeptRef
from rayft.runtime.journal import Event
from rayft.runtime.train import Silence
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.store.activation_build import Build
from rayft.store.activations import ActivationStore
from tests.laws.harness import Result, keep, make_spec, make_test_plan, run_group

WRITTEN: dict[str, Any] = make_spec().model_dump(mode="json", by_alias=True)
HEADS = {"name": "probe", "train": ["heads"], "for": "4 epochs", "lr": 0.01}
TOP = {"name": "top", "train": ["heads", "last 2"], "for": "4 epochs", "lr": 0.002}
FLIPS = [{"kind": "horizontal_flip"}, {"kind": "random_crop", "padding": 3}]


def spec_of(**changes: Any) -> RunSpec:
    """Return a spec whose phases freeze layers, and keep what these make wherever they can."""
    changes = {"augment": [], "phases": [HEADS, TOP], "cache": {"mode": "require"}, **changes}
    return make_spec(**changes)


def run(spec: RunSpec, prepared: PreparedDataset, folder: Path, **options: Any) -> Result:
    result = run_group(spec, prepared, folder, **options)
    assert result is not None
    assert not result.error
    return result


def losses(result: Result) -> list[tuple[int, float]]:
    return [(e["steps_done"], e["loss"]) for e in result.events if e["kind"] == "progress"]


def same(one: Result, other: Result) -> None:
    assert losses(one) == losses(other)
    assert one.metrics == other.metrics
    assert one.digest == other.digest


@pytest.mark.parametrize(
    ("augment", "dtype"), [([], "fp32"), (FLIPS, "fp32"), ([], "bf16"), (FLIPS, "fp16")]
)
def test_kept_rows_give_the_bits_that_the_layers_give(
    prepared: PreparedDataset, tmp_path: Path, augment: list[Any], dtype: str
) -> None:
    spec = spec_of(augment=augment, cache={"mode": "require", "dtype": dtype})

    with keep(spec, prepared, tmp_path) as kept:
        assert set(kept.phases) == {0, 1}
        cached = run(spec, prepared, tmp_path / "cached", kept=kept)

    same(cached, run(spec, prepared, tmp_path / "made"))


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_exact_runs_agree_on_any_number_of_workers(
    prepared: PreparedDataset, tmp_path: Path, num_workers: int
) -> None:
    # With few rows at once the gates of squeeze-and-excitation depend on a row's place (ADR 0023).
    backbone = {"kind": "timm", "name": "test_resnet", "weights": "none"}
    exact = {
        "augment": FLIPS,
        "reduction": {"kind": "exact", "shards": 4},
        "model": {**WRITTEN["model"], "backbone": backbone},
    }
    scaling = {"num_workers": num_workers, "resources_per_worker": {"CPU": 1}}
    spec = spec_of(**exact, scaling=scaling)

    with keep(spec, prepared, tmp_path) as kept:
        cached = run(spec, prepared, tmp_path / "cached", kept=kept)

    assert cached.digest == run(spec_of(**exact), prepared, tmp_path / "made").digest


def test_a_run_that_is_stopped_goes_on_from_kept_rows_as_if_it_had_not(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    spec = spec_of(augment=FLIPS)
    with keep(spec, prepared, tmp_path) as kept:
        whole = run(spec, prepared, tmp_path / "whole", kept=kept)
        first = run_group(spec, prepared, tmp_path / "parts", kept=kept, stop_after=7)
        assert first is not None
        assert first.error == "stopped"
        rest = run(spec, prepared, tmp_path / "parts", kept=kept)

    assert rest.digest == whole.digest
    assert rest.metrics == whole.metrics


def test_epochs_take_the_kept_views_in_turn(prepared: PreparedDataset, tmp_path: Path) -> None:
    two = spec_of(augment=FLIPS, cache={"mode": "require", "views": 2}, phases=[HEADS])
    plan = make_test_plan(two, prepared)
    assert plan.phases[0].prefix is not None
    assert plan.phases[0].prefix.views == 2

    with keep(two, prepared, tmp_path) as kept:
        assert len(kept.phases[0]["train"]) == 2
        assert len(kept.phases[0]["validation"]) == 1
        found = run(two, prepared, tmp_path / "two", kept=kept)

    four = spec_of(augment=FLIPS, cache={"mode": "require", "views": 4}, phases=[HEADS])
    assert run(four, prepared, tmp_path / "four").digest != found.digest


def test_a_second_run_makes_no_row_again(prepared: PreparedDataset, tmp_path: Path) -> None:
    with keep(spec_of(), prepared, tmp_path) as first:
        pass

    with keep(spec_of(seed=3), prepared, tmp_path) as again:
        pass

    assert first.rows_made > 0
    assert KeptRef.from_json(first.to_json()) == first
    assert again.rows_made == 0
    assert again.phases == first.phases


def test_a_damaged_store_is_made_again(prepared: PreparedDataset, tmp_path: Path) -> None:
    with keep(spec_of(), prepared, tmp_path) as first:
        pass
    store = Path(first.phases[1]["train"][0])
    content = (store / "shard-00000.arrow").read_bytes()
    (store / "shard-00000.arrow").write_bytes(content[:-9])

    with keep(spec_of(), prepared, tmp_path) as again:
        assert (store / "shard-00000.arrow").read_bytes() == content

    assert again.phases == first.phases
    assert 0 < again.rows_made < first.rows_made


def test_a_store_whose_rows_were_all_made_before_a_kill_is_finished(
    prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(build: Build) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Build, "commit", killed)
        with pytest.raises(KeyboardInterrupt), keep(spec_of(phases=[HEADS]), prepared, tmp_path):
            pass

    with keep(spec_of(phases=[HEADS]), prepared, tmp_path) as kept:
        store = ActivationStore.open(Location(kept.phases[0]["train"][0]))

    assert kept.rows_made == 0
    assert store.num_rows > 0


class Heard(Silence):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


def test_a_run_goes_on_where_nothing_can_be_kept(prepared: PreparedDataset, tmp_path: Path) -> None:
    # A file lies where the folder of all stores is to be.
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "activations").write_bytes(b"")
    heard = Heard()
    spec = spec_of(cache={"mode": "auto"})

    with keep(spec, prepared, tmp_path, listener=heard) as kept:
        assert kept.phases == {}
    with pytest.raises(CacheError), keep(spec_of(), prepared, tmp_path):
        pass

    (event,) = heard.events
    assert event["kind"] == "not_kept"
    assert event["phases"] == ["probe", "top"]
    assert "activations cannot be kept here" in str(event["problem"])


def test_other_weights_are_kept_apart(prepared: PreparedDataset, tmp_path: Path) -> None:
    # Random weights follow from the seed.
    with keep(spec_of(), prepared, tmp_path) as first:
        pass

    with keep(spec_of(seed=4), prepared, tmp_path) as other:
        pass

    assert not set(sum(first.phases[0].values(), ())) & set(sum(other.phases[0].values(), ()))
    assert other.rows_made == first.rows_made


def test_layers_that_trained_before_are_made_again(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    spec = spec_of(phases=[TOP, {**HEADS, "name": "after"}])
    top, after = make_test_plan(spec, prepared).phases
    assert top.prefix is not None
    assert after.prefix is not None
    assert after.prefix.cut == top.prefix.cut

    with keep(spec, prepared, tmp_path) as kept:
        cached = run(spec, prepared, tmp_path / "cached", kept=kept)

    same(cached, run(spec, prepared, tmp_path / "made"))
    assert np.isfinite(losses(cached)[-1][1])


@pytest.mark.parametrize("augment_on", ["host", "device"])
@pytest.mark.parametrize("augment", [[], FLIPS])
def test_what_no_row_draws_is_as_if_it_were_not_there(
    prepared: PreparedDataset, tmp_path: Path, augment: list[Any], augment_on: str
) -> None:
    unused = {
        "augment": [*augment, {"kind": "vertical_flip", "probability": 0}],
        "mix": [{"kind": "mixup", "probability": 0}],
        "augment_on": augment_on,
    }
    spec = spec_of(**unused)

    with keep(spec, prepared, tmp_path) as kept:
        assert set(kept.phases) == {0, 1}
        cached = run(spec, prepared, tmp_path / "cached", kept=kept)

    same(cached, run(spec, prepared, tmp_path / "made"))
    same(cached, run(spec_of(augment=augment), prepared, tmp_path / "without"))


@pytest.mark.parametrize("augment", [[], FLIPS])
def test_as_many_rows_are_made_as_the_plan_says(
    prepared: PreparedDataset, tmp_path: Path, augment: list[Any]
) -> None:
    spec = spec_of(augment=augment)
    planned = [each.prefix for each in make_test_plan(spec, prepared).phases]
    rows = [each.bytes // (4 * math.prod(each.shape)) for each in planned if each]

    with keep(spec, prepared, tmp_path) as kept:
        assert kept.rows_made == sum(rows)


def test_a_run_that_goes_on_keeps_for_the_phases_to_come(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    spec = spec_of()
    with keep(spec, prepared, tmp_path) as first:
        checkpoints = tmp_path / spec.name / "checkpoints"
        stopped = run_group(spec, prepared, checkpoints, kept=first, stop_after=17)
        assert stopped is not None
        assert stopped.error == "stopped"

    # The weights come from the checkpoint, and below the cut they are those of before.
    with keep(spec, prepared, tmp_path) as again:
        assert again.phases == {1: first.phases[1]}
        assert again.rows_made == 0
