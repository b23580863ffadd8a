"""Evaluate a model on a split, over all ranks: every row counts once."""

import math
from collections.abc import Mapping

import numpy as np
import torch

from rayft.engine.device import Device
from rayft.engine.out_of_memory import out_of_memory_told
from rayft.engine.placing import place
from rayft.engine.ports import Ranks
from rayft.feed.feed import Feed
from rayft.metrics import ClassificationReport, classification_report
from rayft.models.model import FineTuneModel
from rayft.plan.facts import SplitName
from rayft.plan.run_plan import RunPlan


@torch.no_grad()
def evaluate(
    model: FineTuneModel,
    feed: Feed,
    split: SplitName,
    *,
    plan: RunPlan,
    device: Device,
    ranks: Ranks,
) -> ClassificationReport:
    """Return the report on one split, the same on every rank.

    Scores of all rows are brought together before anything is averaged, so no number depends on
    how rows fell to workers. The model is left in evaluation mode.

    Raises:
        TrainingError: the GPU's memory is too small.
    """
    classes = plan.data.classes
    model.eval()
    ids: list[np.ndarray] = [np.empty(0, np.int64)]
    labels: list[np.ndarray] = [np.empty(0, np.int64)]
    scores: list[np.ndarray] = [np.empty((0, len(classes)), np.float32)]
    with out_of_memory_told(plan, rows=plan.evaluation_rows), feed.evaluation(split) as batches:
        for batch in batches:
            placed = place(batch, device=device, backbone=model.backbone)
            output = device.scores(model, placed.inputs, placed.cut)["label"]
            count = batch.ticket.num_rows
            ids.append(batch.ticket.row_ids[:count])
            labels.append(batch.labels[:count])
            scores.append(output[:count].float().cpu().numpy())
    return classification_report(
        targets=ranks.gather(np.concatenate(labels)),
        scores=ranks.gather(np.concatenate(scores)),
        row_ids=ranks.gather(np.concatenate(ids)),
        classes=classes,
    )


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Leave out what is undefined on a split: JSON has no NaN, and no decision may rest on it."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
