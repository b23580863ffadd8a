"""Bring a state dict into the layout of a network, or say exactly why it does not fit."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rayft.errors import ModelError, Problem
from rayft.models.backbone import Backbone
from rayft.models.channels import adapted_filters, filters_in_words
from rayft.models.layout import Official

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

    Entries of the classifier that the family declares, and of what the spec cuts off, are left
    out; what the spec adds need not be there. A file of another version of
    the network is read under today's names. A batch norm's counter of batches may be missing:
    torch once saved none, and nothing reads it here.

    Raises:
        ModelError: tensors are missing, unexpected, of another shape or not finite; up to five of
            each are named.
    """
    expected = _expected(backbone, state)
    state, made = _for_these_channels(backbone, expected, state)
    state, notes = _in_todays_names(backbone, expected, state)
    state, made_later = _for_these_channels(backbone, expected, state)
    notes += made + made_later
    found = {name: t for name, t in state.items() if not _in_classifier(backbone, name)}
    for name in expected:
        if name.endswith(_COUNTER) and name not in found:
            found[name] = torch.zeros((), dtype=torch.int64)
    problems = _differences(expected, found) or _without_values(expected, found)
    if problems:
        raise ModelError(*problems)
    notes += _left_out(backbone, state)
    return Matched(state={name: found[name] for name in expected}, notes=notes)


def _for_these_channels(
    backbone: Backbone, expected: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Return `state` with its first filters made for the images of `backbone`, and how."""
    made: dict[str, Tensor] = {}
    notes: list[str] = []
    for layer in backbone.layout.input_layers:
        name = f"{layer}.weight"
        if name not in state or name not in expected:
            continue
        wanted, had = expected[name].shape, state[name].shape
        if (
            len(had) != len(wanted)
            or had[1] == wanted[1]
            or had[:1] + had[2:] != wanted[:1] + wanted[2:]
        ):
            continue
        made[name] = adapted_filters(state[name], wanted[1])
        how = filters_in_words(had[1], wanted[1])
        notes.append(f"{name} for {wanted[1]} channels made of {had[1]}: {how}")
    return ({**state, **made} if made else state), tuple(notes)


def _in_todays_names(
    backbone: Backbone, expected: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Return `state`, translated where names or shapes differ and the library knows how."""
    translate = backbone.layout.translate
    names = {name for name in state if not _in_classifier(backbone, name)}
    odd = {name for name in expected.keys() ^ names if not name.endswith(_COUNTER)}
    if translate is None or not (odd or _reshaped(expected, state)):
        return state, ()
    # Translating looks tensors up in the network, which does not have these.
    removed = {n: state[n] for n in _official(backbone).shapes if n in state and n not in expected}
    kept = {name: tensor for name, tensor in state.items() if name not in removed}
    translated = {**translate(backbone.net, kept), **removed}
    notes = [
        f"{name} resampled from {_shape(state[name])} to {_shape(translated[name])}"
        for name in _reshaped(translated, state)
    ]
    if translated.keys() != state.keys():
        notes.append("names brought up to date")
    return translated, tuple(notes)


def _reshaped(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors whose shapes differ."""
    return [n for n, t in expected.items() if n in state and state[n].shape != t.shape]


def match_by_name_or_order(backbone: Backbone, state: Mapping[str, Tensor]) -> Matched:
    """Match by name; or by order, where not one name agrees and all shapes in order do.

    Some ports of a network keep its order and rename everything. Order alone is weak evidence,
    so it takes effect only when names give none, and callers pass on the note that says so. The
    order is that of the official network, whose removed layers are left out, or of what is kept.

    Raises:
        ModelError: neither fits.
    """
    official = _official(backbone)
    if official.shapes.keys().isdisjoint(state):
        for whole in (official, _without_removed(backbone)):
            if (matched := _match_by_order(backbone, whole, state)) is not None:
                return matched
    return match_by_name(backbone, state)


def _match_by_order(
    backbone: Backbone, whole: Official, state: Mapping[str, Tensor]
) -> Matched | None:
    """Match a file of the network `whole`; None where shapes in order do not agree."""
    expected = _expected(backbone, state)
    # What is left at the end keeps its names.
    names = [*whole.shapes, *[*state][len(whole.shapes) :]]
    named = dict(zip(names, state.values(), strict=False))
    pairs, notes = _for_these_channels(backbone, expected, named)
    if not _same_shapes_in_order(whole, pairs):
        return None
    order = "matched by order, since no name agrees"
    return Matched(
        state={name: pairs[name] for name in expected},
        notes=(order, *notes, *_left_out(backbone, named)),
    )


def _official(backbone: Backbone) -> Official:
    return backbone.layout.official or _without_removed(backbone)


def _without_removed(backbone: Backbone) -> Official:
    """Return what a file holds that was written of no more than the changed network has."""
    shapes = {name: tensor.shape for name, tensor in _expected(backbone, {}).items()}
    return Official(shapes=shapes, feature_dim=backbone.feature_dim)


def _left_out(backbone: Backbone, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Say what of `state` the network does not have, but for the classifier."""
    return tuple(
        f"`{module}` left out"
        for module in backbone.layout.classifier[1:]
        if any(name.startswith(f"{module}.") for name in state)
    )


def _expected(backbone: Backbone, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the network that `state` must hold, with theirs of that name."""
    added = tuple(f"{module}." for module in backbone.layout.added)
    return {
        name: tensor
        for name, tensor in backbone.net.state_dict().items()
        if name in state or not (added and name.startswith(added))
    }


def _in_classifier(backbone: Backbone, name: str) -> bool:
    return any(name.startswith(f"{module}.") for module in backbone.layout.classifier)


def _same_shapes_in_order(official: Official, state: Mapping[str, Tensor]) -> bool:
    """Return whether `state` has the shapes of a network, and after them at most a classifier."""
    wanted = list(official.shapes.values())
    shapes = [tensor.shape for tensor in state.values()]
    rest = shapes[len(wanted) :]
    num_classes = rest[0][0] if rest and rest[0] else 0
    classifier = [torch.Size([num_classes, official.feature_dim]), torch.Size([num_classes])]
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


def _without_values(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[Problem]:
    """Return what to say where tensors hold NaN or infinity.

    torchvision's `IMAGENET1K_FEATURES` of VGG16 have none for its fully connected layers.
    """
    # A sum needs no copy of the tensor; NaN and infinity survive it.
    odd = [
        name
        for name in expected
        if found[name].is_floating_point() and not found[name].sum(dtype=torch.float64).isfinite()
    ]
    if not odd:
        return []
    more = f" and {len(odd) - _MAX_LISTED} more" if len(odd) > _MAX_LISTED else ""
    what = f"{len(odd)} tensors hold NaN or infinity: {'; '.join(odd[:_MAX_LISTED])}{more}"
    fix = "choose other weights, or set model.backbone.cut_after to a group below these"
    return [Problem("model.backbone.weights", what, fix)]


def _problem(kind: str, lines: list[str]) -> Problem:
    more = f" and {len(lines) - _MAX_LISTED} more" if len(lines) > _MAX_LISTED else ""
    what = f"{len(lines)} tensors are {kind}: {'; '.join(lines[:_MAX_LISTED])}{more}"
    fix = "set model.backbone.name to the network these weights were saved from, or give its own"
    return Problem("model.backbone.weights", what, fix)


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
