"""Evaluate several heads on the features of a split, made or read once for all."""

from collections.abc import Sequence

import numpy as np
import torch

from rayft.engine.fused_step import features_of
from rayft.engine.member import Member
from rayft.engine.placing import place
from rayft.errors import TrainingError
from rayft.metrics import ClassificationReport, classification_report
from rayft.models.stacked_heads import HeadGroup, StackedHeads
from rayft.plan.facts import SplitName

_MOST_SCORES = 2**27
"""Scores that are held at once, 512 MB."""


def evaluate_members(
    members: Sequence[Member], split: SplitName
) -> list[ClassificationReport | TrainingError]:
    """Return the report of each member on one split, or why there is none."""
    plan = members[0].run.plan
    scores_each = plan.data.num_rows(split) * len(plan.data.classes)
    at_once = max(1, _MOST_SCORES // max(1, scores_each))
    return [
        report
        for start in range(0, len(members), at_once)
        for report in _evaluate(members[start : start + at_once], split)
    ]


@torch.no_grad()
def _evaluate(
    members: Sequence[Member], split: SplitName
) -> list[ClassificationReport | TrainingError]:
    run = members[0].run
    heads = StackedHeads([member.head for member in members])
    run.model.eval()
    ids: list[np.ndarray] = [np.empty(0, np.int64)]
    labels: list[np.ndarray] = [np.empty(0, np.int64)]
    scores: list[np.ndarray] = [np.empty((len(members), 0, len(run.plan.data.classes)), np.float32)]
    with run.feed.evaluation(split) as batches:
        for batch in batches:
            placed = place(batch, device=run.device, backbone=run.model.backbone)
            with run.device.autocast():
                output = heads([HeadGroup(features=features_of(run, placed), size=len(members))])
            count = batch.ticket.num_rows
            ids.append(batch.ticket.row_ids[:count])
            labels.append(batch.labels[:count])
            scores.append(output[:, :count].float().cpu().numpy())
    targets, row_ids = np.concatenate(labels), np.concatenate(ids)
    return [
        _report(targets, of_member, row_ids, run.plan.data.classes)
        for of_member in np.concatenate(scores, axis=1)
    ]


def _report(
    targets: np.ndarray, scores: np.ndarray, row_ids: np.ndarray, classes: Sequence[str]
) -> ClassificationReport | TrainingError:
    try:
        return classification_report(
            targets=targets, scores=scores, row_ids=row_ids, classes=classes
        )
    except TrainingError as error:
        # Scores that are not finite end this member, and no other.
        return error
