"""Peak learning rates of the groups that train, from a phase's `lr`: one number, or a table."""

from collections.abc import Mapping, Sequence

from rayft.errors import Problem, SpecError
from rayft.plan.selectors import GroupNames, resolve_pattern

_RESERVED = ("heads", "backbone", "decay")


def group_rates(
    lr: float | Mapping[str, float], trained: Sequence[str], names: GroupNames, *, where: str
) -> dict[str, float]:
    """Return the peak rate of every group that trains.

    Rates fall with the distance from the topmost group of the backbone that trains, as the
    discriminative rates of Howard & Ruder 2018 (https://arxiv.org/abs/1801.06146), section 3.2.

    Args:
        lr: `lr` of the phase.
        trained: groups that train, input side first.
        names: all groups.
        where: path of `lr` in the spec, for messages.

    Raises:
        SpecError: a key matches nothing or has no effect, two give a group different rates, or a
            trained group has no rate.
    """
    if not isinstance(lr, Mapping):
        return dict.fromkeys(trained, lr)
    keys = _key_of_each(lr, trained, names, where)
    problems = [*_unused(lr, trained, keys, where), *_missing(lr, keys, where)]
    if problems:
        raise SpecError(*problems)
    decay = lr.get("decay", 1.0)
    return {
        name: lr[key] * decay ** _distance(name, trained) if key == "backbone" else lr[key]
        for name, key in keys.items()
    }


def with_effect(
    lr: float | Mapping[str, float], trained: Sequence[str], names: GroupNames, *, where: str
) -> float | dict[str, float]:
    """Return `lr` without the keys that have no effect where only `trained` trains.

    Raises:
        SpecError: a key matches nothing, or two give a group different rates.
    """
    if not isinstance(lr, Mapping):
        return lr
    used = _used(trained, _key_of_each(lr, trained, names, where))
    return {key: rate for key, rate in lr.items() if key in used}


def _key_of_each(
    table: Mapping[str, float], trained: Sequence[str], names: GroupNames, where: str
) -> dict[str, str]:
    """Return the key that each trained group takes its rate from.

    A group's own name goes before a pattern, and a pattern before `heads` and `backbone`.
    """
    keys = {name: "heads" if name.startswith("heads.") else "backbone" for name in trained}
    by_pattern: dict[str, str] = {}
    for key in table:
        if key in _RESERVED or key in names.all():
            continue
        found = resolve_pattern(key, names, where=_at(where, key), also=_RESERVED)
        for name in found:
            other = by_pattern.setdefault(name, key)
            if table[other] != table[key] and name in keys and name not in table:
                raise _two_rates(name, other, key, where)
    return {
        name: name if name in table else by_pattern.get(name, key) for name, key in keys.items()
    }


def _used(trained: Sequence[str], keys: Mapping[str, str]) -> set[str]:
    """Return the keys that some trained group takes its rate from."""
    decays = any(keys[name] == "backbone" and _distance(name, trained) for name in trained)
    return {*keys.values(), *(["decay"] if decays else [])}


def _distance(group: str, trained: Sequence[str]) -> int:
    """Return how many trained groups of the backbone lie between `group` and the heads."""
    backbone = [name for name in trained if not name.startswith("heads.")]
    return backbone[::-1].index(group)


def _unused(
    table: Mapping[str, float], trained: Sequence[str], keys: Mapping[str, str], where: str
) -> list[Problem]:
    used = _used(trained, keys)
    among = f"what trains in this phase is {', '.join(trained)}"
    problems = [
        Problem(
            _at(where, key),
            f"{key!r} has no effect: {among}{_taken(keys, key)}",
            "remove it, or train what it is for",
        )
        for key in table
        if key not in used
    ]
    if table.get("decay", 1.0) > 1:
        what = f"{table['decay']:g} makes rates grow towards the input"
        problems.append(Problem(f"{where}.decay", what, "use a factor of at most 1"))
    return problems


def _missing(table: Mapping[str, float], keys: Mapping[str, str], where: str) -> list[Problem]:
    return [
        Problem(
            where,
            f"{name} trains in this phase but the table gives it no learning rate",
            f"add {key}: RATE, or {name}: RATE",
        )
        for name, key in keys.items()
        if key not in table
    ]


def _taken(keys: Mapping[str, str], key: str) -> str:
    """Say where the groups that a key might have meant take their rates from instead."""
    side = {"heads": True, "backbone": False, "decay": False}.get(key)
    others = {
        other
        for name, other in keys.items()
        if side is not None and name.startswith("heads.") == side and other not in _RESERVED
    }
    return f", with rates from {', '.join(sorted(others))}" if others else ""


def _two_rates(group: str, first: str, second: str, where: str) -> SpecError:
    return SpecError(
        Problem(
            where,
            f"{first!r} and {second!r} give {group} different learning rates",
            f"let one of them leave it out, or add {group}: RATE",
        )
    )


def _at(where: str, key: str) -> str:
    """Return the path of a key; one with dots in it cannot stand in a path."""
    return where if "." in key else f"{where}.{key}"
