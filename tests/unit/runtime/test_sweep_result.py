"""What a sweep writes: complete, for scripts, and a best spec that can be trained."""

import json
import subprocess
import sys
from pathlib import Path

from rayft.plan.trials import Json, Point
from rayft.runtime.sweep_result import sweep_json, write_sweep_result
from rayft.runtime.sweep_table import make_table
from rayft.spec.load import load_spec
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from tests.unit.runtime.told import RUN, Trial, finished, head, made_up, run


def spec_of(point: Point, *, name: str, storage_path: str) -> RunSpec:
    decay = point.values.get("optimizer.weight_decay", 0.25)
    changed = {"name": name, "storage_path": storage_path}
    optimizer = {"kind": "adamw", "weight_decay": decay}
    return RunSpec.model_validate(RUN | changed | {"optimizer": optimizer})


def write(folder: Location, number: int = 8) -> dict[str, Json]:
    return write_sweep_result(
        folder, made_up(number), spec_of=spec_of, storage_path="~/there", seconds=12.5
    )


def test_the_result_is_what_the_file_holds(place: Location) -> None:
    returned = write(place)

    found = json.loads((place / "result.json").read_bytes())
    assert found == returned
    assert found["status"] == "finished"
    assert found["seconds"] == 12.5
    assert found["counts"] == {"finished": 5, "stopped": 1, "invalid": 1, "failed": 1}
    assert len(found["trials"]) == 8
    invalid = found["trials"][-1]
    assert (invalid["rank"], invalid["status"], invalid["value"]) == (None, "invalid", None)
    assert "expected less than 1" in invalid["reason"]
    for plot in found["plots"]:
        assert Location(plot).read_bytes().startswith(b"\x89PNG")


def test_the_best_of_the_result_is_the_first_trial(place: Location) -> None:
    found = json.loads(json.dumps(write(place)))

    first = found["trials"][0]
    assert found["best"] == {key: first[key] for key in found["best"]}
    assert found["best"]["checkpoint"].endswith("step-0000100")
    assert [len(first["curve"]), first["epochs"]] == [10, 10]
    assert first["curve"][4][:2] == [1, 1]


def test_the_best_spec_loads_under_a_name_of_its_own(tmp_path: Path) -> None:
    found = write(Location(str(tmp_path)))

    loaded = load_spec(tmp_path / "best.yaml").spec
    best = made_up(8).best
    assert best is not None
    assert loaded == spec_of(best.point, name="cifar-best", storage_path="~/there")
    assert found["best_spec"] == str(tmp_path / "best.yaml")
    text = (tmp_path / "best.yaml").read_text()
    assert f"trial {best.trial}" in text.splitlines()[0]


def test_a_long_name_still_leaves_room_for_the_best(tmp_path: Path) -> None:
    long = made_up(8)
    object.__setattr__(long.head, "name", "n" * 128)

    write_sweep_result(
        Location(str(tmp_path)), long, spec_of=spec_of, storage_path="there", seconds=1.0
    )

    assert load_spec(tmp_path / "best.yaml").spec.name == "n" * 123 + "-best"


def test_a_value_cannot_break_out_of_the_comment(tmp_path: Path) -> None:
    values = {"data.train.path": "a\nname: other"}
    trial = finished(Point(trial=0, values=values), 0.5)
    table = make_table(head(settings=["data.train.path"]), run(), [trial])

    write_sweep_result(
        Location(str(tmp_path)), table, spec_of=spec_of, storage_path="there", seconds=1.0
    )

    assert load_spec(tmp_path / "best.yaml").spec.name == "cifar-best"


def test_without_a_finished_trial_there_is_no_best_spec(place: Location) -> None:
    write(place)
    table = make_table(head(), run(), [Trial(Point(trial=trial, values={})) for trial in range(2)])

    found = write_sweep_result(place, table, spec_of=spec_of, storage_path="there", seconds=1.0)

    assert not (place / "best.yaml").exists()
    assert (found["best"], found["best_spec"], found["plots"]) == (None, None, [])
    assert found["status"] == "running"


def test_the_result_holds_no_number_that_json_does_not_know() -> None:
    text = json.dumps(sweep_json(made_up(24, direction="min")), allow_nan=False)

    assert json.loads(text)["direction"] == "min"


def test_what_draws_is_imported_only_to_draw() -> None:
    code = (
        "import sys, rayft.runtime.sweep_result, rayft.cli.show_sweep\n"
        "print({'matplotlib', 'optuna', 'torch'} & sys.modules.keys())"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
