"""Strict YAML, the lines of settings, and the places of later problems."""

from pathlib import Path

import pytest

from rayft.errors import Problem, SpecError
from rayft.spec.load import load_spec, locate, spec_from_data
from rayft.spec.overrides import spec_differences

GOOD = """\
name: run
data:
  train:
    kind: python
    function: package.module:rows
    args: {value: VALUE}
model:
  backbone: {kind: torchvision, name: resnet18}
  heads: {label: &head {kind: classification}}
phases:
  - name: probe
    train: [heads]
    for: 2 epochs
    lr: {heads: 1e-3}
  - name: finetune
    train:
      - heads
      - last 2
    for: 1 epochs
    lr: 1e-4
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-2.5E+3", -2500.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("12", 12),
        ("-0", 0),
        ("true", True),
        ("false", False),
        *[(word, word) for word in ("yes", "no", "on", "off", "True", "FALSE", "y")],
        *[
            (word, word)
            for word in ("007", "0x10", "1_000", "12:30:45", "2024-01-01", "NULL", "e3")
        ],
        ("'true'", "true"),
        ('"1e-3"', "1e-3"),
    ],
)
def test_plain_values_mean_what_they_look_like(
    tmp_path: Path, text: str, value: str | float | bool
) -> None:
    spec = load_spec(write(tmp_path, GOOD.replace("VALUE", text))).spec

    found = spec.data.train.args["value"]
    assert (type(found), found) == (type(value), value)


def test_every_path_knows_its_line(tmp_path: Path) -> None:
    loaded = load_spec(write(tmp_path, GOOD))

    paths = ("name", "data.train.args.value", "phases", "phases.0", "phases.0.lr.heads")
    assert [loaded.lines[path] for path in paths] == [1, 6, 10, 11, 14]
    assert [loaded.lines[f"phases.1.train{end}"] for end in ("", ".0", ".1")] == [16, 17, 18]


def test_later_problems_are_placed_at_the_nearest_written_setting(tmp_path: Path) -> None:
    loaded = load_spec(write(tmp_path, GOOD), ["phases.0.lr={heads: 0.1}", "ema.decay=0.9"])

    def where(path: str) -> str:
        placed = locate(Problem(path, "what", "fix"), loaded)
        assert (placed.what, placed.fix) == ("what", "fix")
        return placed.where.replace(loaded.file, "FILE")

    assert where("phases.1.train") == "FILE:16 phases.1.train"
    assert where("phases.1.schedule") == "FILE:15 phases.1.schedule"
    assert where("phases.0.lr") == "override phases.0.lr={heads: 0.1}"
    assert where("phases.0.lr.heads") == "override phases.0.lr={heads: 0.1} phases.0.lr.heads"
    assert where("ema.decay") == "override ema.decay=0.9"
    assert where("rows_per_device") == "FILE rows_per_device"
    assert where("step 12") == "step 12"
    assert where("/data/rows.csv") == "/data/rows.csv"


def test_an_alias_is_a_copy(tmp_path: Path) -> None:
    text = GOOD.replace("lr: {heads: 1e-3}", "lr: &rates {heads: 1e-3}")
    path = write(tmp_path, text.replace("lr: 1e-4", "lr: *rates"))

    spec = load_spec(path, ["phases.1.lr.heads=5"]).spec

    assert [phase.lr for phase in spec.phases] == [{"heads": 1e-3}, {"heads": 5.0}]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert load_spec(write(tmp_path, "\ufeff" + GOOD)).spec.name == "run"


def test_aliases_of_aliases_do_not_fill_the_memory(tmp_path: Path) -> None:
    rows = ["a0: &a0 [" + "x, " * 2000 + "]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 4)}]" for i in range(1, 4)]
    rows += ["a4: [*a3, *a3, *a3, *a3]"]

    with pytest.raises(SpecError, match="endless or too large"):
        load_spec(write(tmp_path, "\n".join(rows)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "FILE:1: expected settings such as `name: my-run`, found nothing\n  fix: write some"),
        (b"- a\n", "FILE:1: expected settings such as `name: my-run`, found a list of 1\n  fix: "),
        (b"name: a\nb: \xff\n", "FILE:2: not UTF-8 text\n  fix: save it as UTF-8"),
        (
            b"#" * 1_000_001,
            "FILE: larger than 1,000,000 bytes\n  fix: name a spec, not a data file",
        ),
    ],
)
def test_a_file_that_is_no_spec_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)

    with pytest.raises(SpecError) as caught:
        load_spec(path)

    assert str(caught.value).replace(str(path), "FILE").startswith(message)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nothing\.yaml: there is no such file"):
        load_spec(tmp_path / "nothing.yaml")
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        load_spec(tmp_path)


def test_a_saved_spec_is_read_from_its_data(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, GOOD)).spec
    data = spec.model_dump(mode="json", by_alias=True)

    changed = spec_from_data(data, ["scaling.num_workers=0", "phases.0.lr.heads=1"])

    assert spec_from_data(data) == spec
    assert [found.path for found in spec_differences(spec, changed)] == [
        "phases.0.lr.heads",
        "scaling.num_workers",
    ]
    assert data["scaling"]["num_workers"] == 1
    with pytest.raises(SpecError, match=r"^the saved spec name: required"):
        spec_from_data({key: value for key, value in data.items() if key != "name"})


def test_infinity_is_a_number_and_refused_where_settings_are_finite(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"found the number -inf"):
        load_spec(write(tmp_path, GOOD.replace("1e-4", "-.inf")))
