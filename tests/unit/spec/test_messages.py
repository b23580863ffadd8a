"""The whole text of the error for every case of bad_specs.yaml."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rayft.errors import SpecError
from rayft.spec.load import load_spec

TABLE = yaml.safe_load(Path(__file__).with_name("bad_specs.yaml").read_text())


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["case"])
def test_a_wrong_spec_is_told_in_words(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    piece = case.get("replace", "")
    assert piece in TABLE["good"]
    Path("run.yaml").write_text(TABLE["good"].replace(piece, case.get("by", ""), 1))

    with pytest.raises(SpecError) as caught:
        load_spec(Path("run.yaml"), case.get("overrides", ()))

    assert f"{caught.value}\n" == case["message"]
    assert caught.value.exit_code == 2
    for problem in caught.value.problems:
        assert problem.where
        assert problem.what
        assert problem.fix


def test_the_spec_that_the_cases_spoil_is_good(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(TABLE["good"])

    assert load_spec(tmp_path / "run.yaml").spec.name == "run"
    assert len(TABLE["cases"]) > 80
