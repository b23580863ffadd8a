"""Whatever a file holds, loading gives a spec or a SpecError."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rayft.errors import SpecError
from rayft.spec.load import load_spec

GOOD = yaml.safe_load(Path(__file__).with_name("bad_specs.yaml").read_text())["good"]
PIECES = st.sampled_from(
    [
        "\t",
        "\n",
        " ",
        ":",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "!!int ",
        "<<: ",
        "#",
        "|\n",
    ]
    + ["'", '"', "%", "@", "? ", "---\n", "null", "true", "-1", "1e999", ".nan", "\x00", "\ud7ff"]
    + ["kind", "data", "validation: {kind: x}", "lr: {a: {b: 1}}", "phases: {}", "\U0001f600", "0"]
)


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

    try:
        load_spec(path)
    except SpecError as error:
        assert str(error).encode()
        assert error.problems


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

    try:
        load_spec(file, [f"{path}={value}"])
    except SpecError as error:
        assert all(problem.where for problem in error.problems)
