"""The ledger of a phase: for every parameter its group, whether it trains, its rate and decay.

The optimizer, DDP, checkpoint and resume all read it. Every parameter stands in it exactly once.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rayft.errors import Problem, SpecError
from rayft.plan.facts import ModelFacts, ParamFacts
from rayft.plan.selectors import GroupNames, resolve_pattern, resolve_patterns
from rayft.spec.training import PhaseSpec

_RESERVED = ("heads", "backbone", "decay")


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
    names = GroupNames(tuple(g.name for g in facts.groups), tuple(h.name for h in facts.heads))
    trained = resolve_patterns(phase.train, names, where=f"{where}.train")
    rates = _rates(phase, trained, names, where=f"{where}.lr")
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


def _rates(
    phase: PhaseSpec, trained: tuple[str, ...], names: GroupNames, *, where: str
) -> dict[str, float]:
    """Return the peak rate of every group that trains."""
    if not isinstance(phase.lr, dict):
        return dict.fromkeys(trained, phase.lr)
    table = phase.lr
    explicit: dict[str, float] = {}
    for key, rate in table.items():
        if key in _RESERVED:
            continue
        for name in resolve_pattern(key, names, where=f"{where}.{key}"):
            explicit[name] = rate
    _refuse_unused(table, trained, names, where)
    decay = table.get("decay", 1.0)
    backbone = [name for name in trained if not name.startswith("heads.")]
    rates: dict[str, float] = {}
    for name in trained:
        if name in explicit:
            rates[name] = explicit[name]
        elif name.startswith("heads."):
            rates[name] = _given(table, "heads", name, where)
        else:
            # Distance from the topmost group of the backbone that trains, as in ULMFiT's
            # discriminative rates (Howard & Ruder 2018, section 3.2).
            distance = backbone[::-1].index(name)
            rates[name] = _given(table, "backbone", name, where) * decay**distance
    return rates


def _given(table: Mapping[str, float], key: str, group: str, where: str) -> float:
    if key not in table:
        raise SpecError(
            Problem(
                where,
                f"{group} trains in this phase but the table gives it no learning rate",
                f"add {key}: RATE, or {group}: RATE",
            )
        )
    return table[key]


def _refuse_unused(
    table: Mapping[str, float], trained: tuple[str, ...], names: GroupNames, where: str
) -> None:
    backbone = [name for name in trained if not name.startswith("heads.")]
    used = {
        "heads": len(backbone) < len(trained),
        "backbone": bool(backbone),
        "decay": len(backbone) > 1 and "backbone" in table,
    }
    for key in table:
        if key in _RESERVED:
            effective = used[key]
        else:
            effective = bool(
                set(resolve_pattern(key, names, where=f"{where}.{key}")) & set(trained)
            )
        if not effective:
            raise SpecError(
                Problem(
                    f"{where}.{key}",
                    f"{key!r} has no effect: what trains in this phase is {', '.join(trained)}",
                    "remove it, or train what it is for",
                )
            )
    if table.get("decay", 1.0) > 1:
        raise SpecError(
            Problem(
                f"{where}.decay",
                f"{table['decay']:g} makes rates grow towards the input",
                "use a factor of at most 1",
            )
        )
