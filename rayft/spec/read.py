"""A strict subset of YAML: the value of a text, and the line of every path in it.

No tags, merge keys or repeated keys; `true` and `false` alone are truth values (so `no` and `on`
stay text), `1e-3` is a number and `007` is text.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import yaml

from rayft.errors import Problem, SpecError

Tree: TypeAlias = "bool | int | float | str | list[Tree] | dict[str, Tree] | None"
"""A spec as written, before it is checked."""

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


def read_text(path: Path) -> str:
    """Return the text of a spec file.

    Raises:
        SpecError: there is none, it is too large, or it is not UTF-8.
    """
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


def read_yaml(text: str, place: Callable[[int], str]) -> tuple[Tree, dict[str, int]]:
    """Return the value of a YAML text and the line of every path in it.

    Args:
        text: one YAML document.
        place: the words for a line, counted from 1, in errors.

    Raises:
        SpecError: the text is no YAML, or holds what is not taken here.
    """
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
