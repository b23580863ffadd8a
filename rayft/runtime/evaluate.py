"""`rayft evaluate`: the figures of a checkpoint, from the checkpoint alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from rayft.engine.build import load_evaluated_weights, new_model
from rayft.engine.checkpoint_reading import Checkpoint, find_checkpoint, read_checkpoint
from rayft.engine.device import Device, repeat_to_the_bit
from rayft.engine.evaluation import evaluate as evaluate_rows
from rayft.engine.ports import Json, OneRank
from rayft.errors import CheckpointError, Problem
from rayft.feed.feed import InProcessFeed
from rayft.metrics import ClassificationReport
from rayft.plan.facts import Speeds, SplitName
from rayft.plan.prefix import prefix_rows
from rayft.plan.run_plan import RunPlan
from rayft.runtime.preflight import OnRows, places_of, plan_prepared, prepare_rows, unheard
from rayft.spec.load import spec_from_data
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.store.dataset import Dataset, open_dataset

_NOT_MEASURED = Speeds(prepare_rows_per_s=1.0, fp32_rows_per_s=1.0, bf16_rows_per_s=None)
"""An evaluation makes no choice that depends on speed."""
_NOT_HEEDED: Mapping[str, Json] = {
    "ingest": "in_process",
    "batch_norm": "pretrained",
    "reduction": {"kind": "mean"},
    "augment_on": "host",
    "torch_compile": False,
}
"""What training alone heeds, as any machine can do it."""


def evaluate(
    path: Path | str,
    *,
    split: SplitName = "test",
    overrides: Sequence[str] = (),
    on_rows: OnRows = unheard,
) -> dict[str, Json]:
    """Evaluate a checkpoint on a split, in the calling process, on the device that it finds.

    A run that was told to leave GPUs alone is evaluated on the CPU.

    Args:
        path: a checkpoint, or a run (its best checkpoint).
        split: rows to evaluate on.
        overrides: `path=value` changes to the checkpoint's spec, such as `data.test.path=...`.
        on_rows: hears of rows that are prepared.

    Returns:
        `status`, `checkpoint`, `split`, `metrics`, and the full `report`, whose worst rows name
        their source.

    Raises:
        CheckpointError: there is no such checkpoint, or it knows other classes than the data.
        DataError: the rows cannot be read.
        TrainingError: the GPU's memory is too small.
    """
    place = Location.parse(str(path), base_dir=Path.cwd(), where="checkpoint")
    folder = find_checkpoint(place)
    checkpoint = read_checkpoint(folder)
    spec = _spec(checkpoint, overrides)
    _check_channels(checkpoint, spec, folder)
    places = places_of(spec)
    prepared = prepare_rows(spec, places, use_ray=False, on_rows=on_rows)
    dataset = open_dataset(prepared.ref)
    _check_classes(checkpoint, dataset, folder)
    plan = _as_trained(plan_prepared(spec, places, prepared, speeds=_NOT_MEASURED), checkpoint)
    if split not in plan.data.counts:
        raise CheckpointError(
            Problem(
                f"data.{split}",
                f"{folder.name} has no {split} split; it has {', '.join(plan.data.counts)}",
                f"choose one of these with --split, or give data.{split}.kind=... and its path",
            )
        )
    report = _evaluate(plan, checkpoint, dataset, split)
    return {
        "status": "evaluated",
        "checkpoint": str(folder),
        "split": split,
        "metrics": {f"{split}/{name}": value for name, value in report.metrics().items()},
        "report": _with_sources(report.to_json(), dataset, split),
    }


def _spec(checkpoint: Checkpoint, overrides: Sequence[str]) -> RunSpec:
    # Figures must not depend on who evaluates: same arithmetic as in training, in this process.
    fixed = ["scaling.num_workers=0", f"precision={checkpoint.manifest['precision']}"]
    spec = spec_from_data(_anywhere(checkpoint), [*fixed, *overrides])
    # Nothing is kept for one pass over the rows.
    return spec.model_copy(update={"cache": spec.cache.model_copy(update={"mode": "off"})})


def _saved(checkpoint: Checkpoint) -> Mapping[str, Json]:
    data = checkpoint.manifest["spec"]
    assert isinstance(data, dict)
    return data


def _anywhere(checkpoint: Checkpoint) -> Mapping[str, Json]:
    """Return a saved spec that asks a machine for nothing; one that keeps off GPUs still does."""
    data = _saved(checkpoint)
    scaling = data["scaling"]
    assert isinstance(scaling, dict)
    changes: dict[str, Json] = {"use_gpu": False if scaling["use_gpu"] is False else "auto"}
    if _is_exact(checkpoint):
        # The threads that an exact run has where nothing else is said.
        reserved = scaling["resources_per_worker"]
        assert isinstance(reserved, dict)
        changes["resources_per_worker"] = {"CPU": 1, **reserved}
    # What training holds says nothing of evaluation, which holds batches as large as it held them.
    rows = checkpoint.manifest.get("rows_per_device", data["rows_per_device"])
    return {
        **data,
        **_NOT_HEEDED,
        "device": "cpu" if data["device"] == "cpu" else "auto",
        "rows_per_device": rows,
        "scaling": {**scaling, **changes},
    }


def _is_exact(checkpoint: Checkpoint) -> bool:
    reduction = _saved(checkpoint)["reduction"]
    assert isinstance(reduction, dict)
    return reduction["kind"] == "exact"


def _check_channels(checkpoint: Checkpoint, spec: RunSpec, folder: Location) -> None:
    mean = checkpoint.manifest["mean"]
    assert isinstance(mean, list)
    if len(mean) != spec.data.channels:
        raise CheckpointError(
            Problem(
                str(folder),
                f"it was trained on {len(mean)} channels, and data.channels is "
                f"{spec.data.channels}",
                f"remove the override, or set it to {len(mean)}",
            )
        )


def _as_trained(plan: RunPlan, checkpoint: Checkpoint) -> RunPlan:
    """Give the plan the preprocessing and the batches of a frozen prefix of the training."""
    mean, std = checkpoint.manifest["mean"], checkpoint.manifest["std"]
    assert isinstance(mean, list)
    assert isinstance(std, list)
    model = replace(
        plan.model,
        mean=tuple(float(str(value)) for value in mean),
        std=tuple(float(str(value)) for value in std),
    )
    *others, last = plan.phases
    if last.prefix and last.prefix.rows:
        rows = min(_prefix_rows(plan, checkpoint) or last.prefix.rows, plan.max_rows_per_device)
        last = replace(last, prefix=replace(last.prefix, rows=rows))
    return replace(plan, model=model, phases=(*others, last))


def _prefix_rows(plan: RunPlan, checkpoint: Checkpoint) -> int | None:
    """Return the rows that the frozen prefix ran on at once in training, where that is known."""
    said = checkpoint.manifest.get("prefix")
    if isinstance(said, dict) and "rows" in said:
        return int(str(said["rows"]))
    # Checkpoints of before do not say.
    reduction = _saved(checkpoint)["reduction"]
    assert isinstance(reduction, dict)
    if reduction["kind"] == "exact":
        shard = plan.spec.global_batch_size // int(str(reduction["shards"]))
        return prefix_rows(shard, plan.resources.device)
    return None


def _check_classes(checkpoint: Checkpoint, dataset: Dataset, folder: Location) -> None:
    classes = checkpoint.manifest["classes"]
    assert isinstance(classes, dict)
    known = classes["label"]
    assert isinstance(known, list)
    if tuple(map(str, known)) != dataset.classes:
        odd = sorted(set(map(str, known)) ^ set(dataset.classes))[:5]
        raise CheckpointError(
            Problem(
                str(folder),
                f"the checkpoint knows {len(known)} classes and the data has "
                f"{len(dataset.classes)}; they differ in {', '.join(odd) or 'their order'}",
                "evaluate on data with the classes it was trained on",
            )
        )


def _evaluate(
    plan: RunPlan, checkpoint: Checkpoint, dataset: Dataset, split: SplitName
) -> ClassificationReport:
    torch.set_num_threads(plan.resources.threads_per_worker)
    if _is_exact(checkpoint):
        repeat_to_the_bit()
    device = Device.of_run(plan, torch.device(plan.resources.device))
    model = new_model(plan)
    load_evaluated_weights(model, checkpoint.tensors)
    device.place(model)
    return evaluate_rows(
        model,
        InProcessFeed(plan, dataset, rank=0),
        split,
        plan=plan,
        device=device,
        ranks=OneRank(),
    )


def _with_sources(report: dict[str, Json], dataset: Dataset, split: SplitName) -> dict[str, Json]:
    store = dataset.splits[split].store
    worst = report["worst_rows"]
    assert isinstance(worst, list)
    named: list[Json] = []
    for row in worst:
        assert isinstance(row, dict)
        named.append({**row, "source": store.source_of(int(str(row["row_id"])))})
    return {**report, "worst_rows": named}
