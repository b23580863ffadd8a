"""Settings outside the file: overrides from the command line, and specs written and compared."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import yaml

from rayft.errors import Problem, SpecError
from rayft.spec.base import Spec
from rayft.spec.explain import found_words
from rayft.spec.read import Tree
from rayft.spec.reference import (
    Form,
    as_section,
    branches,
    fields_of,
    forms_at,
    homes_of,
    listed,
    names_in,
    words,
)
from rayft.spec.run import RunSpec


def split_override(
    text: str, *, root: type[Spec] = RunSpec, shown: str = ""
) -> tuple[tuple[str, ...], str]:
    """Return the keys and the value of `phases.1.lr=3e-3`.

    Args:
        text: the override.
        root: the model of the whole spec.
        shown: the override as the user wrote it, where that was longer.

    Raises:
        SpecError: it is not of this form, or the spec knows no such setting.
    """
    where = f"override {shown or text}"
    path, equals, value = text.partition("=")
    keys = tuple(path.strip().split("."))
    if not equals or not all(keys):
        raise SpecError(Problem(where, "expected PATH=VALUE", "write such as seed=1"))
    check_path(keys, where=where, root=root)
    return keys, value


def check_path(keys: tuple[str, ...], *, where: str, root: type[Spec] = RunSpec) -> None:
    """Refuse a path that a spec does not know.

    Args:
        keys: the path.
        where: what named it, for errors.
        root: the model of the whole spec.

    Raises:
        SpecError: there is no such setting; names the nearest ones.
    """
    for length in range(1, len(keys) + 1):
        if not forms_at(keys[:length], root):
            raise SpecError(_unknown(keys, length - 1, where=where, root=root))


def _unknown(keys: tuple[str, ...], place: int, *, where: str, root: type[Spec]) -> Problem:
    """Tell which key of a path is wrong, with the nearest right path."""
    names = [name for form in forms_at(keys[:place], root) for name in names_in(form)]
    what = f"there is no setting {'.'.join(keys[: place + 1])!r}"
    for near in get_close_matches(keys[place], names, n=3):
        path = (*keys[:place], near, *keys[place + 1 :])
        if forms_at(path, root):
            return Problem(where, what, f"did you mean {'.'.join(path)}?")
    above = ".".join(keys[:place])
    if homes := homes_of(keys[-1], root):
        return Problem(where, what, f"did you mean {listed(homes[:3])}?")
    if names:
        here = f"in {above}" if above else "of a spec"
        return Problem(where, what, f"settings {here} are {listed(names, last='and')}")
    if forms_at((*keys[:place], "0"), root):
        return Problem(where, what, f"{above} is a list: use an index from 0, such as {above}.0")
    return Problem(where, what, f"set {above} itself; it has no settings inside")


def set_value(tree: dict[str, Tree], keys: Sequence[str], value: Tree, *, where: str) -> None:
    """Set one value in place; sections that are left out or null are begun.

    A section that has a default of some kind (`optimizer`) is begun with that kind, so that
    `optimizer.weight_decay=0.01` changes the default rather than losing it.

    Args:
        tree: the spec as written.
        keys: a path that the spec knows.
        value: the new value.
        where: the override, for errors.

    Raises:
        SpecError: an index is out of range, or the path leads through a plain value.
    """
    parent: Tree = tree
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(parent, list):
            index = _index(parent, keys[: depth + 1], where)
            if last:
                parent[index] = value
            parent = parent[index]
        elif isinstance(parent, dict):
            if last:
                parent[key] = value
            elif parent.get(key) is None:
                parent[key] = _begun(keys[: depth + 1])
            parent = parent[key]
        else:
            raise SpecError(_no_section(keys, depth, parent, where))


def _index(items: list[Tree], keys: Sequence[str], where: str) -> int:
    if keys[-1].isdecimal() and int(keys[-1]) < len(items):
        return int(keys[-1])
    path = ".".join(keys[:-1])
    fix = f"use 0 to {len(items) - 1}" if items else f"set {path} to a list"
    raise SpecError(Problem(where, f"{path} has {len(items)} items, and none at {keys[-1]}", fix))


def _no_section(keys: Sequence[str], depth: int, found: Tree, where: str) -> Problem:
    path, rest = ".".join(keys[:depth]), ".".join(keys[depth:])
    what = f"{path} is {found!r}, so nothing can be set inside it"
    return Problem(where, what, f"set it as a whole: {path}={{{rest}: ...}}")


def _begun(keys: Sequence[str]) -> Tree:
    """Return the section or list to begin with where none was written."""
    defaults = [_default(form, keys[-1]) for form in forms_at(keys[:-1])]
    if any(isinstance(default, dict) for default in defaults):
        # Of names of the user's own choice: any name is allowed there, "0" too.
        return {}
    forms = forms_at(keys)
    if forms_at((*keys, "0")) and not any(names_in(form) for form in forms):
        return []
    for default in defaults:
        if kind := getattr(default, "kind", None):
            return {"kind": kind}
    return {}


def _default(form: Form, key: str) -> object:
    for branch in branches(form):
        section: type[Spec] | None = as_section(branch)
        if section is not None and key in fields_of(section):
            return fields_of(section)[key].default
    return None


class _Dumper(yaml.SafeDumper):
    """Writes text without quotes only where every YAML reader takes it for text."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./ -]*(?<! )", text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)


def dump_spec(spec: RunSpec) -> str:
    """Return the whole spec as YAML, defaults included, that loads back to an equal spec."""
    return dump_tree(spec.model_dump(mode="json", by_alias=True))


def dump_tree(tree: dict[str, Tree]) -> str:
    """Return settings as YAML that reads back to the same values."""
    return yaml.dump(
        tree,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )


def misread(raw: object, spec: Spec) -> list[Problem]:
    """Return a problem for each text or truth value that pydantic turned into something else.

    `nesterov: yes` is text in this YAML, and pydantic would take it for true.
    """
    read = spec.model_dump(mode="json", by_alias=True)
    return [_misread(*found, type(spec)) for found in _retyped(raw, read, ())]


def _retyped(
    raw: object, read: object, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str | bool, object]]:
    """Yield path, text or truth value as written, and what it became."""
    if isinstance(raw, dict) and isinstance(read, dict):
        for key in raw:
            if key in read:
                yield from _retyped(raw[key], read[key], (*path, key))
    elif isinstance(raw, list) and isinstance(read, list):
        for index, (old, new) in enumerate(zip(raw, read, strict=True)):
            yield from _retyped(old, new, (*path, str(index)))
    elif isinstance(raw, str | bool) and type(read) in {str, bool, int, float} - {type(raw)}:
        yield path, raw, read


def _misread(path: tuple[str, ...], raw: str | bool, read: object, root: type[Spec]) -> Problem:
    expected = listed([words(form) for form in forms_at(path, root)][:1])
    quoted = ", without quotes" if isinstance(raw, str) else ""
    fix = "write true or false" if isinstance(read, bool) else f"write a number{quoted}"
    return Problem(".".join(path), f"expected {expected}, found {found_words(raw)}", fix)


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that two specs give different values; None where one has no such setting."""

    path: str
    old: str | int | float | bool | None
    new: str | int | float | bool | None


def spec_differences(old: RunSpec, new: RunSpec) -> tuple[Difference, ...]:
    """Return the settings that differ, in the order of the spec; null counts as not set."""
    return data_differences(
        old.model_dump(mode="json", by_alias=True), new.model_dump(mode="json", by_alias=True)
    )


def data_differences(old: object, new: object) -> tuple[Difference, ...]:
    """Return the places at which two trees of plain values differ, in their order."""
    before, after = dict(_flat(old, "")), dict(_flat(new, ""))
    paths = list(dict.fromkeys([*before, *after]))
    found = [Difference(path, before.get(path), after.get(path)) for path in paths]
    return tuple(item for item in found if (type(item.old), item.old) != (type(item.new), item.new))


def _flat(value: object, path: str) -> Iterator[tuple[str, str | int | float | bool | None]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{index}")
    else:
        assert value is None or isinstance(value, str | int | float | bool)
        yield path, value
