"""What a setting may be in the trials of a sweep: `loguniform(1e-4, 1e-1)`, `choice([a, b])`."""

import json
import math
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, TypeAlias, TypeGuard

from pydantic import BeforeValidator, Field, JsonValue

from rayft.errors import SpecError
from rayft.spec.base import Positive, Spec
from rayft.spec.read import Tree, read_yaml

EXAMPLES = (
    "uniform(0, 0.5)",
    "loguniform(1e-4, 1e-1)",
    "int(1, 8)",
    "choice([a, b])",
)
_CALL = re.compile(r"\s*([^\s()]*)\s*\((.*)\)\s*", re.DOTALL)


class Uniform(Spec):
    """A number between two others, each as likely as the next."""

    uniform: tuple[float, float]
    """Lowest and highest value."""


class LogUniform(Spec):
    """A number between two others, its logarithm as likely as the next: for learning rates."""

    loguniform: tuple[Positive, Positive]
    """Lowest and highest value."""


class WholeNumber(Spec):
    """A whole number."""

    ends: tuple[int, int] = Field(alias="int")
    """Lowest and highest value; both can occur."""


class Choice(Spec):
    """One of the values listed: numbers, texts, lists or whole sections."""

    choice: tuple[JsonValue, ...] = Field(min_length=1)
    """The values, each one different from the others."""


AnyDomain: TypeAlias = Uniform | LogUniform | WholeNumber | Choice
_NAMES = ("uniform", "loguniform", "int", "choice")


def read_domain(raw: object) -> object:
    """Return the domain that was written, as text or as a mapping from its name.

    Raises:
        ValueError: it is none; says what is wrong and, behind a semicolon, what to write.
    """
    if isinstance(raw, Uniform | LogUniform | WholeNumber | Choice):
        return raw
    name, values = _taken_apart(raw)
    match name:
        case "choice":
            return Choice(choice=tuple(_choices(values)))
        case "int":
            low, high = _ends(name, values, whole=True)
            return WholeNumber(int=(int(low), int(high)))
        case "uniform":
            return Uniform(uniform=_ends(name, values))
        case "loguniform":
            return LogUniform(loguniform=_ends(name, values))
        case _:
            near = get_close_matches(str(name), _NAMES, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"there is no domain {name!r}; {hint}domains are {_listed(_NAMES)}")


def _taken_apart(raw: object) -> tuple[object, object]:
    """Return the name of a domain and what it was given."""
    if isinstance(raw, str):
        return _called(raw)
    if isinstance(raw, dict) and len(raw) == 1:
        return next(iter(raw.items()))
    raise ValueError(f"expected a domain, found {_shown(raw)}; {_instead(raw)}")


def _called(text: str) -> tuple[str, Tree]:
    """Take `name(a, b)` apart; what stands in the brackets is YAML."""
    match = _CALL.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a domain, found {_shown(text)}; {_instead(text)}")
    try:
        values, _ = read_yaml(f"[{match[2]}]", lambda _: text)
    except SpecError as error:
        problem = error.problems[0]
        what = problem.what.replace(";", ",")
        raise ValueError(f"{_shown(text)} cannot be read: {what}; {problem.fix}") from None
    if match[1] == "choice" and isinstance(values, list):
        return match[1], values[0] if len(values) == 1 else None
    return match[1], values


def _choices(values: object) -> Sequence[JsonValue]:
    if not isinstance(values, list | tuple) or not values:
        raise ValueError("choice([...]) needs a list of values; write such as choice([0, 0.1])")
    seen: dict[str, JsonValue] = {}
    for value in values:
        key = canonical(value)
        if key in seen:
            raise ValueError(f"{_shown(value)} stands twice among the choices; remove one of them")
        seen[key] = value
    return values


def _ends(name: str, values: object, *, whole: bool = False) -> tuple[float, float]:
    numbers = list(values) if isinstance(values, list | tuple) else []
    kind = "whole numbers" if whole else "numbers"
    if len(numbers) != 2 or not all(_is_number(number, whole=whole) for number in numbers):
        example = next(text for text in EXAMPLES if text.startswith(name))
        raise ValueError(f"{name}(low, high) needs two {kind}; write such as {example}")
    low, high = numbers
    if low >= high:
        fix = f"write {name}({high}, {low})" if low > high else "remove it, and set the value"
        raise ValueError(f"{low} is not below {high} in {name}({low}, {high}); {fix}")
    if name == "loguniform" and low <= 0:
        raise ValueError(
            f"the logarithm of {low} does not exist in {name}({low}, {high}); "
            "begin above 0, or use uniform"
        )
    return low, high


def _is_number(value: object, *, whole: bool) -> TypeGuard[int | float]:
    if isinstance(value, float):
        return not whole and math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _instead(raw: object) -> str:
    if isinstance(raw, list):
        return "write it as {choice: [...]}"
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return f"write such as choice([{raw}, ...]), or set it in the run"
    return f"write such as {', '.join(EXAMPLES)}"


def _listed(items: Sequence[str]) -> str:
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."


def canonical(value: object) -> str:
    """Return a text that is equal for equal values: 1 and 1.0 are, 1 and true are not.

    Args:
        value: anything that JSON can hold.

    Raises:
        ValueError: a number in it is not finite.
    """
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: object) -> object:
    match value:
        case dict():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case float() if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number; write one that is")
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


Domain = Annotated[
    AnyDomain,
    BeforeValidator(read_domain, json_schema_input_type=str | AnyDomain),
    Field(title="a domain", examples=list(EXAMPLES)),
]
"""What a setting may be: text such as `uniform(0, 1)`, or a mapping such as `{choice: [...]}`."""


def values_of(domain: AnyDomain) -> Sequence[JsonValue] | None:
    """Return every value of a domain in order; None where there is no end of them."""
    match domain:
        case Choice():
            return domain.choice
        case WholeNumber():
            low, high = domain.ends
            return range(low, high + 1)
        case Uniform() | LogUniform():
            return None


def size_of(domain: AnyDomain) -> int | None:
    """Return how many values a domain has; None where there is no end of them."""
    match domain:
        case Choice():
            return len(domain.choice)
        case WholeNumber(ends=(low, high)):
            return high - low + 1
        case Uniform() | LogUniform():
            return None


def holds(domain: AnyDomain, value: object) -> bool:
    """Return whether a value is one of the domain's."""
    match domain:
        case Choice():
            return canonical(value) in map(canonical, domain.choice)
        case WholeNumber(ends=(low, high)):
            return _is_number(value, whole=True) and low <= value <= high
        case Uniform(uniform=(low, high)) | LogUniform(loguniform=(low, high)):
            return _is_number(value, whole=False) and low <= value <= high
