"""Whatever a file holds, loading gives a spec or a SpecError."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rayft.errors import SpecError
from rayft.spec.load import load_spec, spec_from_data

GOOD = yaml.safe_load(Path(__file__).with_name("bad_specs.yaml").read_text())["good"]
MARKS = [*":-[]{}#|'\"%@?0", "&a ", "*a", "!!int ", "<<: ", "---\n", ": ", "- ", "? ", "\t", "\n"]
WORDS = ["null", "true", "-1", "1e999", ".nan", "kind", "data", "lr: {a: {b: 1}}", "phases: {}"]
PIECES = st.sampled_from([*MARKS, *WORDS, "\x00", "\ud7ff", "\U0001f600"])
WRONG = [None, True, -1, 1.5, math.inf, "", "x", [], [1], [[]], {}, {"kind": 1}, {"x": {}}]


def told_of(path: Path, *overrides: str) -> str | None:
    try:
        load_spec(path, overrides)
    except SpecError as error:
        return str(error)
    return None


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Cut pieces out of a good spec, move them, and put others in."""
    text = GOOD
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 20) | st.just(0))
        piece = draw(PIECES | st.text(max_size=4) | st.just(text[first : first + length]))
        place = draw(st.integers(0, len(text)))
        if draw(st.booleans()):
            text = text[:first] + text[first + length :]
        text = text[:place] + piece + text[place:]
    return text


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=mutated())
@example(text='name: "\\ud800"')
@example(text="? : x")
@example(text="name: " + "9" * 5000)
@example(text="%YAML " + "9" * 5000 + ".0\n---\nname: a")
@example(text="[" * 2000)
@example(text="data: {train: {kind: [csv]}}")
@example(text="data: {train: {kind: {a: b}, path: x}, validation: {kind: null}}")
@example(text="model: {heads: {1: 2, ~: 3, true: 4}}")
@example(text="phases: [null, 1, [], {}, {lr: []}]")
def test_any_text_gives_a_spec_or_a_spec_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))

    told = told_of(path)

    assert told is None or told.encode()


OVERRIDES = st.sampled_from(
    ["phases.0.lr", "ema", "ema.decay", "data.validation", "model.heads", "x", "augment.0", "seed"]
)


@settings(max_examples=100, deadline=None)
@given(
    path=OVERRIDES | st.text(max_size=8),
    value=PIECES | st.text(max_size=8) | st.sampled_from(["{a: 1}", "[1]", "{kind: csv}"]),
)
def test_any_override_gives_a_spec_or_a_spec_error(
    tmp_path_factory: pytest.TempPathFactory, path: str, value: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "good.yaml"
    file.write_text(GOOD)

    told = told_of(file, f"{path}={value}")

    assert told is None or told.encode()


def containers(value: Any) -> Iterator[Any]:
    """Walk over every list and section."""
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from containers(inner)


def test_any_value_at_any_place_gives_a_spec_or_a_spec_error(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    whole = load_spec(path, ["ema.decay=0.9", "augment=[{kind: rotation, degrees: 9}]"]).spec
    data = whole.model_dump(mode="json", by_alias=True)
    num_refused = num_tried = 0

    for place, container in enumerate(containers(data)):
        for key in container if isinstance(container, dict) else range(len(container)):
            for wrong in WRONG:
                changed = copy.deepcopy(data)
                list(containers(changed))[place][key] = wrong
                num_tried += 1
                num_refused += is_refused(changed)

    assert num_tried > 700
    assert num_refused > 0.7 * num_tried


def is_refused(data: dict[str, Any]) -> bool:
    try:
        spec_from_data(data)
    except SpecError as error:
        return bool(str(error))
    return False
