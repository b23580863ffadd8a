"""What a sweep needs from outside: who knows what its trials share."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from rayft.plan.trials import Point, Unit
from rayft.runtime.sweep_record import TrialState


class Planner(Protocol):
    """Knows how trials belong together."""

    def problem(self, point: Point) -> str | None:
        """Return why a point cannot be a trial; None where it can."""
        ...

    def units(self, points: Sequence[Point], states: Mapping[int, TrialState]) -> Sequence[Unit]:
        """Return how trials are worked on, in the order in which to begin.

        Args:
            points: every valid point so far, those of trials that are over too; so what is shared
                does not depend on how far the sweep is.
            states: by trial how it stands. Members that are over or worked on need not be left
                out.
        """
        ...
