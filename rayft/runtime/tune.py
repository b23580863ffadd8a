"""`rayft tune`: from a sweep to a table of trials, from wherever it stands."""

import time
from contextlib import ExitStack
from typing import Any, Protocol

import ray
from ray.exceptions import RayError

from rayft.engine.ports import Json
from rayft.errors import Problem, RayftError, Stopped, TrainingError
from rayft.runtime.board import SweepRequest, start_board
from rayft.runtime.folder import RunFolder
from rayft.runtime.journal import Event
from rayft.runtime.launch import connect_if_told, root_cause, start_ray
from rayft.runtime.nodes import check_nodes
from rayft.runtime.signals import StopRequest, stop_request
from rayft.runtime.sweep_fit import SweepFit
from rayft.runtime.sweep_folder import SweepFolder
from rayft.runtime.sweep_plan import (
    ALL_POINTS,
    SweepPlan,
    check_sweep,
    folder_of,
    ground_of,
    places_of_sweep,
    plan_trials,
)
from rayft.runtime.sweep_record import SweepState
from rayft.runtime.sweep_result import write_sweep_result
from rayft.runtime.sweep_status import table_of
from rayft.runtime.train import Silence as RunSilence
from rayft.runtime.trial_events import SweepStop
from rayft.runtime.trial_planner import Ground, TrialPlanner
from rayft.runtime.waiting import reservation
from rayft.spec.load_sweep import LoadedSweep
from rayft.spec.sweep import SweepSpec

_LOOK_EVERY_S = 0.3
_QUITS_WITHIN_S = 60.0


class Listener(Protocol):
    """Hears what a sweep is doing, on the driver."""

    def on_stage(self, text: str) -> None:
        """Something that takes a while begins."""
        ...

    def on_rows(self, done: int, total: int) -> None:
        """Rows of the dataset were prepared."""
        ...

    def on_sweep(self, plan: SweepPlan) -> None:
        """The plan is made; trials begin."""
        ...

    def on_event(self, event: Event) -> None:
        """A run or the board wrote an event."""
        ...


class Silence(RunSilence):
    """A listener for scripts that only want the result."""

    def on_sweep(self, plan: SweepPlan) -> None:
        """Say nothing."""


def tune(loaded: LoadedSweep, *, listener: Listener | None = None) -> dict[str, Json]:
    """Run a sweep to its end and return its result.

    A sweep that was interrupted goes on; trials that have ended are not run again.

    Returns:
        `status`, `best` (trial, values, value, metrics, checkpoint), `counts` (trials by how they
        ended), `trials` (all, the best first), `sweep` (folder), `best_spec`, `plots`, `seconds`.

    Raises:
        RequestError: the request cannot be honoured; nothing was started.
        TrainingError: the sweep was started and cannot go on.
        Stopped: a signal, or `rayft tune --stop`, asked it to save and stop.
    """
    listener = listener or Silence()
    started = time.monotonic()
    sweep = loaded.sweep
    places, folder = places_of_sweep(loaded), folder_of(loaded)
    with ExitStack() as stack:
        if connect_if_told():
            stack.callback(ray.shutdown)
        first = check_sweep(loaded, places, folder)
        stack.enter_context(RunFolder(places.storage_path, sweep.name).locked())
        # What asked an earlier process to stop; from now on it is this one that is asked.
        folder.stop_file.delete()
        if not ray.is_initialized():
            listener.on_stage("starting Ray")
            start_ray()
            stack.callback(ray.shutdown)
        check_nodes(places.storage_path)
        ground = ground_of(places, folder, first)
        planner = TrialPlanner(sweep, loaded.run, folder, ground)
        listener.on_stage("preparing rows")
        plan = plan_trials(loaded, planner, use_ray=True, on_rows=listener.on_rows)
        folder.begin(sweep, loaded.run, ground.settled)
        listener.on_sweep(plan)
        listener.on_stage("starting trials")
        state = _run(loaded, folder, ground, plan, listener)
        return write_sweep_result(
            folder.place,
            table_of(loaded, state),
            spec_of=planner.spec_as,
            storage_path=sweep.storage_path,
            seconds=time.monotonic() - started,
        )


def _run(
    loaded: LoadedSweep,
    folder: SweepFolder,
    ground: Ground,
    plan: SweepPlan,
    listener: Listener,
) -> SweepState:
    """Have units worked on until none is left.

    Raises:
        TrainingError: Ray Tune failed.
        Stopped: the sweep was asked to save and stop.
    """
    board = start_board(
        SweepRequest(
            sweep=loaded.sweep,
            run=loaded.run,
            folder=folder,
            ground=ground,
            ask_at_once=_ask_at_once(loaded.sweep, plan),
        )
    )
    resources = plan.first.resources
    fit = SweepFit(
        board,
        folder=folder,
        places=ground.places,
        slots=plan.slots.number,
        # A unit with several workers only drives them.
        reserved=reservation(resources) if resources.num_workers <= 1 else {"memory": 1e6},
    )
    try:
        with stop_request() as request:
            fit.start()
            is_stopped = _watch(fit, board, folder, listener, request)
        state: SweepState = ray.get(board.state.remote())
    except (RayError, RayftError, OSError) as error:
        # The board was lost, or its journal cannot be written: nothing can be decided any more.
        fit.quit()
        fit.join(_QUITS_WITHIN_S)
        what, fix = f"the sweep's journal was lost: {root_cause(error)}", "run the command again"
        raise TrainingError(Problem(str(folder.place), what, fix)) from error
    ray.kill(board)
    if fit.error is not None:
        raise TrainingError(
            Problem(str(folder.place), f"Ray Tune failed: {root_cause(fit.error)}", "run it again")
        ) from fit.error
    if is_stopped:
        what = "stopped as asked; every trial has saved its position"
        fix = "run the same command again to go on"
        raise Stopped(Problem(str(folder.place), what, fix), signal=request.signal)
    return state


def _ask_at_once(sweep: SweepSpec, plan: SweepPlan) -> int:
    """Return the trials that are asked for before others are over: all, unless search learns."""
    return plan.slots.number if sweep.search.kind == "tpe" else ALL_POINTS


def _watch(
    fit: SweepFit,
    board: Any,  # noqa: ANN401  Ray's handle of an actor
    folder: SweepFolder,
    listener: Listener,
    request: StopRequest,
) -> bool:
    """Tell news until Ray Tune is done; return whether it was asked to stop, and so was left."""
    seen, asked = 0, False
    stop = SweepStop(folder.stop_file)
    while fit.is_alive():
        events, seen = ray.get(board.news.remote(seen))
        for event in events:
            listener.on_event(event)
        if not asked and (request.signal or stop()):
            asked = True
            listener.on_stage("stopping: trials save and end")
            folder.stop_file.write_bytes(b"stop")
            ray.get(board.stop.remote())
        if asked and ray.get(board.is_over.remote()):
            # Units that were never begun may wait for room that does not come.
            fit.quit()
        fit.join(_LOOK_EVERY_S)
    for event in ray.get(board.news.remote(seen))[0]:
        listener.on_event(event)
    return asked
