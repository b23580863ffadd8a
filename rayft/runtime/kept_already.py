"""What earlier runs left of the stores that a run wants: it need not be made again."""

from rayft.errors import RequestError
from rayft.models.named_weights import is_at_hand
from rayft.plan.kept_already import with_kept_already
from rayft.plan.run_plan import RunPlan
from rayft.runtime.beginning import Beginning, Begun, Wanted, phases_to_come
from rayft.runtime.folder import RunFolder
from rayft.runtime.preflight import Places, plan_prepared, prepare_rows, resolve, unheard
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.store.activation_use import FOLDER, place_of
from rayft.store.manifest import MANIFEST_NAME


def plan_with_kept(plan: RunPlan, beginning: Beginning, *, store_root: Location) -> RunPlan:
    """Return the plan with the stores that are there already counted as made.

    Args:
        plan: the run, on its prepared rows.
        beginning: its rows and weights.
        store_root: the folder of all stores.
    """
    phases = [
        phase
        for phase in phases_to_come(plan, beginning.folder)
        if phase.prefix and phase.prefix.can_keep
    ]
    # Most first runs stop here: what the weights hash to takes a second to know.
    if not phases or not (store_root / FOLDER).children():
        return plan
    begun = Begun(plan, beginning)
    return with_kept_already(
        plan, {phase.index: _share(begun.wanted(phase), store_root) for phase in phases}
    )


def _share(wanted: Wanted, store_root: Location) -> float:
    """Return which share of the rows lies in whole stores."""
    rows = {store.key: len(store.row_ids) for stores in wanted.values() for store in stores}
    there = [key for key in rows if (place_of(store_root, key) / MANIFEST_NAME).exists()]
    return sum(rows[key] for key in there) / sum(rows.values())


def planned_with_kept(spec: RunSpec, places: Places, plan: RunPlan) -> RunPlan:
    """Return a plan made before anything was started, with what is there counted as made.

    That can be told where the rows are prepared and the weights need not be downloaded; else the
    plan is returned as it is.

    Args:
        spec: the run.
        places: where it reads and writes.
        plan: made from it.
    """
    folder = RunFolder(places.storage_path, spec.name)
    resumes = folder.has_checkpoints()
    if not plan.data.exact or not (resumes or is_at_hand(spec.model.backbone)):
        return plan
    if not (places.store_root / FOLDER).children():
        return plan
    try:
        weights = None if resumes else resolve(spec, places, plan)
        prepared = prepare_rows(spec, places, use_ray=False, on_rows=unheard)
        exact = plan_prepared(spec, places, prepared, speeds=plan.speeds)
        beginning = Beginning(dataset=prepared.ref, weights=weights, folder=folder)
        return plan_with_kept(exact, beginning, store_root=places.store_root)
    except RequestError:
        # `rayft train` says what is wrong with weights or checkpoints.
        return plan
