"""Whether what the frozen prefix of each phase makes is kept: how, for how much, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rayft.errors import Problem, SpecError
from rayft.plan.facts import ClusterFacts, DataFacts, DeviceName, ModelFacts, Speeds
from rayft.plan.order import is_remote
from rayft.plan.prefix import PrefixPlan, prefix_rows
from rayft.plan.prefix_asked import FrozenPhase, PrefixAsked, each_asked
from rayft.plan.prefix_costs import paces_at, prefix_costs
from rayft.spec.run import RunSpec
from rayft.spec.size import parse_size

_AUTO_BUDGET = 0.3
"""Share of the disk that is free, or kept already, with `cache.budget: auto`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What prefixes run on, and how fast."""

    device: DeviceName
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
    kept: dict[tuple[int, int | None], int] = {}
    for asked in each_asked(spec, model, data, phases):
        plan = None
        if asked.cut:
            # Phases with the same cut and views share what they keep.
            own = asked.kept_as(machine.precision)
            others = sum(size for same, size in kept.items() if same != own)
            plan = _plan(asked, machine, left=machine.budget - others)
            if plan.keeps:
                kept[own] = plan.bytes
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


def _plan(asked: PrefixAsked, machine: Machine, *, left: int) -> PrefixPlan:
    against = asked.against()
    views = None if against else asked.views(machine.precision)
    if not against and asked.is_random and views is None:
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


def _too_large(num_bytes: int, left: int) -> str:
    if num_bytes <= left:
        return ""
    missing = (num_bytes - left) / 1e9
    return f"{num_bytes / 1e9:,.2f} GB exceed what is left of cache.budget by {missing:,.2f} GB"
