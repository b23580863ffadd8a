"""Weights of an earlier run: where its checkpoint lies, and what is read from it.

Only four facts about a checkpoint are used: `model.safetensors` holds a `FineTuneModel`'s state
dict, `manifest.json` names the classes under `classes` and the hash of that file under `files`,
and a run folder keeps its checkpoints under `checkpoints/`, where the file `best` holds the name
of the best one.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rayft.errors import ModelError, Problem
from rayft.models.weight_files import read_weight_file

_WHERE = "model.backbone.weights.checkpoint"
_MODEL = "model.safetensors"
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


def find_checkpoint(folder: Path) -> Path:
    """Return the checkpoint folder that `folder` is, or the best one of the run that it is.

    Raises:
        ModelError: it is neither.
    """
    if (folder / _MODEL).is_file():
        return folder
    best = folder / "checkpoints" / "best"
    if best.is_file():
        best = best.parent / Path(best.read_text(encoding="utf-8").strip()).name
    if (best / _MODEL).is_file():
        return best
    what = f"{folder} is no checkpoint (no {_MODEL}) and no run with a best one (no {best})"
    raise ModelError(Problem(_WHERE, what, "give a checkpoint folder or the folder of a run"))


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read backbone, heads and their classes from a checkpoint folder.

    Raises:
        ModelError: a file is missing or damaged, or a head has no classes in the manifest.
    """
    manifest = _read_manifest(folder / "manifest.json")
    file = read_weight_file(folder / _MODEL, sha256=manifest.sha256, where=_WHERE)
    backbone = {
        name.removeprefix(_BACKBONE): tensor
        for name, tensor in file.state.items()
        if name.startswith(_BACKBONE)
    }
    heads = {
        label: TrainedHead(classes=classes, state=_below(file.state, f"heads.{label}."))
        for label, classes in manifest.classes.items()
    }
    return Checkpoint(backbone=backbone, heads=heads, sha256=file.sha256)


def _below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manifest:
    classes: dict[str, tuple[str, ...]]
    sha256: str | None
    """Hash of the model's file; None where the manifest lists no files."""


def _read_manifest(file: Path) -> _Manifest:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        classes = {label: tuple(map(str, names)) for label, names in content["classes"].items()}
        sha256 = content["files"][_MODEL]["sha256"] if "files" in content else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{file} does not name the classes and files of a checkpoint: {error!r}"
        fix = "choose a checkpoint that rayft wrote, or give its weights as {file: path}"
        raise ModelError(Problem(_WHERE, what, fix)) from error
    return _Manifest(classes=classes, sha256=sha256)
