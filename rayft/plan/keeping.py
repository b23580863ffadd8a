"""Whether what the frozen prefix of each phase makes is kept: how, for how much, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from rayft.errors import Problem, SpecError
from rayft.plan.facts import ClusterFacts, DataFacts, ModelFacts, Speeds, SplitName
from rayft.plan.ledger import Ledger
from rayft.plan.order import is_remote
from rayft.plan.prefix import Dtype, PrefixPlan, frozen_groups, prefix_rows
from rayft.plan.prefix_costs import FORWARD_AND_BACKWARD, paces_at, prefix_costs
from rayft.spec.run import RunSpec
from rayft.spec.size import parse_size

MOST_AUTO_VIEWS = 8
"""Views that `cache.views: auto` keeps at most."""
_AUTO_BUDGET = 0.3
"""Share of the disk that is free, or kept already, with `cache.budget: auto`."""
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
class Machine:
    """What prefixes run on, and how fast."""

    device: Literal["cpu", "cuda", "mps"]
    num_workers: int
    speeds: Speeds
    budget: int
    """Bytes that may be kept."""
    rows_per_shard: int
    precision: Literal["fp32", "bf16"]


def cache_budget(spec: RunSpec, data: DataFacts, cluster: ClusterFacts) -> int:
    """Return the bytes that may be kept under the run's `storage_path`.

    In an object store it is no more than each machine can hold beside the rows themselves: batches
    are random, so all of it is read in every epoch.
    """
    asked = None if spec.cache.budget == "auto" else parse_size(spec.cache.budget)
    if is_remote(spec):
        held = max(0, parse_size(spec.data.local_cache.budget) - data.stored_bytes)
        return held if asked is None else min(asked, held)
    if asked is not None:
        return asked
    return int((cluster.disk_free_bytes + cluster.kept_bytes) * _AUTO_BUDGET)


def plan_prefixes(
    spec: RunSpec,
    model: ModelFacts,
    data: DataFacts,
    phases: Sequence[FrozenPhase],
    machine: Machine,
) -> tuple[PrefixPlan | None, ...]:
    """Plan the prefix of each phase; None where there is none that was never trained.

    Layers that an earlier phase trained, and this one freezes again, are no part of it: what they
    make is not known before the run.

    Raises:
        SpecError: `cache.mode` is `require`, and no phase can keep anything; or `cache.dtype` does
            not suit the precision.
    """
    _check_dtype(spec, machine)
    found: list[PrefixPlan | None] = []
    still_pretrained = len(model.groups)
    kept: dict[tuple[int, int | None], int] = {}
    for phase in phases:
        frozen = frozen_groups(phase.ledger, len(model.groups))
        still_pretrained = min(still_pretrained, frozen)
        plan = None
        if still_pretrained:
            asked = _Asked(
                spec=spec,
                model=model,
                data=data,
                phase=phase,
                is_last=phase is phases[-1],
                cut=still_pretrained,
            )
            # Phases with the same cut and views share what they keep.
            others = {same: size for same, size in kept.items() if same != asked.kept_as(machine)}
            plan = _plan(asked, machine, left=machine.budget - sum(others.values()))
            if plan.keeps:
                kept[asked.kept_as(machine)] = plan.bytes
        found.append(plan)
    _check_required(spec, found)
    return tuple(found)


def _check_dtype(spec: RunSpec, machine: Machine) -> None:
    if machine.precision == "bf16" and spec.cache.dtype in ("fp32", "fp16"):
        raise SpecError(
            Problem(
                "cache.dtype",
                f"the layers compute in bf16, and {spec.cache.dtype} can hold no more of it",
                "remove it, or use precision: fp32",
            )
        )


def _check_required(spec: RunSpec, found: Sequence[PrefixPlan | None]) -> None:
    if spec.cache.mode != "require" or any(plan and plan.keeps for plan in found):
        return
    reasons = sorted({plan.reason for plan in found if plan})
    raise SpecError(
        Problem(
            "cache.mode",
            "it is require, and no phase keeps what its frozen layers make: "
            + ("; ".join(reasons) or "every phase trains from the first layer on"),
            "change what stands against it, or use cache.mode: auto",
        )
    )


def _plan(asked: "_Asked", machine: Machine, *, left: int) -> PrefixPlan:
    against = _against(asked)
    views = None if against else asked.views(machine.precision)
    if not against and asked.spec.augment and views is None:
        against = asked.without_end()
    costs = prefix_costs(
        asked.data,
        asked.splits,
        views=views or 1,
        row_bytes=asked.row_bytes(machine.precision),
        paces=paces_at(asked.cut, asked.model, machine.speeds, precision=machine.precision),
        num_workers=max(1, machine.num_workers),
    )
    against = against or _too_large(costs.bytes, left)
    can_keep = keeps = not against
    reason = against or costs.pace(asked.phase.num_epochs)
    if keeps and asked.spec.cache.mode == "require":
        reason = f"asked for; {reason}"
    elif keeps and not costs.pays(asked.phase.num_epochs):
        keeps, reason = False, f"keeping would not pay: {reason}"
    return PrefixPlan(
        cut=asked.cut,
        name=asked.model.groups[asked.cut - 1].name,
        is_whole=asked.is_whole,
        rows=prefix_rows(machine.rows_per_shard, machine.device) if asked.shape else 0,
        keeps=keeps,
        can_keep=can_keep,
        reason=reason,
        views=views,
        dtype=asked.dtype(machine.precision),
        shape=asked.shape,
        splits=asked.splits,
        bytes=costs.bytes,
        epoch_s=costs.epoch_s,
        kept_epoch_s=costs.kept_epoch_s,
        fill_s=costs.fill_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One phase and its cut."""

    spec: RunSpec
    model: ModelFacts
    data: DataFacts
    phase: FrozenPhase
    is_last: bool
    cut: int

    @property
    def splits(self) -> tuple[SplitName, ...]:
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
        return self.cut == len(self.model.groups)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what the prefix makes of one row; empty where the network cannot be cut here."""
        return self.model.groups[self.cut - 1].output_shape

    def dtype(self, precision: Literal["fp32", "bf16"]) -> Dtype:
        wanted = self.spec.cache.dtype
        return precision if wanted == "auto" else wanted

    def views(self, precision: Literal["fp32", "bf16"]) -> int | None:
        """Return how many random views of each row are used in turn; None for new ones always.

        It follows from the spec and the data alone, never from speed or a full disk: which views
        are trained on is a matter of the result.
        """
        cache = self.spec.cache
        if not self.spec.augment:
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

    def kept_as(self, machine: "Machine") -> tuple[int, int | None]:
        """Return what two phases have in common that keep the same."""
        return self.cut, self.views(machine.precision)

    def without_end(self) -> str:
        """Say why each epoch has new views."""
        return (
            f"{self.phase.num_epochs} epochs take new random views of each row; "
            "cache.views says how many are kept instead"
        )

    def row_bytes(self, precision: Literal["fp32", "bf16"]) -> int:
        """Return the bytes of what is kept of one row."""
        return math.prod(self.shape) * _BYTES[self.dtype(precision)]

    def _share_of_work(self) -> float:
        """Return the prefix's part of the multiply-adds of a step."""
        below = sum(group.flops_per_row for group in self.model.groups[: self.cut])
        rest = (*self.model.groups[self.cut :], *self.model.heads)
        above = sum(group.flops_per_row for group in rest)
        return below / max(1, below + FORWARD_AND_BACKWARD * above)


def _against(asked: _Asked) -> str:
    """Return what stands against keeping, whatever it costs; empty where nothing does."""
    spec, phase = asked.spec, asked.phase
    if spec.cache.mode == "off":
        return "cache.mode is off"
    if not asked.shape:
        return f"{asked.model.backbone} is no plain chain of groups, and can only be kept whole"
    if spec.mix:
        return f"{spec.mix[0].kind} mixes the images themselves, anew in every epoch"
    if phase.image_size != asked.model.image_size:
        return f"the phase scales its images to {phase.image_size} px"
    return ""


def _too_large(num_bytes: int, left: int) -> str:
    if num_bytes <= left:
        return ""
    missing = (num_bytes - left) / 1e9
    return f"{num_bytes / 1e9:,.2f} GB exceed what is left of cache.budget by {missing:,.2f} GB"
