"""A plan once it is known how much of what it would keep is there already."""

from collections.abc import Mapping
from dataclasses import replace

from rayft.plan.prefix import PrefixPlan
from rayft.plan.prefix_costs import PrefixCosts
from rayft.plan.run_plan import PhasePlan, RunPlan


def with_kept_already(plan: RunPlan, there: Mapping[int, float]) -> RunPlan:
    """Return the plan with what is there counted as made: it may now pay to keep the rest.

    Args:
        plan: the run.
        there: by the index of a phase the share of its rows that is kept, in 0..1.
    """
    phases = tuple(
        _with_share(phase, phase.prefix, there[phase.index])
        if phase.prefix and there.get(phase.index)
        else phase
        for phase in plan.phases
    )
    return replace(plan, phases=phases)


def _with_share(phase: PhasePlan, prefix: PrefixPlan, share: float) -> PhasePlan:
    costs = PrefixCosts(
        bytes=prefix.bytes,
        epoch_s=prefix.epoch_s,
        kept_epoch_s=prefix.kept_epoch_s,
        fill_s=prefix.fill_s * (1 - share),
    )
    if not prefix.can_keep or not (prefix.keeps or costs.pays(phase.num_epochs)):
        return phase
    how_much = "kept already" if share == 1 else f"{share:.0%} of it is kept already"
    reason = f"{how_much}: {costs.pace(phase.num_epochs)}"
    return replace(phase, prefix=replace(prefix, keeps=True, reason=reason, fill_s=costs.fill_s))
