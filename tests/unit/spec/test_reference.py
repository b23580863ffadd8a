"""The reference follows the models."""

import json
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

from rayft.spec.reference import (
    fields_of,
    form_of,
    forms_at,
    homes_of,
    reference_page,
    schema_json,
    sections,
    words,
)
from rayft.spec.run import RunSpec
from rayft.spec.sweep import SweepSpec
from rayft.spec.sweep_reference import sweep_page, sweep_schema_json


def test_every_setting_stands_on_the_page_and_is_described() -> None:
    page = reference_page()

    for model, paths in sections().items():
        for name, field in fields_of(model).items():
            assert f"| `{paths[0]}.{name}` |".replace("`.", "`") in page
            assert field.description or name == "kind", f"{model.__name__}.{name}"
    assert "| `phases.N.for` | text such as '2 epochs', '500 steps' or '30%' | required |" in page
    assert "Also at `data.validation` and `data.test`." in page


def test_every_pattern_is_told_in_words() -> None:
    for model in sections():
        for field in fields_of(model).values():
            assert "pattern" not in words(form_of(field)), field


def test_every_place_of_the_page_is_a_path_of_the_spec() -> None:
    for model, paths in sections().items():
        for path in paths:
            keys = path.replace("N", "0").replace("0AME", "label").split(".") if path else []
            assert all(forms_at([*keys, name]) for name in fields_of(model))


def test_words_tell_type_choices_and_limits() -> None:
    def told(path: str) -> str:
        return words(forms_at(path.split("."))[0])

    assert told("ema.decay") == "a number above 0 and below 1"
    assert told("gradient_clip") == "a number above 0 or null"
    assert told("precision") == "auto, fp32 or bf16"
    assert told("scaling.use_gpu") == "true, false or auto"
    assert told("optimizer") == "a section of kind adamw or sgd"
    assert told("augment.0.scale") == "a list of 2, each item a number above 0"
    assert told("phases") == (
        "a list of at least 1, each item a section with name, train, for, until, lr, schedule, "
        "image_size and unfreeze"
    )
    assert forms_at(["phases", "0", "rate"]) == []
    assert homes_of("momentum") == ["optimizer.momentum of kind sgd"]


def test_the_schema_describes_every_top_level_setting_under_its_written_name() -> None:
    text = schema_json()

    schema = json.loads(text)
    assert text.endswith("}\n")
    assert set(schema["properties"]) == set(fields_of(RunSpec))
    # Pydantic leaves out a description that the section itself has.
    assert all("description" in entry or "$ref" in entry for entry in schema["properties"].values())
    assert "for" in schema["$defs"]["PhaseSpec"]["properties"]
    assert schema_json() == text


def test_the_page_of_sweeps_has_every_setting_of_a_sweep() -> None:
    page = sweep_page()

    for model, paths in sections(SweepSpec).items():
        for name, field in fields_of(model).items():
            assert f"| `{paths[0]}.{name}` |".replace("`.", "`") in page
            assert field.description or name == "kind", f"{model.__name__}.{name}"
            assert "pattern" not in words(form_of(field)), field
    assert "| a YAML file or the settings of a run | required |" in page


def test_the_schema_of_sweeps_takes_what_the_loader_takes() -> None:
    checker = Draft202012Validator(json.loads(sweep_schema_json()))
    cases = yaml.safe_load(Path(__file__).with_name("bad_sweeps.yaml").read_text())
    good = yaml.safe_load(cases["good"])
    inside = {key: value for key, value in yaml.safe_load(cases["run"]).items() if key != "name"}
    inside["phases"][0]["lr"] = 0.01

    checker.validate(good)
    checker.validate(good | {"run": inside, "space": {"seed": {"choice": [1, 2]}}})
    assert not checker.is_valid(good | {"run": {**inside, "colour": "red"}})
    assert not checker.is_valid(good | {"space": {"seed": {"choise": [1, 2]}}})
    assert not checker.is_valid(good | {"search": {"kind": "grid", "num_trials": 3}})
