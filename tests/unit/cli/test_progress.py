"""What people see while a run trains."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from rayft.cli.plan_json import plan_json
from rayft.cli.show_plan import plan_lines
from rayft.plan.run_plan import RunPlan
from tests.unit.plan.conftest import model_facts, planned

__all__ = ["model_facts", "planned"]

Planned = Callable[..., RunPlan]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_plan_names_every_group_rate_and_reason(planned: Planned) -> None:
    text = "\n".join(plan_lines(planned()))

    for words in (
        "100 train, 20 validation",
        "torchvision/resnet18 at 32 px",
        "10 rows a step = 1 worker x 1 shard x 10 rows; 11 steps an epoch",
        "enough for",
        "phase 1/2  probe: 22 steps in 2 epochs, cosine; 55 parameters train, 600 are frozen",
        "stem .. layer4",
        "phase 2/2  finetune: 15 steps in 2 epochs",
        "at 0.00015",
    ):
        assert words in text.replace("103 train", "100 train"), words
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_the_plan_as_json_holds_what_the_text_says(planned: Planned) -> None:
    found = plan_json(planned())

    assert found["steps_per_epoch"] == 11
    phases = found["phases"]
    assert isinstance(phases, list)
    assert [phase["steps"] for phase in phases] == [22, 15]


def test_the_plan_says_where_images_are_augmented(planned: Planned) -> None:
    crop = {"augment": [{"kind": "random_resized_crop"}]}

    here, there = planned(**crop), planned(**crop, augment_on="device")

    line = "\naugment    on the host, where batches are made, as augment_on says\n"
    assert line in "\n".join(plan_lines(here))
    line = (
        "\naugment    on the workers' cpu, as augment_on says; images travel as they are stored, "
        "at 37 px\n"
    )
    assert line in "\n".join(plan_lines(there))
    assert [plan_json(plan)["augment_on"] for plan in (here, there)] == ["host", "device"]
    assert "\naugment    nothing to do\n" in "\n".join(plan_lines(planned()))


def test_the_plan_says_how_many_rows_are_left_out(planned: Planned) -> None:
    plan = planned(
        data={
            "train": {"kind": "folder", "path": "photos"},
            "validation": {"fraction": 0.2},
            "leave_out": "list.csv",
        }
    )
    plan = replace(plan, data=replace(plan.data, num_left_out=1200))

    data = plan_json(plan)["data"]
    assert "decoded; 1,200 left out\n" in "\n".join(plan_lines(plan))
    assert isinstance(data, dict)
    assert data["left_out"] == 1200
    assert "left out" not in "\n".join(plan_lines(planned()))


@pytest.mark.parametrize(
    ("channels", "words"), [(1, "decoded, grey"), (3, "decoded"), (5, "decoded, 5 channels")]
)
def test_the_plan_says_which_channels_rows_have(
    planned: Planned, channels: int, words: str
) -> None:
    plan = planned()
    plan = replace(plan, model=replace(plan.model, mean=(0.5,) * channels))

    (line,) = [line for line in plan_lines(plan) if line.startswith("data ")]

    assert line.endswith(words)


def test_the_plan_says_where_maps_become_smaller(planned: Planned) -> None:
    plan = planned()
    groups = [
        replace(group, map_size=size)
        for group, size in zip(plan.model.groups, (16, 16, 0, 4, 4), strict=True)
    ]
    plan = replace(plan, model=replace(plan.model, groups=tuple(groups)))

    model = plan_json(plan)["model"]
    assert "\nmaps       16 px from stem, 4 px from layer3\n" in "\n".join(plan_lines(plan))
    assert isinstance(model, dict)
    assert model["maps"] == {"stem": 16, "layer1": 16, "layer3": 4, "layer4": 4}
    assert "\nmaps" not in "\n".join(plan_lines(planned()))


@pytest.mark.filterwarnings("ignore")
def test_lines_come_at_intervals_where_there_is_no_terminal(
    planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rayft.cli.progress import Progress

    clock, text = Clock(), io.StringIO()
    console = Console(file=text, width=200)
    with Progress(console, clock=clock) as progress:
        progress.on_plan(planned())
        before = len(text.getvalue())
        progress.on_event({"kind": "phase", "index": 0, "name": "probe", "step": 0})
        for step in range(1, 22):
            clock.now += 1
            progress.on_event(
                {
                    "kind": "progress",
                    "phase": "probe",
                    "phase_index": 0,
                    "epoch": 1,
                    "step": step,
                    "loss": 0.5,
                    "lr": {"heads.label": 0.01},
                    "rows_per_s": 123.4,
                    "wait_fraction": 0.25,
                }
            )

    lines = text.getvalue()[before:].splitlines()
    assert len(lines) == 2
    for words in ("probe", "epoch 1/2", "step 10/22", "loss 0.5000", "lr 1.00e-02", "123 rows/s"):
        assert words in lines[0]
    assert "waiting 25%" in lines[0]
    assert "left 0:" in lines[0]


def time_left(plan: RunPlan) -> str:
    """Return what is said to be left after ten seconds, and the first eleven steps."""
    from rayft.cli.progress import Progress

    clock, text = Clock(), io.StringIO()
    with Progress(Console(file=text, width=200), clock=clock) as progress:
        progress.on_plan(plan)
        progress.on_event({"kind": "phase", "index": 0, "name": "probe", "step": 0})
        clock.now += 10
        epoch = {"phase": "x", "phase_index": 0, "epoch": 1, "step": 11, "best": False}
        progress.on_event({"kind": "epoch", "metrics": {}, **epoch})
    return text.getvalue().rpartition("left ")[2].strip()


def test_the_time_left_knows_what_steps_of_other_sizes_cost(planned: Planned) -> None:
    phases = [
        {"name": "small", "train": ["all"], "for": "1 epochs", "lr": 0.01, "image_size": 16},
        {"name": "whole", "train": ["all"], "for": "1 epochs", "lr": 0.01},
    ]

    assert time_left(planned(phases=phases)) == "0:40"


def test_the_time_left_knows_that_frozen_layers_do_not_run_again(planned: Planned) -> None:
    phases = [
        {"name": "tune", "train": ["heads", "last 1"], "for": "1 epochs", "lr": 0.01},
        {"name": "probe", "train": ["heads"], "for": "1 epochs", "lr": 0.01},
    ]
    plan = planned(phases=phases)
    whole = time_left(plan)
    tune, probe = plan.phases
    assert probe.prefix is not None
    kept = replace(probe, prefix=replace(probe.prefix, keeps=True))

    assert whole != "0:00"
    assert time_left(replace(plan, phases=(tune, kept))) < whole


def test_what_had_to_be_done_to_weights_is_said() -> None:
    from rayft.cli.progress import Progress

    console = Console(file=io.StringIO(), width=200)
    with Progress(console) as progress:
        for notes in ([], ["conv1.weight for 4 channels made of 3: the first 3 kept"]):
            progress.on_event({"kind": "weights", "source": "file a.pth", "notes": notes})

    said = console.file.getvalue()
    assert said == "weights: conv1.weight for 4 channels made of 3: the first 3 kept\n"


def test_other_rows_at_once_are_told(planned: Planned) -> None:
    from rayft.cli.progress import Progress

    text = io.StringIO()
    changed = {"kind": "changed", "setting": "rows_per_device", "before": 2048, "now": 64}

    with Progress(Console(file=text, width=200)) as progress:
        progress.on_event(changed)

    assert text.getvalue() == "rows_per_device is 64 from here on; it was 2048\n"
