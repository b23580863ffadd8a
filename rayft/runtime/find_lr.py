"""`rayft find-lr`: the learning-rate range test of one phase, in the calling process.

It prepares rows where they are missing, as `rayft prepare` does; it leaves no checkpoint, no run
folder and no trace in a run that is there.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torch

from rayft.engine.build import make_run
from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.checkpoint_reading import Checkpoint, find_checkpoint, read_checkpoint
from rayft.engine.find_lr import OnStep, run_range_test
from rayft.engine.out_of_memory import out_of_memory_told
from rayft.engine.ports import OneRank
from rayft.engine.run import Ports
from rayft.errors import CheckpointError, Problem, SpecError
from rayft.feed.feed import InProcessFeed
from rayft.models.model import FineTuneModel
from rayft.plan.lr_range import LossCurve, Suggestion, peak_rate, scaled_setting, suggest_rate
from rayft.plan.run_plan import PhasePlan, RunPlan
from rayft.runtime.allocator import keep_freed_memory
from rayft.runtime.journal import NoEvents
from rayft.runtime.preflight import (
    OnRows,
    check,
    places_of,
    plan_prepared,
    prepare_rows,
    resolve,
    unheard,
)
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.store.dataset import Dataset, open_dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRate:
    """What a range test has come to."""

    phase: str
    """Name of the phase."""
    start: str
    """Where the weights came from that it began with, in words."""
    device: str
    curve: LossCurve
    peak: float
    """Peak rate of the phase's fastest group, as the spec has it."""
    suggestion: Suggestion | None
    """None where the loss did not clearly fall at any rate."""
    setting: str | None
    """The suggestion as an override of the spec: `phases.1.lr=0.003`."""


def _unheard(text: str) -> None:
    """Take what begins and tell nobody."""


def find_lr(  # noqa: PLR0913  each is an option of the command
    spec: RunSpec,
    *,
    phase: str | None = None,
    num_steps: int = 100,
    checkpoint: str | None = None,
    on_stage: Callable[[str], None] = _unheard,
    on_rows: OnRows = unheard,
    on_step: OnStep = unheard,
) -> FoundRate:
    """Run the range test of one phase.

    Args:
        spec: the run.
        phase: name of a phase; left out: the first.
        num_steps: steps from the smallest to the largest rate, at least 20.
        checkpoint: a checkpoint of this run, or its folder, whose weights to start from; left out:
            the weights that the run starts from.
        on_stage: hears what begins.
        on_rows: hears of rows that are prepared.
        on_step: hears of every step.

    Raises:
        RequestError: the request cannot be honoured; nothing was started.
        TrainingError: the GPU's memory is too small.
    """
    on_stage("checking")
    spec = _here(spec)
    places = places_of(spec)
    before = check(spec, places)
    _choose(before, phase)
    if before.resources.device == "cpu" and spec.precision == "auto":
        # There it is measured, and may be another the next time; figures must not depend on it.
        spec = spec.model_copy(update={"precision": "fp32"})
    saved = _read(checkpoint) if checkpoint else None
    # A checkpoint is enough, but for what weights may be asked to decay to.
    needed = saved is None or spec.optimizer.decay_towards == "pretrained"
    weights = resolve(spec, places, before) if needed else None
    on_stage("preparing rows")
    prepared = prepare_rows(spec, places, use_ray=False, on_rows=on_rows)
    plan = plan_prepared(spec, places, prepared, speeds=before.speeds)
    dataset = open_dataset(prepared.ref)
    chosen = _choose(plan, phase)
    keep_freed_memory()
    # The folder stays empty: a run wants a place for checkpoints, and none is written.
    with tempfile.TemporaryDirectory(prefix="rayft-find-lr-") as nowhere:
        run = make_run(
            plan,
            data_fingerprint=dataset.fingerprint,
            weights=weights,
            device=torch.device(plan.resources.device),
            ports=Ports(
                feed=InProcessFeed(plan, dataset, rank=0),
                ranks=OneRank(),
                events=NoEvents(),
                checkpoints=CheckpointFolder(Location(nowhere)),
            ),
        )
        if saved and checkpoint:
            _load(run.model, saved, dataset, where=checkpoint)
        on_stage(f"testing rates in phase {chosen.name}")
        with out_of_memory_told(plan):
            curve = run_range_test(run, chosen, num_steps=num_steps, on_step=on_step)
    return _found(spec, plan, chosen, curve, start=_start(plan, chosen, saved))


def _here(spec: RunSpec) -> RunSpec:
    """Return the spec for this process; the average of the weights does not matter to losses."""
    scaling = spec.scaling.model_copy(update={"num_workers": 0})
    return spec.model_copy(update={"scaling": scaling, "ingest": "in_process", "ema": None})


def _choose(plan: RunPlan, name: str | None) -> PhasePlan:
    if name is None:
        return plan.phases[0]
    names = [phase.name for phase in plan.phases]
    if name not in names:
        raise _no_phase(name, names)
    return plan.phases[names.index(name)]


def _no_phase(name: str, names: Sequence[str]) -> SpecError:
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    fix = f"did you mean {' or '.join(near)}? " if near else ""
    what = f"the run has no phase {name!r}; it has {', '.join(names)}"
    return SpecError(Problem("--phase", what, f"{fix}name one of them"))


def _read(checkpoint: str) -> Checkpoint:
    place = Location.parse(checkpoint, base_dir=Path.cwd(), where="--checkpoint")
    return read_checkpoint(find_checkpoint(place))


def _load(model: FineTuneModel, saved: Checkpoint, dataset: Dataset, *, where: str) -> None:
    """Take the weights as they train: those that a phase starts from are not the averaged ones."""
    classes = saved.manifest["classes"]
    known = classes.get("label") if isinstance(classes, dict) else None
    mine, theirs = model.state_dict(), saved.tensors["model"]
    same = mine.keys() == theirs.keys() and all(
        mine[name].shape == value.shape for name, value in theirs.items()
    )
    if known != list(dataset.classes) or not same:
        raise CheckpointError(
            Problem(
                where,
                "the checkpoint has other classes or another network than the spec",
                "give a checkpoint of this run, or leave --checkpoint out",
            )
        )
    model.load_state_dict(dict(theirs))


def _start(plan: RunPlan, phase: PhasePlan, saved: Checkpoint | None) -> str:
    if saved:
        position = saved.manifest["position"]
        steps = position["steps_done"] if isinstance(position, dict) else 0
        return f"a checkpoint after {steps:,} steps"
    start = plan.model.weights
    if phase.index:
        start += (
            f" and a new head, because the phases before {phase.name} have not run; "
            "give --checkpoint to start from what they left"
        )
    return start


def _found(
    spec: RunSpec, plan: RunPlan, phase: PhasePlan, curve: LossCurve, *, start: str
) -> FoundRate:
    suggestion, setting = suggest_rate(curve), None
    peak = peak_rate(phase)
    if suggestion:
        written = spec.phases[int(phase.where.rpartition(".")[2])]
        setting = scaled_setting(written.lr, suggestion.rate / peak, where=f"{phase.where}.lr")
    return FoundRate(
        phase=phase.name,
        start=start,
        device=plan.resources.device,
        curve=curve,
        peak=peak,
        suggestion=suggestion,
        setting=setting,
    )
