"""From pydantic's errors to sentences that say what was expected, what was found, and the fix.

A union without `kind` makes pydantic report every alternative; here the one that fits what was
written best is checked again by itself, and only its errors are told.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher, get_close_matches

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from rayft.errors import Problem
from rayft.spec.base import Spec
from rayft.spec.reference import (
    Form,
    branches,
    choices,
    forms_at,
    homes_of,
    inner_forms,
    kinds,
    listed,
    names_in,
    words,
)
from rayft.spec.run import RunSpec

_MOST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class _Fault:
    """A pydantic error at its place in the spec."""

    error: ErrorDetails
    path: tuple[str, ...]
    form: Form
    """What was expected at the place; None where nothing may stand."""
    parent: Form
    """What was expected around it."""
    raw: object
    """What was written there."""
    at_union: bool = False
    """The error lies in or below a union without kinds, at this place."""

    @property
    def key(self) -> str:
        return self.path[-1] if self.path else ""


def explain(error: ValidationError, raw: object, root: type[Spec] = RunSpec) -> list[Problem]:
    """Return a problem for everything that pydantic found wrong with a whole spec.

    Args:
        error: what `root.model_validate(raw)` raised.
        raw: the spec as written.
        root: the model of the whole spec.

    Returns:
        Problems whose `where` is a path in the spec.
    """
    faults = list(_faults(error, root, raw, ()))
    misspelt = {
        (fault.path[:-1], near)
        for fault in faults
        if fault.error["type"] == "extra_forbidden"
        for near in _near(fault.key, names_in(fault.parent))
    }
    # A misspelt key is one mistake: do not also report the right key as missing.
    told = [
        fault
        for fault in faults
        if fault.error["type"] != "missing" or (fault.path[:-1], fault.key) not in misspelt
    ]
    return list(dict.fromkeys(_problem(fault, root) for fault in told))


def _faults(
    error: ValidationError, form: Form, raw: object, path: tuple[str, ...]
) -> Iterator[_Fault]:
    unions: set[tuple[str, ...]] = set()
    for detail in error.errors(include_url=False):
        fault = _place(detail, form, raw, path)
        if not fault.at_union:
            if not _is_echo(detail):
                yield fault
        elif fault.path not in unions:
            unions.add(fault.path)
            yield from _union_faults(fault)


def _place(detail: ErrorDetails, form: Form, raw: object, path: tuple[str, ...]) -> _Fault:
    """Follow an error's location, up to the first union without kinds."""
    parent: Form = None
    for part in detail["loc"]:
        if known := kinds(form):
            form = known.get(str(part))
            continue
        if len(branches(form)) > 1:
            return _Fault(detail, path, form, parent, raw, at_union=True)
        parent, (form, *_) = form, [*inner_forms(form, str(part)), None]
        raw, path = _child(raw, part), (*path, str(part))
    return _Fault(detail, path, form, parent, raw)


def _child(raw: object, part: str | int) -> object:
    if isinstance(raw, dict):
        return raw.get(part)
    if isinstance(raw, list) and isinstance(part, int) and part < len(raw):
        return raw[part]
    return None


def _is_echo(detail: ErrorDetails) -> bool:
    """Whether a list is called too short only because its items were wrong."""
    least = detail.get("ctx", {}).get("min_length", 0)
    return detail["type"] == "too_short" and len(detail["input"]) >= least


def _union_faults(fault: _Fault) -> Iterator[_Fault]:
    branch = _best_branch(fault.form, fault.raw)
    if branch is not None:
        try:
            TypeAdapter(branch).validate_python(fault.raw)
        except ValidationError as error:
            yield from _faults(error, branch, fault.raw, fault.path)
            return
    yield replace(fault, error={**fault.error, "type": "union", "input": fault.raw})


def _best_branch(form: Form, raw: object) -> Form:
    """Return the alternative that what was written fits best; None where it fits none."""
    if isinstance(raw, dict):
        return _best_section(branches(form), raw)
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        numbers = [branch for branch in branches(form) if _is_number(branch)]
        return numbers[0] if numbers else None
    return None


def _is_number(form: Form) -> bool:
    return words(form).startswith(("a number", "a whole number"))


def _best_section(forms: Sequence[Form], raw: Mapping[str, object]) -> Form:
    tables = [form for form in forms if words(form).startswith("a table")]
    scored = [(_fit(form, raw), form) for form in forms]
    best, section = max(scored, key=lambda pair: pair[0])
    return section if best else next(iter(tables), None)


def _fit(form: Form, raw: Mapping[str, object]) -> float:
    """Add up how well the keys match those of a section."""
    if kinds(form):
        return 100.0 if "kind" in raw else 0.0
    names = names_in(form)
    near = [(key, _near(key, names)) for key in raw]
    return sum(SequenceMatcher(None, key, found[0]).ratio() for key, found in near if found)


def _near(word: str, names: Sequence[str]) -> list[str]:
    return get_close_matches(word, names, n=1)


def found_words(value: object) -> str:
    """Say what was written: `the number 3`, `a list of 2`."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            shown = value if len(value) <= _MOST_SHOWN else f"{value[:_MOST_SHOWN]}..."
            return f"the text {shown!r}"
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict() if value:
            return f"a section with {listed([str(key) for key in value][:8], last='and')}"
        case _:
            return "an empty section"


def _problem(fault: _Fault, root: type[Spec]) -> Problem:
    match fault.error["type"]:
        case "missing":
            what, fix = _missing(fault)
        case "extra_forbidden":
            what, fix = _unknown_key(fault, root)
        case "union_tag_invalid" | "union_tag_not_found":
            return _wrong_kind(fault)
        case "value_error":
            return _refused(fault, root)
        case _:
            value = fault.error["input"]
            what, fix = (
                f"expected {words(fault.form)}, found {found_words(value)}",
                _fix(fault, value),
            )
    return Problem(".".join(fault.path), what, fix)


def _missing(fault: _Fault) -> tuple[str, str]:
    if fault.key.isdecimal():
        found = found_words(fault.error["input"])
        return f"expected {words(fault.parent)}, found {found}", "add the missing values"
    return "required, and not given", f"add {fault.key}: {words(fault.form)}"


def _unknown_key(fault: _Fault, root: type[Spec]) -> tuple[str, str]:
    names = names_in(fault.parent)
    what = f"there is no setting {fault.key!r} here"
    if near := _near(fault.key, names):
        return what, f"did you mean {near[0]}?"
    if homes := homes_of(fault.key, root):
        return what, f"move it to {listed(homes[:3])}, or remove it"
    return what, f"remove it; settings here are {listed(names, last='and')}"


def _wrong_kind(fault: _Fault) -> Problem:
    known = list(kinds(fault.form))
    path = ".".join((*fault.path, "kind"))
    if fault.error["type"] == "union_tag_not_found":
        what = "required, and not given"
        return Problem(path, what, f"add kind: {listed(known)}")
    tag = str(fault.error["ctx"]["tag"])
    what = f"there is no kind {tag!r}"
    hint = "".join(f"did you mean {near}? " for near in _near(tag, known))
    return Problem(path, what, f"{hint}{'kinds are' if hint else 'use'} {listed(known)}")


def _refused(fault: _Fault, root: type[Spec]) -> Problem:
    """Tell what a rule of the models said; its fix stands behind the first semicolon."""
    what, _, fix = str(fault.error["ctx"]["error"]).partition("; ")
    inner = ((*fault.path, *word.split(".")) for word in what.split())
    path = next((path for path in inner if forms_at(path, root)), fault.path)
    return Problem(".".join(path), what, fix or "correct this value")


def _fix(fault: _Fault, value: object) -> str:
    expected = words(fault.form)
    if isinstance(value, str) and (near := _near(value, choices(fault.form))):
        return f"did you mean {near[0]}?"
    match fault.error["type"]:
        case "union":
            return "write one of these"
        case "string_type" if isinstance(value, int | float) and "such as" not in expected:
            return f'put it in quotes: "{found_words(value).removeprefix("the number ")}"'
        case "tuple_type" if isinstance(value, str | int | float):
            return f"put it in brackets: [{value}]"
        case "model_type" | "model_attributes_type" | "dict_type" if value is None:
            return "write its settings under it, or remove it"
        case "model_attributes_type":
            return f"write a section such as {{kind: {next(iter(kinds(fault.form)))}, ...}}"
        case _:
            return f"write {expected}"
