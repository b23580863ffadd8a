"""Ray Tune at work: its trials are units, on actors that it reuses from unit to unit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Stopper
from ray.tune.search import Searcher

from rayft.errors import ClusterError
from rayft.plan.trials import Report
from rayft.runtime.allocator import keep_freed_memory
from rayft.runtime.preflight import Places
from rayft.runtime.sweep_folder import SweepFolder
from rayft.runtime.trial_run import UnitRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What every unit is given."""

    board: Any
    """Handle of the board."""
    folder: SweepFolder
    places: Places


class WorkUnit(tune.Trainable):  # type: ignore[misc]  # Ray is not followed
    """Works on a unit in one step; the board is told of its epochs while it goes on."""

    def setup(self, config: dict[str, Any], shared: Shared | None = None) -> None:
        """Take the first unit."""
        assert shared is not None
        keep_freed_memory()
        self._board = shared.board
        self._runner = UnitRunner(shared.folder, shared.places)
        self._name = config["unit"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another unit."""
        self._name = new_config["unit"]
        return True

    def step(self) -> dict[str, Any]:
        """Work on the unit to its end."""
        board, name = self._board, self._name
        try:
            found = ray.get(board.work_of.remote(name))
            node = ray.get_runtime_context().get_node_id()
            over = ray.get(board.begin.remote(name, self._runner.steps_done(found), node=node))
        except Exception as error:  # noqa: BLE001  or Ray Tune would begin it again for ever
            ray.get(board.lose.remote(name, f"{type(error).__name__}: {error}"))
            return {"done": True}

        def tell(reports: Sequence[Report]) -> frozenset[int]:
            stopped: frozenset[int] = ray.get(board.report.remote(name, reports))
            return stopped

        try:
            endings, is_over = self._runner.run(found, tell, over)
        except ClusterError as error:
            reason = "; ".join(problem.what for problem in error.problems)
            ray.get(board.lose.remote(name, reason))
            return {"done": True}
        ray.get(board.end.remote(name, endings, is_over=is_over))
        if self._runner.is_spoilt:
            # The unit is over; Ray Tune gives the next one an actor with a GPU that still works.
            raise RuntimeError(f"{name} left this process unfit for work")
        return {"done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Keep nothing with Ray: runs keep their own checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:  # noqa: ANN401  as Ray names it
        """Take nothing: a unit begins from what its runs have saved."""


class Quit(Stopper):  # type: ignore[misc]  # Ray is not followed
    """Ends all of Ray Tune's work once a file is there.

    Args:
        file: its path.
    """

    def __init__(self, file: str) -> None:
        self._file = file

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Leave each unit to itself."""
        del trial_id, result
        return False

    def stop_all(self) -> bool:
        """Return whether to end."""
        return Path(self._file).exists()


class Units(Searcher):  # type: ignore[misc]  # Ray is not followed
    """Gives Ray Tune the units that the board hands out.

    Args:
        board: its handle.
    """

    def __init__(self, board: Any) -> None:  # noqa: ANN401  Ray's handle of an actor
        super().__init__(metric="done", mode="max")
        self._board = board
        self._names: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        """Return the next unit; None where none can start now."""
        name, over = ray.get(self._board.next_unit.remote())
        if over:
            return str(Searcher.FINISHED)
        if not name:
            return None
        self._names[trial_id] = name
        return {"unit": name}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the board of a unit whose process is not started again."""
        del result
        name = self._names.pop(trial_id, None)
        if error and name is not None:
            ray.get(self._board.lose.remote(name, "its process died"))
