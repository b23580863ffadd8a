"""One attempt at what is left of a run, whoever makes it: `rayft train`, or a trial of a sweep."""

from collections.abc import Callable, Mapping

from rayft.feed.kept import KeptRef
from rayft.plan.run_plan import RunPlan
from rayft.runtime.beginning import Beginning
from rayft.runtime.job import Job
from rayft.runtime.keep import Listener, keeping
from rayft.runtime.nodes import versions_here
from rayft.storage.location import Location


def make_attempt(  # noqa: PLR0913  each is a decision of the caller's
    plan: RunPlan,
    beginning: Beginning,
    run: Callable[[Job], None],
    *,
    store_root: Location,
    environment: Mapping[str, str] | None,
    listener: Listener,
    stops_before: int = 0,
) -> None:
    """Make what is to be kept of frozen layers, count the attempt, and run it.

    Args:
        plan: the run.
        beginning: its rows, weights and folder.
        run: trains.
        store_root: the folder of all stores.
        environment: as in `keeping`.
        listener: hears of what is kept.
        stops_before: as in `Job`.
    """
    with keeping(
        plan, beginning, store_root=store_root, environment=environment, listener=listener
    ) as kept:
        run(new_job(plan, beginning, kept=kept, stops_before=stops_before))


def new_job(plan: RunPlan, beginning: Beginning, *, kept: KeptRef, stops_before: int = 0) -> Job:
    """Count an attempt at a run, and return it; earlier ones may write no more."""
    folder = beginning.folder
    folder.sweep()
    return Job(
        plan=plan,
        dataset=beginning.dataset.to_json(),
        kept=kept.to_json(),
        storage_path=str(folder.place.parent),
        attempt=folder.begin_attempt(),
        versions=versions_here(),
        stops_before=stops_before,
    )
