"""Begin a run from the end of a stage: phases that several have in common are trained once."""

from collections.abc import Mapping

from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.checkpoint_reading import on_disk, read_manifest
from rayft.engine.policies import Policies
from rayft.engine.ports import Json
from rayft.errors import CheckpointError, Problem
from rayft.plan.run_plan import RunPlan
from rayft.runtime.folder import RunFolder
from rayft.spec.run import RunSpec
from rayft.storage.location import Location


def fork(stage: RunFolder, trial: RunFolder, plan: RunPlan, *, asked: RunSpec) -> None:
    """Put the last checkpoint of a stage, and its best one, into the folder of a trial.

    The trial then goes on as any run does that was stopped between two phases, and is bit for bit
    what it would be had it run these phases itself. Killed anywhere, this can be called again; the
    trial goes on rightly also where it is not, from the best checkpoint or from the start. A trial
    that stands there already, or went on, is left as it is. Nobody may be training it meanwhile:
    the caller holds `trial.locked()`.

    Args:
        stage: a run whose plan is that of the trial, cut off where they part.
        trial: where to begin. It may be a stage itself.
        plan: that of the trial.
        asked: the trial's spec as it was asked for, before anything was worked out.

    Raises:
        CheckpointError: the stage has no checkpoint, or a damaged one, or computed in another way
            than the trial will.
    """
    source, own = (CheckpointFolder(run.place / "checkpoints") for run in (stage, trial))
    names, begun = source.names(), own.names()
    if not names:
        raise CheckpointError(
            Problem(str(stage.place), "the stage has no checkpoint yet", "let it come to its end")
        )
    last = names[-1]
    if begun and begun[-1] >= last:
        return
    manifest = read_manifest(source.place / last)
    _check_alike(manifest, plan, source.place / last)
    best = _best_of(manifest)
    trial.begin(asked, plan)
    # The last one comes last: it names the best one, which must then be there.
    for name in [best, last] if best and best != last else [last]:
        with on_disk(source.place / name) as files:
            own.adopt(name, files, _manifest(read_manifest(source.place / name), plan))
    own.set_best(best)


def _check_alike(manifest: Mapping[str, Json], plan: RunPlan, place: Location) -> None:
    """Refuse a state that the trial would not have reached: its last bits may be others."""
    wanted = {
        "precision": plan.precision,
        "world_size": plan.resources.world_size,
        "threads_per_worker": plan.resources.threads_per_worker,
    }
    found = [
        f"{name} is {manifest[name]!r}, and {value!r} in the trial"
        for name, value in wanted.items()
        if manifest[name] != value
    ]
    if found:
        fix = "delete the stage's folder, so that it is run again, or run the trial from the start"
        raise CheckpointError(
            Problem(str(place), f"the stage computed otherwise: {'; '.join(found)}", fix)
        )


def _best_of(manifest: Mapping[str, Json]) -> str | None:
    policies = manifest["policies"]
    assert isinstance(policies, dict)
    best = policies["best"]
    assert isinstance(best, dict)
    name = best["name"]
    return name if isinstance(name, str) else None


def _manifest(of_stage: Mapping[str, Json], plan: RunPlan) -> dict[str, Json]:
    """Return the manifest that the trial would have written at the same place."""
    return {
        **of_stage,
        "spec": plan.spec.model_dump(mode="json", by_alias=True),
        "policies": _policies(of_stage, plan),
        "rows_per_device": plan.max_rows_per_device,
    }


def _policies(of_stage: Mapping[str, Json], plan: RunPlan) -> dict[str, Json]:
    """Return the memory of the trial's policies.

    Whether there is an early stopping at all depends on all phases: where no phase of the stage may
    end early, and a later one of the trial may, it has counted the phases and no more.
    """
    saved, position = of_stage["policies"], of_stage["position"]
    assert isinstance(saved, dict)
    assert isinstance(position, dict)
    fresh = Policies(plan)
    started = int(str(position["phase"])) + (int(str(position["step"])) > 0)
    if fresh.early_stopping:
        for _ in range(started):
            fresh.early_stopping.start_phase()
    return {name: saved.get(name, state) for name, state in fresh.state().items()}
