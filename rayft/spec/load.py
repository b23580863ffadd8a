"""From a YAML file and overrides to a checked spec; every complaint names file, line and path.

The YAML is a strict subset: no tags, merge keys or repeated keys; `true` and `false` alone are
truth values (so `no` and `on` stay text), `1e-3` is a number and `007` is text.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import ValidationError

from rayft.errors import Problem, SpecError
from rayft.spec.explain import explain, found_words
from rayft.spec.overrides import Tree, misread, set_value, split_override
from rayft.spec.reference import forms_at
from rayft.spec.run import RunSpec

_MOST_BYTES = 1_000_000
_MOST_ALIASES = 20
_MOST_DEPTH = 20
_MOST_VALUES = 100_000
"""Aliases of aliases can make a short file huge."""

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,399})")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_CONSTANTS: Mapping[str, Tree] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
    ".inf": float("inf"),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}


@dataclass(frozen=True, slots=True)
class LoadedSpec:
    """A checked spec, and where each of its settings was written."""

    spec: RunSpec
    lines: Mapping[str, int]
    """Line, from 1, of every path that stands in the file and was not overridden."""
    file: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    """The override that gave a path its value, for every path that one did."""


def load_spec(path: Path | str, overrides: Sequence[str] = ()) -> LoadedSpec:
    """Read and check a spec.

    Args:
        path: the YAML file.
        overrides: settings such as `phases.1.lr.heads=3e-3`, applied before checking.

    Raises:
        SpecError: the file, an override or a setting is wrong; holds one problem for each.
    """
    file = str(path)
    tree, lines = _read(_text(Path(path)), lambda line: f"{file}:{line}")
    if not isinstance(tree, dict):
        found = found_words(tree)
        what = f"expected settings such as `name: my-run`, found {found}"
        raise _error(f"{file}:1", what, "write some")
    return _finish(tree, lines, file, overrides)


def spec_from_data(data: Mapping[str, object], overrides: Sequence[str] = ()) -> RunSpec:
    """Return the spec that `model_dump(mode="json", by_alias=True)` gave, with overrides.

    Raises:
        SpecError: an override or a setting is wrong.
    """
    tree: dict[str, Tree] = json.loads(json.dumps(data))
    return _finish(tree, {}, "the saved spec", overrides).spec


def _finish(
    tree: dict[str, Tree], lines: dict[str, int], file: str, overrides: Sequence[str]
) -> LoadedSpec:
    given: dict[str, str] = {}
    for override in overrides:
        _apply(tree, override, lines, given)
    spec, problems = _check(tree)
    if spec is None or problems:
        places = [(_place(problem.where, lines, given, file), problem) for problem in problems]
        places.sort(key=lambda placed: placed[0][0])
        raise SpecError(*(Problem(where, p.what, p.fix) for (_, where), p in places))
    return LoadedSpec(spec, lines, file, given)


def _check(tree: dict[str, Tree]) -> tuple[RunSpec | None, list[Problem]]:
    try:
        spec = RunSpec.model_validate(tree)
    except ValidationError as error:
        return None, explain(error, tree)
    return spec, misread(tree, spec)


def locate(problem: Problem, loaded: LoadedSpec) -> Problem:
    """Put file and line before the spec path of a problem; one that is elsewhere stays as it is."""
    if not forms_at(problem.where.split(".")):
        return problem
    _, where = _place(problem.where, loaded.lines, loaded.overrides, loaded.file)
    return Problem(where, problem.what, problem.fix)


def _place(
    path: str, lines: Mapping[str, int], overrides: Mapping[str, str], file: str
) -> tuple[float, str]:
    """Return a sort key and the place in words, from the nearest enclosing path written."""
    enclosing = path
    while enclosing:
        if enclosing in overrides:
            text = overrides[enclosing]
            given = text.partition("=")[0]
            return float("inf"), f"override {text}" + ("" if path == given else f" {path}")
        if enclosing in lines:
            return lines[enclosing], f"{file}:{lines[enclosing]} {path}"
        enclosing = enclosing.rpartition(".")[0]
    return 0, f"{file} {path}".rstrip()


def _apply(
    tree: dict[str, Tree], override: str, lines: dict[str, int], given: dict[str, str]
) -> None:
    where = f"override {override}"
    keys, text = split_override(override)
    value, inner = _read(text, lambda _: where)
    path = ".".join(keys)
    for earlier in given.values():
        if f"{earlier.partition('=')[0]}.".startswith(f"{path}."):
            raise _error(where, f"it undoes the override {earlier}", "leave one of them out")
    set_value(tree, keys, value, where=where)
    for known in [known for known in lines if f"{known}.".startswith(f"{path}.")]:
        del lines[known]
    given |= {path: override, **{f"{path}.{key}": override for key in inner}}


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise _error(str(path), "there is no such file", "check the path") from None
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise _error(str(path), f"cannot be read: {reason}", "name a readable file") from None
    if len(content) > _MOST_BYTES:
        raise _error(
            str(path), f"larger than {_MOST_BYTES:,} bytes", "name a spec, not a data file"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _error(f"{path}:{line}", "not UTF-8 text", "save it as UTF-8") from None


def _error(where: str, what: str, fix: str) -> SpecError:
    return SpecError(Problem(where, what, fix))


class _Composer(yaml.SafeLoader):
    """Builds nodes, and refuses what makes YAML surprising or dangerous."""

    def __init__(self, text: str, place: Callable[[int], str]) -> None:
        super().__init__(text)
        self._place = place
        self._depth = self._num_aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # bare in types-PyYAML
        where = self._place(event.start_mark.line + 1)
        if getattr(event, "tag", None) is not None:
            raise _error(where, f"the tag {event.tag!r} is not taken here", "remove it")
        self._num_aliases += getattr(event, "anchor", None) is not None
        if self._num_aliases > _MOST_ALIASES:
            raise _error(
                where, f"more than {_MOST_ALIASES} anchors and aliases", "write the values out"
            )
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise _error(where, f"nested more than {_MOST_DEPTH} deep", "make it flatter")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _read(text: str, place: Callable[[int], str]) -> tuple[Tree, dict[str, int]]:
    """Return the value of a YAML text and the line of every path in it."""
    try:
        composer = _Composer(text, place)
        node = composer.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, place) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        what = f"the character {chr(error.character)!r} is not allowed in YAML"
        raise _error(place(line), what, "remove it") from None
    except (ValueError, OverflowError):
        # PyYAML lets escapes beyond Unicode (\UFFFFFFFF) and absurd %YAML versions through.
        raise _error(place(1), "not valid YAML: a number is too large", "remove it") from None
    builder = _Builder(place)
    return builder.build(node, ()) if node else None, builder.lines


def _syntax_error(error: yaml.MarkedYAMLError, place: Callable[[int], str]) -> SpecError:
    mark = error.problem_mark or error.context_mark
    where = place(mark.line + 1 if mark else 1)
    problem = error.problem or error.context or "it cannot be read"
    if "'\\t'" in problem:
        return _error(where, "a tab stands where only spaces may", "indent with spaces")
    context = f"{error.context}, " if error.context and error.problem else ""
    return _error(where, f"not valid YAML: {context}{problem}", "correct it, or quote the text")


class _Builder:
    """Turns nodes into plain values and notes their lines."""

    def __init__(self, place: Callable[[int], str]) -> None:
        self.lines: dict[str, int] = {}
        self._place = place
        self._num_values = 0

    def build(self, node: yaml.Node, path: tuple[str, ...]) -> Tree:
        line = node.start_mark.line + 1
        self._num_values += 1
        if self._num_values > _MOST_VALUES or len(path) >= _MOST_DEPTH:
            raise _error(self._place(line), "aliases make it endless or too large", "write it out")
        if path:
            self.lines.setdefault(".".join(path), line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, str(i))) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return node.value if node.style else _plain(node.value)

    def _mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> Tree:
        found: dict[str, Tree] = {}
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _error(self._place(line), "a list or section cannot be a key", "use text")
            name = key.value
            if name == "<<" and not key.style:
                raise _error(self._place(line), "merge keys (<<) are not taken", "write them out")
            if name in found:
                what = f"{name!r} stands twice, first in line {first[name]}"
                raise _error(self._place(line), what, "remove one of them")
            first[name] = line
            self.lines[".".join((*path, name))] = line
            found[name] = self.build(value, (*path, name))
        return found


def _plain(text: str) -> Tree:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
