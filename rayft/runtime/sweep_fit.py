"""`Tuner.fit` in a thread, so that the main thread is free for signals and for telling news."""

import logging
import os
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rayft.runtime.preflight import Places
from rayft.runtime.sweep_folder import SweepFolder

_TUNE_ENV = {
    # rayft tells of trials, and keeps its own journal: Tune's notes are thrown away.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGNAL_CAPTURE": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
}


class SweepFit(threading.Thread):
    """Has Ray Tune work on units until the board hands out no more.

    Args:
        board: handle of the board.
        folder: of the sweep.
        places: where its runs read.
        slots: units at a time.
        reserved: what one unit's actor reserves.
    """

    def __init__(
        self,
        board: Any,  # noqa: ANN401  Ray's handle of an actor
        *,
        folder: SweepFolder,
        places: Places,
        slots: int,
        reserved: Mapping[str, float],
    ) -> None:
        super().__init__(name="rayft-tune", daemon=True)
        self._board = board
        self._folder = folder
        self._places = places
        self._slots = slots
        self._reserved = dict(reserved)
        self.error: BaseException | None = None
        self._notes = tempfile.TemporaryDirectory(prefix="rayft-tune-")
        self._quit_file = Path(self._notes.name, "quit")

    def quit(self) -> None:
        """Have Ray Tune end its actors and return, whatever they are at."""
        with suppress(OSError):  # It has returned, and its notes are gone.
            self._quit_file.touch()

    def run(self) -> None:
        """Work to the end."""
        try:
            with self._notes as notes:
                self._fit(notes)
        except BaseException as error:  # noqa: BLE001  raised by the thread that waits
            self.error = error

    def _fit(self, notes: str) -> None:
        for name, value in _TUNE_ENV.items():
            os.environ.setdefault(name, value)
        from ray import tune

        from rayft.runtime.work_unit import Quit, Shared, Units, WorkUnit

        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        shared = Shared(board=self._board, folder=self._folder, places=self._places)
        tune.Tuner(
            tune.with_resources(tune.with_parameters(WorkUnit, shared=shared), self._reserved),
            tune_config=tune.TuneConfig(
                search_alg=Units(self._board),
                # The board says when there are no more.
                num_samples=-1,
                max_concurrent_trials=self._slots,
                reuse_actors=True,
                trial_name_creator=lambda trial: str(trial.config["unit"]),
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="units",
                storage_path=notes,
                verbose=0,
                stop=Quit(str(self._quit_file)),
                # A process that is lost costs a unit no more than its work since the last
                # checkpoint; the board counts how often it is lost without getting on.
                failure_config=tune.FailureConfig(max_failures=-1),
            ),
        ).fit()
