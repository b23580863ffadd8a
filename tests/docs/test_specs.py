"""Every spec that the docs show can be loaded, and every part of one fits into a spec."""

from pathlib import Path

import pytest
import yaml

from rayft.spec.load import load_spec
from rayft.spec.load_sweep import load_sweep
from tests.docs.pages import ROOT, Found, all_pages, code_blocks

QUICKSTART = ROOT / "jobs" / "quickstart.yaml"
WHOLE = {"data", "model", "phases"}

BLOCKS = [b for page in all_pages() for b in code_blocks(page) if b.language == "yaml"]
SPECS = [block for block in BLOCKS if yaml.safe_load(block.text).keys() >= WHOLE]
SWEEPS = [block for block in BLOCKS if "space" in yaml.safe_load(block.text)]
PARTS = [block for block in BLOCKS if block not in SPECS + SWEEPS]


def test_the_docs_show_specs() -> None:
    assert len(SPECS) >= 1
    assert len(PARTS) >= 10


@pytest.mark.parametrize("block", SPECS, ids=str)
def test_a_whole_spec_loads(block: Found, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(block.text, encoding="utf-8")

    load_spec(file)


@pytest.mark.parametrize("block", SWEEPS, ids=str)
def test_a_sweep_loads_with_the_quickstart_as_its_run(block: Found, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(block.text, encoding="utf-8")

    load_sweep(file, [f"run={QUICKSTART}"])


@pytest.mark.parametrize("block", PARTS, ids=str)
def test_a_part_of_a_spec_loads_over_the_quickstart(block: Found, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    whole, part = yaml.compose(QUICKSTART.read_text(encoding="utf-8")), yaml.compose(block.text)
    _lay_over(whole, part)
    file.write_text(yaml.serialize(whole), encoding="utf-8")

    load_spec(file)


def _lay_over(whole: yaml.MappingNode, part: yaml.MappingNode) -> None:
    """Put the settings of `part` into `whole`; one that says its kind replaces what was there.

    Nodes rather than values, because PyYAML and rayft read `1e-3` differently.
    """
    place = {key.value: index for index, (key, _) in enumerate(whole.value)}
    for key, value in part.value:
        if key.value not in place:
            whole.value.append((key, value))
            continue
        index = place[key.value]
        old = whole.value[index][1]
        both = isinstance(old, yaml.MappingNode) and isinstance(value, yaml.MappingNode)
        if both and "kind" not in {inner.value for inner, _ in value.value}:
            _lay_over(old, value)
        else:
            whole.value[index] = (key, value)
