"""The ledger of a phase: for every parameter its group, whether it trains, its rate and decay.

The optimizer, DDP, checkpoint and resume all read it. Every parameter stands in it exactly once.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rayft.plan.facts import ModelFacts, ParamFacts
from rayft.plan.rates import group_rates
from rayft.plan.selectors import group_names, resolve_patterns
from rayft.spec.training import PhaseSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamRule:
    """What happens to one parameter in one phase."""

    name: str
    group: str
    trains: bool
    lr: float
    """Peak learning rate; 0 where the parameter does not train."""
    weight_decay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRule:
    """What happens to one group in one phase."""

    name: str
    """Depth group, or `heads.NAME`."""
    num_params: int
    trains: bool
    lr: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Every group and every parameter of the model, input side first."""

    groups: tuple[GroupRule, ...]
    params: tuple[ParamRule, ...]

    @property
    def trainable_params(self) -> int:
        """Number of elements that train."""
        return sum(group.num_params for group in self.groups if group.trains)

    @property
    def frozen_params(self) -> int:
        """Number of elements that do not train."""
        return sum(group.num_params for group in self.groups if not group.trains)

    def trains(self, group: str) -> bool:
        """Return whether a group trains."""
        return any(rule.trains for rule in self.groups if rule.name == group)


def make_ledger(phase: PhaseSpec, facts: ModelFacts, *, weight_decay: float, where: str) -> Ledger:
    """Work out every parameter's rule in a phase.

    Args:
        phase: the phase as asked for.
        facts: the model's groups and parameters.
        weight_decay: decay of weights; norms and biases get none.
        where: path of the phase in the spec, for messages.

    Raises:
        SpecError: a pattern matches nothing, a rate has no effect, or a trained group has no rate.
    """
    groups = {group.name: group for group in facts.groups}
    groups |= {f"heads.{head.name}": head for head in facts.heads}
    names = group_names(facts)
    trained = resolve_patterns(phase.train, names, where=f"{where}.train")
    rates = group_rates(phase.lr, trained, names, where=f"{where}.lr")
    rules = tuple(
        GroupRule(
            name=name,
            num_params=sum(param.size for param in group.params),
            trains=name in rates,
            lr=rates.get(name, 0.0),
        )
        for name, group in groups.items()
    )
    params = tuple(
        _param_rule(param, name, rates, weight_decay)
        for name, group in groups.items()
        for param in group.params
    )
    _check_coverage(params)
    return Ledger(groups=rules, params=params)


def _param_rule(
    param: ParamFacts, group: str, rates: Mapping[str, float], weight_decay: float
) -> ParamRule:
    trains = group in rates
    return ParamRule(
        name=param.name,
        group=group,
        trains=trains,
        lr=rates.get(group, 0.0),
        weight_decay=weight_decay if trains and param.kind == "weight" else 0.0,
    )


def _check_coverage(params: tuple[ParamRule, ...]) -> None:
    twice = [name for name, count in Counter(rule.name for rule in params).items() if count > 1]
    assert not twice, f"parameters in more than one group: {twice[:5]}"
