import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rayft.errors import ClusterError, SpecError
from rayft.plan.facts import ModelFacts, Speeds
from rayft.plan.run_plan import PhasePlan, RunPlan, make_plan
from tests.unit.plan.conftest import FAST, cluster, data, spec

Planned = Callable[..., RunPlan]


def test_steps_cover_every_row_and_phases_follow_each_other(planned: Planned) -> None:
    plan = planned()

    probe, finetune = plan.phases

    assert plan.steps_per_epoch == 11
    assert plan.rows_of_step(10) == slice(100, 103)
    assert (probe.num_steps, probe.first_step, probe.first_epoch) == (22, 0, 0)
    assert (finetune.num_steps, finetune.first_step, finetune.first_epoch) == (15, 22, 2)
    assert finetune.num_epochs == 2


def experiment(phase: PhasePlan) -> tuple[object, ...]:
    """Return what a phase does, and not how long its frozen layers are expected to take."""
    views = phase.prefix and (phase.prefix.cut, phase.prefix.views)
    return replace(phase, prefix=None), views


@pytest.mark.parametrize("num_workers", [0, 1, 2, 5])
def test_the_experiment_does_not_depend_on_the_workers(planned: Planned, num_workers: int) -> None:
    plan = planned(scaling={"num_workers": num_workers})

    assert [experiment(phase) for phase in plan.phases] == [
        experiment(phase) for phase in planned().phases
    ]
    assert plan.steps_per_epoch == 11
    assert plan.batches.num_shards * plan.batches.rows_per_shard == 10


def test_an_image_that_the_device_augments_is_held_beside_its_row(planned: Planned) -> None:
    """It is 37 pixels high and wide: 8/7 of 32, for the crop."""
    crop = {"augment": [{"kind": "random_resized_crop"}]}

    here, there = planned(**crop), planned(**crop, augment_on="device")

    for one, other in zip(here.phases, there.phases, strict=True):
        assert other.memory.per_row - one.memory.per_row == 37 * 37 * 3
        assert other.memory.fixed == one.memory.fixed


def test_an_image_that_the_device_augments_has_its_channels(model_facts: ModelFacts) -> None:
    model = replace(model_facts, mean=(0.5,) * 6, std=(0.5,) * 6)
    flips = {"augment": [{"kind": "horizontal_flip"}]}
    here, there = (
        make_plan(
            spec(**flips, augment_on=on), model=model, data=data(), cluster=cluster(), speeds=FAST
        )
        for on in ("host", "device")
    )

    more = there.phases[0].memory.per_row - here.phases[0].memory.per_row

    assert more == 32 * 32 * 6


def test_augmenting_on_a_device_without_wide_numbers_is_refused(
    model_facts: ModelFacts,
) -> None:
    flips = {"augment": [{"kind": "horizontal_flip"}]}
    where = {"data": data(), "cluster": cluster(device="mps"), "speeds": FAST}

    make_plan(spec(**flips), model=model_facts, **where)
    with pytest.raises(SpecError) as caught:
        make_plan(spec(**flips, augment_on="device"), model=model_facts, **where)

    assert str(caught.value) == (
        "augment_on: device needs numbers of 64 bits, and the workers compute on mps, which has "
        "none\n  fix: use augment_on: host"
    )


MIRRORS = [
    {"kind": "random_crop", "padding": 40, "padding_mode": "reflect"},
    {"kind": "gaussian_blur", "kernel_size": 99},
]


@pytest.mark.parametrize("augment_on", ["host", "device"])
def test_a_border_that_an_image_cannot_mirror_is_refused(planned: Planned, augment_on: str) -> None:
    with pytest.raises(SpecError) as caught:
        planned(augment=MIRRORS, augment_on=augment_on)

    assert str(caught.value) == (
        "augment.0.padding: 40 pixels cannot be mirrored from an image of 32 pixels\n"
        "  fix: set it to 31 or less, or set padding_mode to constant\n"
        "augment.1.kernel_size: half of 99 pixels cannot be mirrored from an image of 32 pixels\n"
        "  fix: set it to 63 or less"
    )


def test_a_phase_scales_its_images_after_their_borders_were_mirrored(planned: Planned) -> None:
    mirrors = {"kind": "random_crop", "padding": 31, "padding_mode": "reflect"}

    planned(augment=[mirrors], phases=smaller(16))


def test_a_plan_travels_to_workers(planned: Planned) -> None:
    plan = planned()

    assert pickle.loads(pickle.dumps(plan)) == plan


def test_more_workers_than_the_cluster_reaches_are_refused(planned: Planned) -> None:
    with pytest.raises(ClusterError) as caught:
        planned(scaling={"num_workers": 10})

    assert "10 workers need 10 CPUs; the cluster reaches 8" in str(caught.value)


def test_gpus_that_are_not_there_are_refused(planned: Planned) -> None:
    with pytest.raises(ClusterError, match="2 workers need 2 GPUs; the cluster reaches 0"):
        planned(scaling={"num_workers": 2, "use_gpu": True})


def test_workers_that_an_autoscaler_can_bring_are_waited_for(planned: Planned) -> None:
    plan = planned(scaling={"num_workers": 10}, max_cpus=32.0)

    assert plan.resources.must_wait
    assert "can reach 32" in plan.warnings[0]


def test_a_cluster_that_does_not_say_is_waited_for_with_a_warning(planned: Planned) -> None:
    plan = planned(
        scaling={"num_workers": 10, "resources_per_worker": {"CPU": 2}},
        max_cpus=None,
        max_gpus=None,
    )

    assert plan.resources.must_wait
    assert "does not say what it can reach" in plan.warnings[0]


def test_cpus_are_shared_equally_and_become_threads(planned: Planned) -> None:
    resources = planned(scaling={"num_workers": 2}).resources

    assert (resources.cpus_per_worker, resources.threads_per_worker) == (4, 4)
    assert resources.free_cpus == 0


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_exact_reduction_computes_with_as_many_threads_on_any_number_of_workers(
    planned: Planned, num_workers: int
) -> None:
    plan = planned(
        scaling={"num_workers": num_workers},
        reduction="exact",
        global_batch_size=12,
    )

    assert plan.resources.threads_per_worker == 1


@pytest.mark.parametrize(
    ("changes", "kind", "reason"),
    [
        ({}, "in_process", "enough for"),
        ({"ingest": "in_process"}, "in_process", "asked for"),
        (
            {"scaling": {"num_workers": 2, "resources_per_worker": {"CPU": 2}}, "slow": True},
            "ray_data",
            "4 CPUs are free",
        ),
        ({"scaling": {"num_workers": 2}, "slow": True}, "in_process", "0 are left"),
    ],
)
def test_ingest_is_chosen_by_measured_cost_and_free_cpus(
    planned: Planned, changes: dict[str, Any], kind: str, reason: str
) -> None:
    slow = changes.pop("slow", False)
    speeds = Speeds(
        prepare_rows_per_s=100 if slow else 1e6, fp32_rows_per_s=100, bf16_rows_per_s=None
    )

    plan = planned(speeds=speeds, **changes)

    assert plan.ingest.kind == kind
    assert reason in plan.ingest.reason


def test_ray_data_without_a_free_cpu_is_refused_because_it_would_hang(planned: Planned) -> None:
    with pytest.raises(SpecError, match="0 CPUs are left beside them"):
        planned(ingest="ray_data", scaling={"num_workers": 2})


@pytest.mark.parametrize(
    ("bf16", "measured", "wanted", "expected"),
    [
        (True, None, "auto", "bf16"),
        (False, None, "auto", "fp32"),
        (True, 150.0, "auto", "bf16"),
        (True, 50.0, "auto", "fp32"),
        (True, 50.0, "bf16", "bf16"),
        (True, None, "fp32", "fp32"),
    ],
)
def test_precision_is_the_faster_one_unless_asked_for(
    planned: Planned, bf16: bool, measured: float | None, wanted: str, expected: str
) -> None:
    speeds = Speeds(prepare_rows_per_s=1e6, fp32_rows_per_s=100, bf16_rows_per_s=measured)

    assert planned(speeds=speeds, cpu_bf16=bf16, precision=wanted).precision == expected


@pytest.mark.parametrize(
    ("use_gpu", "facts", "expected", "reason"),
    [
        (False, {"cpu_bf16": False, "gpu_bf16": True}, "fp32", "no instructions for bf16"),
        (False, {"cpu_bf16": True, "gpu_bf16": False}, "fp32", "50 rows/s in bf16, 100 in fp32"),
        (True, {"cpu_bf16": False, "gpu_bf16": True}, "bf16", "has instructions for it"),
        (True, {"cpu_bf16": True, "gpu_bf16": False}, "fp32", "no instructions for bf16"),
    ],
)
def test_precision_is_chosen_for_the_device_that_is_planned(
    planned: Planned, use_gpu: bool, facts: dict[str, Any], expected: str, reason: str
) -> None:
    slow_in_bf16 = Speeds(prepare_rows_per_s=1e6, fp32_rows_per_s=100, bf16_rows_per_s=50)
    scaling = {"num_workers": 1, "use_gpu": use_gpu}

    plan = planned(speeds=slow_in_bf16, gpus=1.0, max_gpus=1.0, scaling=scaling, **facts)

    assert plan.precision == expected
    assert reason in plan.precision_reason


@pytest.mark.parametrize("cpu_bf16", [True, False])
def test_a_gpu_that_has_not_come_is_taken_to_have_bf16_and_the_plan_says_so(
    planned: Planned, cpu_bf16: bool
) -> None:
    scaling = {"num_workers": 2, "use_gpu": True}

    plan = planned(max_gpus=None, cpu_bf16=cpu_bf16, gpu_bf16=None, scaling=scaling)

    assert (plan.resources.device, plan.precision) == ("cuda", "bf16")
    assert "no GPU has come yet" in plan.precision_reason
    assert "set precision: fp32" in plan.precision_reason


def test_gpus_that_torch_cannot_compute_on_are_refused_unless_they_are_left_alone(
    planned: Planned,
) -> None:
    there = {"gpus": 1.0, "max_gpus": 1.0, "unusable_gpus": ("node a (10.0.0.1, 0a744054)",)}

    assert planned(scaling={"num_workers": 1, "use_gpu": False}, **there).resources.device == "cpu"
    with pytest.raises(ClusterError, match=r"node a .*: Ray counts GPUs there .*\n.*NVIDIA driver"):
        planned(scaling={"num_workers": 1, "use_gpu": True}, **there)


def test_rows_that_do_not_fit_are_accumulated(planned: Planned) -> None:
    plan = planned(global_batch_size=12, rows_per_device=4)

    assert plan.batches.shards_per_worker == 3
    assert plan.batches.rows_per_shard == 4


def test_a_model_too_large_for_the_memory_is_refused(planned: Planned) -> None:
    with pytest.raises(SpecError, match="one row needs about"):
        planned(memory_bytes=2**29)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_norm": "sync"}, "sync runs on GPUs only"),
        ({"batch_norm": "local", "reduction": "exact", "global_batch_size": 12}, "excludes"),
        ({"device": "cpu", "scaling": {"use_gpu": True}}, "leaves them idle"),
    ],
)
def test_what_contradicts_itself_is_refused(
    planned: Planned, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        planned(**changes)


def test_random_weights_are_said_out_loud(planned: Planned, model_facts: Any) -> None:
    from rayft.plan.run_plan import make_plan
    from tests.unit.plan.conftest import FAST, cluster, data, spec

    plan = make_plan(
        spec(),
        model=replace(model_facts, pretrained=False),
        data=data(),
        cluster=cluster(),
        speeds=FAST,
    )

    assert "RANDOM" in plan.warnings[0]


def smaller(size: int) -> list[dict[str, Any]]:
    return [
        {"name": "small", "train": ["all"], "for": "2 epochs", "lr": 0.01, "image_size": size},
        {"name": "whole", "train": ["all"], "for": "1 epochs", "lr": 0.01},
    ]


def test_a_phase_at_smaller_images_needs_less_memory(planned: Planned) -> None:
    small, whole = planned(phases=smaller(16)).phases

    assert (small.image_size, whole.image_size) == (16, 32)
    assert small.memory.fixed == whole.memory.fixed
    # Its images come whole, as bytes, and are scaled on the device.
    pixels = 3 * 32**2
    assert (small.memory.per_row - pixels) * 4 == whole.memory.per_row - pixels


@pytest.mark.parametrize("size", [32, 64])
def test_a_phase_at_no_smaller_images_is_refused(planned: Planned, size: int) -> None:
    with pytest.raises(SpecError) as caught:
        planned(phases=smaller(size))

    assert f"phases.0.image_size: {size} is not smaller than the 32 px" in str(caught.value)


FIRST_TRAINS = {"name": "all", "train": ["all", "heads"], "for": "1 epochs", "lr": 0.01}
FIRST_RESTS = {"name": "some", "train": ["last 2", "heads"], "for": "1 epochs", "lr": 0.01}


@pytest.mark.parametrize(
    ("channels", "phase", "weights", "warns"),
    [
        (4, FIRST_RESTS, "DEFAULT", True),
        (6, FIRST_RESTS, {"file": "rgb.safetensors"}, True),
        (4, FIRST_TRAINS, "DEFAULT", False),
        (1, FIRST_RESTS, "DEFAULT", False),
        (3, FIRST_RESTS, "DEFAULT", False),
        (4, FIRST_RESTS, {"checkpoint": "a run of four channels"}, False),
    ],
)
def test_channels_that_are_never_seen_are_said(
    model_facts: ModelFacts, channels: int, phase: dict[str, Any], weights: Any, warns: bool
) -> None:
    backbone = {"kind": "torchvision", "name": "resnet18", "weights": weights}
    heads = {"label": {"kind": "classification"}}
    asked = spec(phases=[phase], model={"backbone": backbone, "heads": heads})
    model = replace(model_facts, mean=(0.5,) * channels, std=(0.5,) * channels)

    plan = make_plan(asked, model=model, data=data(), cluster=cluster(), speeds=FAST)

    found = [warning for warning in plan.warnings if "not seen" in warning]
    assert bool(found) == warns
    if warns:
        assert "channel 4 is" in found[0] or "channels 4 to 6 are" in found[0]
        assert "trains `stem`" in found[0]


def test_a_row_of_more_channels_takes_more_memory(
    model_facts: ModelFacts,
) -> None:
    needed = []
    for channels in (1, 3, 6):
        model = replace(model_facts, mean=(0.5,) * channels, std=(0.5,) * channels)
        plan = make_plan(spec(), model=model, data=data(), cluster=cluster(), speeds=FAST)
        needed.append(plan.phases[0].memory.per_row)

    assert needed[1] - needed[0] == 2 * 32**2 * 5
    assert needed[2] - needed[1] == 3 * 32**2 * 5
