"""Bring a state dict into the layout of a network, or say exactly why it does not fit."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rayft.errors import ModelError, Problem
from rayft.models.backbone import Backbone

_MAX_LISTED = 5
_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """A state dict with exactly the names and shapes of a network."""

    state: dict[str, Tensor]
    notes: tuple[str, ...]
    """How it was matched, in words, where not simply by name."""


def match_by_name(backbone: Backbone, state: Mapping[str, Tensor]) -> Matched:
    """Match `state` with `backbone.net`: every tensor by name and shape, none missing or left.

    Entries of the classifier that the family declares are left out. A batch norm's counter of
    batches may be missing: torch once saved none, and nothing reads it here.

    Raises:
        ModelError: tensors are missing, unexpected or of another shape; up to five of each are
            named.
    """
    expected = backbone.net.state_dict()
    found = {name: t for name, t in state.items() if not _in_classifier(backbone, name)}
    for name in expected:
        if name.endswith(_COUNTER) and name not in found:
            found[name] = torch.zeros((), dtype=torch.int64)
    problems = _differences(expected, found)
    if problems:
        raise ModelError(*problems)
    return Matched(state={name: found[name] for name in expected}, notes=())


def match_by_name_or_order(backbone: Backbone, state: Mapping[str, Tensor]) -> Matched:
    """Match by name; or by order, where not one name agrees and all shapes in order do.

    Some ports of a network keep its order and rename everything. Order alone is weak evidence,
    so it takes effect only when names give none, and callers pass on the note that says so.

    Raises:
        ModelError: neither fits.
    """
    expected = backbone.net.state_dict()
    if expected.keys().isdisjoint(state) and _same_shapes_in_order(backbone, expected, state):
        pairs = zip(expected, state.values(), strict=False)
        return Matched(state=dict(pairs), notes=("matched by order, since no name agrees",))
    return match_by_name(backbone, state)


def _in_classifier(backbone: Backbone, name: str) -> bool:
    return any(name.startswith(f"{module}.") for module in backbone.layout.classifier)


def _same_shapes_in_order(
    backbone: Backbone, expected: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> bool:
    """Return whether `state` has the shapes of `expected`, and after them at most a classifier."""
    wanted = [tensor.shape for tensor in expected.values()]
    shapes = [tensor.shape for tensor in state.values()]
    rest = shapes[len(wanted) :]
    num_classes = rest[0][0] if rest and rest[0] else 0
    classifier = [torch.Size([num_classes, backbone.feature_dim]), torch.Size([num_classes])]
    return shapes[: len(wanted)] == wanted and rest in ([], classifier)


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[Problem]:
    missing = [f"{n} {_shape(t)}" for n, t in expected.items() if n not in found]
    extra = [f"{n} {_shape(t)}" for n, t in found.items() if n not in expected]
    wrong = [
        f"{n}: expected {_shape(t)}, found {_shape(found[n])}"
        for n, t in expected.items()
        if n in found and found[n].shape != t.shape
    ]
    listed = (("missing", missing), ("unexpected", extra), ("of another shape", wrong))
    return [_problem(kind, lines) for kind, lines in listed if lines]


def _problem(kind: str, lines: list[str]) -> Problem:
    more = f" and {len(lines) - _MAX_LISTED} more" if len(lines) > _MAX_LISTED else ""
    what = f"{len(lines)} tensors are {kind}: {'; '.join(lines[:_MAX_LISTED])}{more}"
    fix = "set model.backbone.name to the network these weights were saved from, or give its own"
    return Problem("model.backbone.weights", what, fix)


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
