"""Which stores of kept rows a run wants, each named by everything that its rows follow from."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from rayft.feed.kept import ids_digest, is_random, kept_ids
from rayft.plan.facts import SplitName
from rayft.plan.prefix import PrefixPlan
from rayft.plan.run_plan import PhasePlan, RunPlan
from rayft.store.dataset import Dataset

_LIBRARIES = ("rayft", "torch", "torchvision", "timm", "numpy", "pillow")
"""What makes the rows, and may make others in another version."""
_FORMAT = 1
"""Raised whenever equal keys would no longer mean equal rows."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WantedStore:
    """One view of some rows, as a phase wants them kept."""

    phase: int
    split: SplitName
    """A split whose source the rows are of."""
    view: int | None
    """Number of the random view; None is the image as evaluation takes it."""
    row_ids: NDArray[np.int64]
    """[N] ascending; a row's place in the store is its place here."""
    key: str
    about: Mapping[str, str]
    """What it is, for people."""


def wanted_stores(
    plan: RunPlan, phase: PhasePlan, dataset: Dataset, *, weights: str, instructions: str
) -> Iterator[tuple[SplitName, tuple[WantedStore, ...]]]:
    """Yield for each split whose rows are kept in a phase the stores of its views.

    Args:
        plan: the run.
        phase: one that keeps what its prefix makes.
        dataset: the rows.
        weights: digest of the weights and buffers of the prefix.
        instructions: of the processor that makes the rows.
    """
    prefix = phase.prefix
    assert prefix is not None
    for split in prefix.splits:
        random = is_random(phase, split)
        ids = kept_ids(dataset, phase, split)
        rows = ids_digest(dataset, split, ids)
        views = range(prefix.views or 1) if random else (None,)
        yield (
            split,
            tuple(
                WantedStore(
                    phase=phase.index,
                    split=split,
                    view=view,
                    row_ids=ids,
                    key=_key(plan, prefix, weights=weights, rows=rows, view=view, on=instructions),
                    about=_about(plan, prefix, view=view),
                )
                for view in views
            ),
        )


def _key(
    plan: RunPlan, prefix: PrefixPlan, *, weights: str, rows: str, view: int | None, on: str
) -> str:
    spec = plan.spec
    made_from = {
        "format": _FORMAT,
        "weights": weights,
        "structure": spec.model.backbone.model_dump(mode="json", exclude={"weights"}),
        "cut": prefix.cut,
        "rows": rows,
        "image_size": plan.model.image_size,
        "mean": plan.model.mean,
        "std": plan.model.std,
        "view": None if view is None else _view(plan, view),
        "dtype": prefix.dtype,
        # What the last bits depend on.
        "batch": prefix.rows,
        "device": plan.resources.device,
        "instructions": on,
        "reduction": spec.reduction.kind,
        "threads": plan.resources.threads_per_worker,
        "precision": plan.precision,
        "memory_format": spec.memory_format,
        "versions": {name: version(name) for name in _LIBRARIES},
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _view(plan: RunPlan, view: int) -> dict[str, object]:
    augment = [operation.model_dump(mode="json") for operation in plan.spec.augment]
    return {"number": view, "seed": plan.spec.seed, "augment": augment}


def _about(plan: RunPlan, prefix: PrefixPlan, *, view: int | None) -> dict[str, str]:
    return {
        "backbone": plan.model.backbone,
        "cut": "features" if prefix.is_whole else prefix.name,
        "view": "plain" if view is None else f"random {view + 1}, seed {plan.spec.seed}",
        "image_size": str(plan.model.image_size),
        "weights": plan.model.weights,
        "run": plan.spec.name,
    }
