"""What is asked about the frozen prefix of one phase, whatever it runs on."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from rayft.plan.facts import DataFacts, ModelFacts, SplitName
from rayft.plan.ledger import Ledger
from rayft.plan.prefix import Dtype, frozen_groups
from rayft.plan.prefix_costs import FORWARD_AND_BACKWARD
from rayft.spec.augment import changes_images
from rayft.spec.mix import acting
from rayft.spec.run import RunSpec
from rayft.spec.size import parse_size

MOST_AUTO_VIEWS = 8
"""Views that `cache.views: auto` keeps at most."""
_LEAST_USES = 2
"""Epochs that `cache.views: auto` has for each kept view at least, or it would not pay."""
_LEAST_SHARE = 0.2
"""Share of a step's work below which new views in every epoch are preferred to kept ones."""
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


class FrozenPhase(Protocol):
    """What is asked about one phase."""

    @property
    def ledger(self) -> Ledger: ...  # noqa: D102

    @property
    def num_epochs(self) -> int: ...  # noqa: D102

    @property
    def image_size(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixAsked:
    """One phase and its cut."""

    spec: RunSpec
    model: ModelFacts
    data: DataFacts
    phase: FrozenPhase
    is_last: bool
    cut: int

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """Splits whose rows are read in the phase, or for the last figures."""
        wanted: tuple[SplitName, ...] = ("train", "validation", "test")
        return tuple(
            split
            for split in wanted
            if split in self.data.counts
            # Several views of an image in evaluation are made of the image.
            and (split == "train" or self.spec.test_time is None)
            and (split != "test" or self.is_last)
        )

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole backbone."""
        return self.cut == len(self.model.groups)

    @property
    def is_random(self) -> bool:
        """Whether training images are changed at random."""
        return changes_images(self.spec.augment)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what the prefix makes of one row; empty where the network cannot be cut here."""
        return self.model.groups[self.cut - 1].output_shape

    def dtype(self, precision: Literal["fp32", "bf16"]) -> Dtype:
        """Return the numbers that what it makes is rounded to."""
        wanted = self.spec.cache.dtype
        return precision if wanted == "auto" else wanted

    def views(self, precision: Literal["fp32", "bf16"]) -> int | None:
        """Return how many random views of each row are used in turn; None for new ones always.

        It follows from the spec and the data alone, never from speed or a full disk: which views
        are trained on is a matter of the result.
        """
        cache = self.spec.cache
        if not self.is_random:
            return None
        if cache.views != "auto":
            return cache.views
        if cache.mode == "auto" and self._share_of_work() < _LEAST_SHARE:
            return None
        view_bytes = self.data.num_rows("train") * self.row_bytes(precision)
        most = math.inf if cache.budget == "auto" else parse_size(cache.budget)
        views = MOST_AUTO_VIEWS
        while views > 1 and (
            views * _LEAST_USES > self.phase.num_epochs or views * view_bytes > most
        ):
            views //= 2
        return views if views > 1 or cache.mode == "require" else None

    def kept_as(self, precision: Literal["fp32", "bf16"]) -> tuple[int, int | None]:
        """Return what two phases have in common that keep the same."""
        return self.cut, self.views(precision)

    def without_end(self) -> str:
        """Say why each epoch has new views."""
        return (
            f"{self.phase.num_epochs} epochs take new random views of each row; "
            "cache.views says how many are kept instead"
        )

    def against(self) -> str:
        """Return what stands against keeping, whatever it costs; empty where nothing does."""
        spec, phase = self.spec, self.phase
        if spec.cache.mode == "off":
            return "cache.mode is off"
        if not self.shape:
            return f"{self.model.backbone} is no plain chain of groups, and can only be kept whole"
        if mix := acting(spec.mix):
            return f"{mix[0].kind} mixes the images themselves, anew in every epoch"
        if phase.image_size != self.model.image_size:
            return f"the phase scales its images to {phase.image_size} px"
        return ""

    def row_bytes(self, precision: Literal["fp32", "bf16"]) -> int:
        """Return the bytes of what is kept of one row."""
        return math.prod(self.shape) * _BYTES[self.dtype(precision)]

    def _share_of_work(self) -> float:
        """Return the prefix's part of the multiply-adds of a step."""
        below = sum(group.flops_per_row for group in self.model.groups[: self.cut])
        rest = (*self.model.groups[self.cut :], *self.model.heads)
        above = sum(group.flops_per_row for group in rest)
        return below / max(1, below + FORWARD_AND_BACKWARD * above)


def views_in_turn(
    spec: RunSpec,
    model: ModelFacts,
    data: DataFacts,
    phases: Sequence[FrozenPhase],
    *,
    precision: Literal["fp32", "bf16"],
) -> tuple[int | None, ...]:
    """Return for each phase how many random views of a row epochs take in turn, as it is planned.

    None stands for new views in every epoch, or images that are not changed at random.
    """
    return tuple(
        asked.views(precision) if asked.cut and not asked.against() else None
        for asked in each_asked(spec, model, data, phases)
    )


def each_asked(
    spec: RunSpec, model: ModelFacts, data: DataFacts, phases: Sequence[FrozenPhase]
) -> Iterator[PrefixAsked]:
    """Yield what is asked about each phase, with the cut below which nothing has trained so far."""
    still_pretrained = len(model.groups)
    for phase in phases:
        frozen = frozen_groups(phase.ledger, len(model.groups))
        still_pretrained = min(still_pretrained, frozen)
        yield PrefixAsked(
            spec=spec,
            model=model,
            data=data,
            phase=phase,
            is_last=phase is phases[-1],
            cut=still_pretrained,
        )
