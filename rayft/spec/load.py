"""From a YAML file and overrides to a checked spec; every complaint names file, line and path."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from rayft.errors import Problem, SpecError
from rayft.spec.base import Spec
from rayft.spec.explain import explain, found_words
from rayft.spec.overrides import misread, set_value, split_override
from rayft.spec.read import Tree, read_text, read_yaml
from rayft.spec.reference import forms_at
from rayft.spec.run import RunSpec

Checked = TypeVar("Checked", bound=Spec)


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
    return _finish(read_draft(RunSpec, Path(path)), overrides)


def spec_from_data(data: Mapping[str, object], overrides: Sequence[str] = ()) -> RunSpec:
    """Return the spec that `model_dump(mode="json", by_alias=True)` gave, with overrides.

    Raises:
        SpecError: an override or a setting is wrong.
    """
    tree: dict[str, Tree] = json.loads(json.dumps(data))
    return _finish(Draft(RunSpec, "the saved spec", tree), overrides).spec


def spec_from_values(run: RunSpec, values: Mapping[tuple[str, ...], Tree]) -> RunSpec:
    """Return a run with other values; only what was written in `run` counts as written.

    So `optimizer.kind` can be changed where the rest of the optimizer was left to its defaults.

    Args:
        run: a checked spec.
        values: by path; set in this order.

    Raises:
        SpecError: a path leads nowhere in this run, or the spec refuses a value. A problem's
            `where` is a path of the spec.
    """
    tree: dict[str, Tree] = run.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for keys, value in values.items():
        set_value(tree, keys, json.loads(json.dumps(value)), where=".".join(keys))
    spec, problems = check(tree, RunSpec)
    if spec is None or problems:
        raise SpecError(*problems)
    return spec


def _finish(draft: "Draft[RunSpec]", overrides: Sequence[str]) -> LoadedSpec:
    for override in overrides:
        keys, text = split_override(override)
        draft.override(keys, text, shown=override)
    spec = draft.checked()
    return LoadedSpec(spec, draft.lines, draft.file, draft.given)


def check(tree: dict[str, Tree], root: type[Checked]) -> tuple[Checked | None, list[Problem]]:
    """Return the spec that a tree holds, None where there is none, and all that is wrong with it.

    Args:
        tree: the whole spec as written.
        root: the model of a whole spec.
    """
    try:
        spec = root.model_validate(tree)
    except ValidationError as error:
        return None, explain(error, tree, root)
    return spec, misread(tree, spec)


def locate(problem: Problem, loaded: LoadedSpec) -> Problem:
    """Put file and line before the spec path of a problem; one that is elsewhere stays as it is."""
    written = Draft(RunSpec, loaded.file, {}, dict(loaded.lines), dict(loaded.overrides))
    return written.locate(problem)


def read_draft(root: type[Checked], path: Path) -> "Draft[Checked]":
    """Read a file that should hold the settings of a `root`.

    Raises:
        SpecError: the file cannot be read, or holds no settings.
    """
    tree, lines = read_yaml(read_text(path), lambda line: f"{path}:{line}")
    if not isinstance(tree, dict):
        what = f"expected settings such as `name: my-run`, found {found_words(tree)}"
        raise SpecError(Problem(f"{path}:1", what, "write some"))
    return Draft(root, str(path), tree, lines)


@dataclass(slots=True)
class Draft(Generic[Checked]):
    """A spec as written, with the place of every setting."""

    root: type[Checked]
    """The model of the whole spec."""
    file: str
    tree: dict[str, Tree]
    lines: dict[str, int] = field(default_factory=dict)
    """Line, from 1, of every path that stands in the file and was not overridden."""
    given: dict[str, str] = field(default_factory=dict)
    """The override that gave a path its value, as the user wrote it."""
    inside: str = ""
    """What stands before every path in the file, where the spec is a section of another: `run.`."""
    called: str = ""
    """What stands before every path in overrides."""

    def override(self, keys: Sequence[str], text: str, *, shown: str) -> None:
        """Set one value.

        Args:
            keys: a path that the spec knows.
            text: the value as YAML.
            shown: the whole override, for errors.

        Raises:
            SpecError: the text is no YAML, the value has no place, or it undoes another override.
        """
        where, path = f"override {shown}", ".".join(keys)
        value, inner = read_yaml(text, lambda _: where)
        for earlier in self.given.values():
            if f"{self._path_of(earlier)}.".startswith(f"{path}."):
                what = f"it undoes the override {earlier}"
                raise SpecError(Problem(where, what, "leave one of them out"))
        set_value(self.tree, keys, value, where=where)
        for known in [known for known in self.lines if f"{known}.".startswith(f"{path}.")]:
            del self.lines[known]
        self.given |= {path: shown, **{f"{path}.{key}": shown for key in inner}}

    def checked(self) -> Checked:
        """Return the spec.

        Raises:
            SpecError: something is wrong with it; the problems stand in the order of the file.
        """
        spec, problems = check(self.tree, self.root)
        if spec is None or problems:
            raise SpecError(*self.placed(problems))
        return spec

    def placed(self, problems: Sequence[Problem]) -> Iterator[Problem]:
        """Put file and line before the path of each problem, and sort them by line."""
        placed = [(self._place(problem.where), problem) for problem in problems]
        placed.sort(key=lambda pair: pair[0][0])
        return (Problem(where, problem.what, problem.fix) for (_, where), problem in placed)

    def locate(self, problem: Problem) -> Problem:
        """Do so for one problem, unless it does not lie in the spec."""
        if not forms_at(problem.where.split("."), self.root):
            return problem
        return next(self.placed([problem]))

    def _place(self, path: str) -> tuple[float, str]:
        """Return a sort key and the place in words, from the nearest enclosing path written."""
        enclosing = path
        while enclosing:
            if text := self.given.get(enclosing):
                inner = "" if path == self._path_of(text) else f" {self.called}{path}"
                return float("inf"), f"override {text}{inner}"
            if line := self.lines.get(enclosing):
                return line, f"{self.file}:{line} {self.inside}{path}"
            enclosing = enclosing.rpartition(".")[0]
        return 0, f"{self.file} {self.inside}{path}".rstrip()

    def _path_of(self, override: str) -> str:
        return override.partition("=")[0].strip().removeprefix(self.called)
