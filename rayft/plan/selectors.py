"""Which groups a pattern means: `heads`, `layer4`, `layer2..layer4`, `last 2`, `top 30%`, `middle`.

Positions and bands mean something in every backbone, so one spec can sweep several.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rayft.errors import Problem, SpecError
from rayft.plan.facts import ModelFacts

_POSITION = re.compile(r"^(first|last)\s+(\d+)$")
_SHARE = re.compile(r"^(bottom|top)\s+(\d+(?:\.\d+)?)\s*%$")
_BANDS = ("base", "middle", "top")


@dataclass(frozen=True, slots=True)
class GroupNames:
    """The names a pattern can choose from."""

    backbone: tuple[str, ...]
    """Depth groups, input side first."""
    heads: tuple[str, ...]
    """Label columns."""

    def all(self) -> tuple[str, ...]:
        """Return every group name, heads as `heads.NAME`, input side first."""
        return self.backbone + tuple(f"heads.{name}" for name in self.heads)


def group_names(facts: ModelFacts) -> GroupNames:
    """Return the names of a model's depth groups and heads."""
    return GroupNames(
        backbone=tuple(group.name for group in facts.groups),
        heads=tuple(head.name for head in facts.heads),
    )


def resolve_patterns(patterns: Sequence[str], names: GroupNames, *, where: str) -> tuple[str, ...]:
    """Return the groups that any of `patterns` means, input side first.

    Raises:
        SpecError: a pattern matches nothing; names the nearest ones.
    """
    chosen: set[str] = set()
    for index, pattern in enumerate(patterns):
        chosen.update(resolve_pattern(pattern, names, where=f"{where}.{index}"))
    return tuple(name for name in names.all() if name in chosen)


def resolve_pattern(
    pattern: str, names: GroupNames, *, where: str, also: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the groups that one pattern means.

    Args:
        pattern: a name, range, position, share or band.
        names: the groups there are.
        where: path of the pattern in the spec, for messages.
        also: other words that may stand there, which a misspelt one may have meant.

    Raises:
        SpecError: the pattern matches nothing.
    """
    text = pattern.strip()
    groups = names.backbone
    if text == "all":
        return names.all()
    if text == "heads":
        return tuple(f"heads.{name}" for name in names.heads)
    if text in names.all():
        return (text,)
    if ".." in text:
        return _range(text, groups, where)
    if text in _BANDS:
        return _band(text, groups, where)
    if match := _POSITION.match(text):
        return _take(groups, match[1] == "last", int(match[2]), where=where, text=text)
    if match := _SHARE.match(text):
        count = math.ceil(len(groups) * float(match[2]) / 100)
        return _take(groups, match[1] == "top", count, where=where, text=text)
    raise _unknown(text, names, where, near=[*names.all(), "heads", "all", *_BANDS, *also])


def _take(
    groups: tuple[str, ...], from_top: bool, count: int, *, where: str, text: str
) -> tuple[str, ...]:
    if not 1 <= count <= len(groups):
        raise SpecError(
            Problem(
                where,
                f"{text!r} asks for {count} groups; the backbone has {len(groups)}",
                f"ask for 1 to {len(groups)}",
            )
        )
    return groups[-count:] if from_top else groups[:count]


def _band(band: str, groups: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Cut the groups into three bands; the top band is never empty, then middle, then base."""
    top = math.ceil(len(groups) / 3)
    middle = math.ceil((len(groups) - top) / 2)
    base = len(groups) - top - middle
    bounds = {"base": (0, base), "middle": (base, base + middle), "top": (base + middle, None)}
    start, stop = bounds[band]
    if not groups[start:stop]:
        what = f"band {band!r} has no group; the backbone has {len(groups)}: {', '.join(groups)}"
        raise SpecError(Problem(where, what, "use top, a group, or 'all'"))
    return groups[start:stop]


def _range(text: str, groups: tuple[str, ...], where: str) -> tuple[str, ...]:
    first, _, last = (part.strip() for part in text.partition(".."))
    for name in (first, last):
        if name not in groups:
            raise _unknown(name, GroupNames(groups, ()), where, near=groups)
    start, stop = groups.index(first), groups.index(last)
    if start > stop:
        raise SpecError(
            Problem(
                where,
                f"range {text!r} runs backwards; {first} comes after {last}",
                f"write {last}..{first}",
            )
        )
    return groups[start : stop + 1]


def _unknown(text: str, names: GroupNames, where: str, *, near: Sequence[str]) -> SpecError:
    from difflib import get_close_matches

    found = get_close_matches(text, near, n=3)
    hint = f"did you mean {' or '.join(dict.fromkeys(found))}? " if found else ""
    return SpecError(
        Problem(
            where,
            f"{text!r} matches no group; groups are {', '.join(names.all())}",
            f"{hint}use a group, a range such as {names.backbone[0]}..{names.backbone[-1]}, "
            "'last 2', 'top 30%', a band (base, middle, top), 'heads' or 'all'",
        )
    )
