"""Settings and their values in few words, for tables and axes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rayft.plan.trials import Json

_LONGEST = 24
"""Letters of a value that is written out; a longer one gets a number."""
_SAY_LITTLE = frozenset({"name", "kind", "path", "file"})
"""Keys that do not say what they belong to."""
LEFT_OUT = "-"
"""Stands where a trial's spec does not have the setting."""


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Return the shortest ending of each path that no other path shares.

    `phases.0.lr` becomes `lr`, and beside `phases.1.lr` it stays `phases.0.lr`: an ending never
    begins with an index. `model.backbone.name` becomes `backbone.name`: `name` says too little.
    """
    return {path: _shortest(path, [other for other in paths if other != path]) for path in paths}


def _shortest(path: str, others: Sequence[str]) -> str:
    keys = path.split(".")
    for start in range(len(keys) - 1, 0, -1):
        ending = ".".join(keys[start:])
        if keys[start].isdecimal() or ending in _SAY_LITTLE:
            continue
        if not any(f".{other}".endswith(f".{ending}") for other in others):
            return ending
    return path


@dataclass(frozen=True, slots=True)
class ValueWords:
    """The values of one setting in words that tell them apart."""

    numbered: Mapping[str, str]
    """Word, as in `#2`, of each value that is too long to write out, by its text."""

    def word(self, value: Json) -> str:
        """Return a value in a few letters."""
        text = value_text(value)
        return self.numbered.get(text, text)

    def legend(self) -> dict[str, str]:
        """Return what each number stands for."""
        return {word: text for text, word in self.numbered.items()}


def words_for(values: Iterable[Json]) -> ValueWords:
    """Return words for the values of one setting; long ones are numbered as they come."""
    texts = dict.fromkeys(map(value_text, values))
    long = [text for text in texts if len(text) > _LONGEST]
    return ValueWords({text: f"#{number}" for number, text in enumerate(long, start=1)})


def value_text(value: Json) -> str:
    """Return a value as one would write it in the YAML: numbers to three digits."""
    match value:
        case None | bool():
            return json.dumps(value)
        case float():
            return f"{value:.3g}"
        case str() | int():
            return str(value)
        case Mapping():
            inner = ", ".join(f"{key}: {value_text(item)}" for key, item in value.items())
            return f"{{{inner}}}"
        case _:
            return f"[{', '.join(map(value_text, value))}]"
