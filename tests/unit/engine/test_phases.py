"""Phases in the engine: refreezing, plateaus and exact resume, and the range test."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rayft.data.prepare import PreparedDataset
from rayft.engine.build import make_run
from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.find_lr import run_range_test
from rayft.engine.loop import train
from rayft.engine.ports import OneRank
from rayft.engine.run import Ports, Run
from rayft.errors import Stopped
from rayft.feed.feed import InProcessFeed
from rayft.optim.optimizer import optimizer_state
from rayft.storage.location import Location
from rayft.store.dataset import open_dataset
from tests.laws.harness import Recorder, digest_of, make_spec, make_test_plan, prepare

BOTH = ["heads", "last 2"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare(make_spec(), tmp_path_factory.mktemp("data"))


def phase(name: str, train: list[str], **changes: Any) -> dict[str, Any]:
    return {"name": name, "train": train, "for": "1 epochs", "lr": 1e-3, **changes}


def start(
    prepared: PreparedDataset, folder: Path, *phases: dict[str, Any], events: Recorder, **spec: Any
) -> Run:
    """Build a run of one process without Ray; it goes on where its folder stands."""
    plan = make_test_plan(make_spec(phases=phases, **spec), prepared)
    dataset = open_dataset(prepared.ref)
    return make_run(
        plan,
        data_fingerprint=dataset.fingerprint,
        weights=None,
        device=torch.device("cpu"),
        ports=Ports(
            feed=InProcessFeed(plan, dataset, rank=0),
            ranks=OneRank(),
            events=events,
            checkpoints=CheckpointFolder(Location(str(folder))),
        ),
    )


class Watcher(Recorder):
    """Notes the weights and the optimizer's state whenever an epoch ends."""

    run: Run

    def emit(self, kind: str, values: Any) -> None:
        super().emit(kind, values)
        if kind == "epoch":
            assert self.run.optimizer is not None
            state = optimizer_state(self.run.optimizer)
            self.events[-1]["weights"] = {
                name: value.clone() for name, value in self.run.model.state_dict().items()
            }
            self.events[-1]["moments"] = {name.partition("|")[0] for name in state}
            self.events[-1]["counts"] = {
                name.partition("|")[0]: float(value)
                for name, value in state.items()
                if name.endswith("|step")
            }


def trained_params(run: Run, index: int) -> set[str]:
    return {rule.name for rule in run.plan.phases[index].ledger.params if rule.trains}


def test_what_freezes_again_stays_as_it_is_and_loses_its_state(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    watcher = Watcher()
    phases = (phase("wide", BOTH), phase("narrow", ["heads"]), phase("again", BOTH))
    run = watcher.run = start(prepared, tmp_path, *phases, events=watcher)

    train(run)

    wide, narrow, again = (event for event in watcher.events if event["kind"] == "epoch")
    heads, both = trained_params(run, 1), trained_params(run, 0)
    assert (wide["moments"], narrow["moments"], again["moments"]) == (both, heads, both)
    frozen = wide["weights"].keys() - heads
    assert frozen > both - heads
    assert all(torch.equal(wide["weights"][n], narrow["weights"][n]) for n in frozen)
    moved = {n for n in both if not torch.equal(narrow["weights"][n], again["weights"][n])}
    assert moved == both
    # Heads went on all along; what was frozen in between began anew.
    steps = run.plan.steps_per_epoch
    assert {again["counts"][name] for name in heads} == {3.0 * steps}
    assert {again["counts"][name] for name in both - heads} == {1.0 * steps}


def test_sgd_goes_on_after_thaws_with_one_rate_for_all(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    """Weights of the same rate are stepped together, those with momentum and those without yet."""
    phases = (phase("narrow", ["heads"]), phase("wide", BOTH), phase("back", ["heads"]))
    optimizer = {"kind": "sgd", "momentum": 0.9}
    run = start(prepared, tmp_path, *phases, events=Recorder(), optimizer=optimizer)

    train(run)

    assert run.position.phase == len(phases)


def test_a_plateau_ends_its_phase_and_the_next_goes_its_own_length(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    # No change counts as improvement: the first epoch is the best, and the second one bad.
    until = {"plateau": "validation/loss", "patience": 1, "min_delta": 1e9}
    phases = (
        phase("first", ["heads"], until=until, **{"for": "5 epochs"}),
        phase("second", ["heads"], **{"for": "3 epochs"}),
    )
    events = Recorder()
    run = start(prepared, tmp_path, *phases, events=events)

    train(run)

    epochs = [e["phase"] for e in events.events if e["kind"] == "epoch"]
    assert epochs == ["first"] * 2 + ["second"] * 3
    assert [e["phase"] for e in events.events if e["kind"] == "early_end"] == ["first"]


@pytest.mark.parametrize("stop_after", [2, 5, 7, 9, 12])
def test_a_run_of_thaws_and_plateaus_resumes_exactly(
    prepared: PreparedDataset, tmp_path: Path, stop_after: int
) -> None:
    until = {"plateau": "validation/loss", "patience": 1, "min_delta": 1e9}
    thaw = phase(
        "thaw",
        ["heads", "last 2"],
        unfreeze={"every": "2 epochs"},
        until={"plateau": "validation/accuracy", "patience": 2},
        lr={"heads": 2e-3, "backbone": 1e-3, "decay": 0.5},
        **{"for": "6 epochs"},
    )
    phases = (phase("probe", ["heads"], until=until, **{"for": "4 epochs"}), thaw)
    options: dict[str, Any] = {"checkpoint": {"interval_s": 1e9}, "ema": {"decay": 0.9}}
    whole = start(prepared, tmp_path / "whole", *phases, events=Recorder(), **options)
    train(whole)

    events = Recorder(stop_after=stop_after)
    with pytest.raises(Stopped):
        train(start(prepared, tmp_path / "cut", *phases, events=events, **options))
    resumed = start(prepared, tmp_path / "cut", *phases, events=Recorder(), **options)
    assert resumed.position.steps_done > 0
    train(resumed)

    assert [p.name for p in whole.plan.phases] == ["probe", "thaw-1", "thaw-2", "thaw-3"]
    assert digest_of(resumed) == digest_of(whole)


def test_a_range_test_repeats_itself_and_keeps_frozen_what_is_frozen(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    lr = {"heads": 2e-3, "backbone": 1e-3, "decay": 0.5}
    curves, heard = [], []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = start(prepared, folder, phase("p", BOTH, lr=lr), events=Recorder())
        before = {name: value.clone() for name, value in run.model.state_dict().items()}
        curve = run_range_test(
            run, run.plan.phases[0], num_steps=60, on_step=lambda *steps: heard.append(steps)
        )
        curves.append(curve)
        after = run.model.state_dict()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == trained_params(run, 0)
        assert not list(folder.iterdir())

    first, second = curves
    assert first == second
    assert first.rates[0] == pytest.approx(1e-7)
    assert list(first.rates) == sorted(first.rates)
    assert len(first.rates) == len(first.losses) <= 60
    assert first.exploded == (len(first.losses) < 60)
    # At rates near 0 nothing is learnt: the first loss is that of the start.
    assert heard[0] == (1, 60)


def test_a_range_test_ends_when_the_loss_explodes(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    optimizer = {"kind": "sgd", "momentum": 0.9}
    events = Recorder()
    run = start(
        prepared,
        tmp_path,
        phase("p", ["all"]),
        events=events,
        optimizer=optimizer,
        gradient_clip=None,
    )

    curve = run_range_test(run, run.plan.phases[0], num_steps=60, on_step=lambda *_: None)

    assert curve.exploded
    assert len(curve.losses) < 60
    assert curve.rates[-1] < 10
