"""Weights of an earlier run: where its checkpoint lies, and what is read from it.

Only three facts about a checkpoint are used: `model.safetensors` holds a `FineTuneModel`'s state
dict, `average.safetensors` may hold averages of some of its tensors, and `manifest.json` names the
classes under `classes` and the hashes of these files under `files`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rayft.errors import ModelError, Problem
from rayft.models.weight_files import read_weight_file
from rayft.storage.location import Location

_WHERE = "model.backbone.weights.checkpoint"
_MODEL = "model.safetensors"
_AVERAGE = "average.safetensors"
_BACKBONE = "backbone.net."


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedHead:
    """A head of an earlier run."""

    classes: tuple[str, ...]
    """Class of each row of its last layer."""
    state: dict[str, Tensor]
    """Its tensors, by their name in the head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The model part of a checkpoint."""

    backbone: dict[str, Tensor]
    """Tensors of the backbone by official name."""
    heads: dict[str, TrainedHead]
    """Heads by label column."""
    sha256: str
    """Hash of the file that holds the tensors."""


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read backbone, heads and their classes from a checkpoint folder.

    Where the run kept averages of its weights, they are what it was evaluated by, and are read.

    Raises:
        ModelError: a file is missing or damaged, or a head has no classes in the manifest.
    """
    if not (folder / _MODEL).is_file():
        fix = "give a checkpoint folder, or the folder of a run"
        raise ModelError(Problem(_WHERE, f"{folder} is no checkpoint: it has no {_MODEL}", fix))
    manifest = _read_manifest(folder / "manifest.json")
    file = read_weight_file(
        Location(str(folder / _MODEL)), sha256=manifest.sha256.get(_MODEL), where=_WHERE
    )
    state = dict(file.state)
    if _AVERAGE in manifest.sha256:
        sha256 = manifest.sha256[_AVERAGE]
        average = read_weight_file(
            Location(str(folder / _AVERAGE)), sha256=sha256, where=_WHERE
        ).state
        state |= {name: tensor for name, tensor in average.items() if name in state}
    heads = {
        label: TrainedHead(classes=classes, state=_below(state, f"heads.{label}."))
        for label, classes in manifest.classes.items()
    }
    backbone = _below(state, _BACKBONE)
    return Checkpoint(backbone=backbone, heads=heads, sha256=file.sha256)


def _below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manifest:
    classes: dict[str, tuple[str, ...]]
    sha256: dict[str, str]
    """Hashes by file; empty where the manifest lists no files."""


def _read_manifest(file: Path) -> _Manifest:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        classes = {label: tuple(map(str, names)) for label, names in content["classes"].items()}
        sha256 = {name: entry["sha256"] for name, entry in content.get("files", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{file} does not name the classes and files of a checkpoint: {error!r}"
        fix = "choose a checkpoint that rayft wrote, or give its weights as {file: path}"
        raise ModelError(Problem(_WHERE, what, fix)) from error
    return _Manifest(classes=classes, sha256=sha256)
