"""`rayft models`: which backbones there are, and what one looks like."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from rayft.cli.command import Output
from rayft.cli.table import print_columns
from rayft.models.available import NamedWeights
from rayft.models.catalogue import (
    LIBRARIES,
    BackboneEntry,
    Library,
    describe,
    find_names,
    names_of,
    nothing_found,
)

_MOST_MEASURED = 40
"""So many models of timm are built for their size; it takes some seconds."""
_HEAD = ("parameters", "pixels", "groups", "features", "weights")


def list_models(pattern: str | None, library: Library | None, out: Output) -> None:
    """Print the backbones that `pattern` means; one alone in full.

    Raises:
        ModelError: there is none.
    """
    libraries = LIBRARIES if library is None else (library,)
    found = {name: _entries(name, pattern) for name in libraries}
    entries = [entry for listed in found.values() for entry in listed]
    if pattern is not None and not entries:
        raise nothing_found(pattern, libraries)
    if pattern is not None and all(entry.name == pattern for entry in entries):
        for entry in entries:
            _print_entry(entry, out.console)
        out.next("rayft", "init", "--data", "FOLDER")
    else:
        for name, listed in found.items():
            _print_table(name, listed, out.console)
        _name_the_rest(pattern, libraries, out)
    num_timm = len(names_of("timm")) if "timm" in libraries else None
    models = [_as_json(entry) for entry in entries]
    out.result({"status": "listed", "models": models, "num_timm_models": num_timm})


def _entries(library: Library, pattern: str | None) -> list[BackboneEntry]:
    """Return what `pattern` means in one library; nothing of timm without a pattern."""
    if library == "timm" and pattern is None:
        return []
    names = find_names(pattern, library)
    measured = library == "torchvision" or len(names) <= _MOST_MEASURED
    return [describe(library, name, measured=measured) for name in names]


def _print_entry(entry: BackboneEntry, console: Console) -> None:
    """Print a backbone in full."""
    size = entry.size
    assert size is not None, "one model is always measured"
    groups = ", ".join(f"{name} {_short(count)}" for name, count in size.groups)
    lines = [
        f"{entry.library}/{entry.name}",
        f"  parameters  {_short(size.num_params)}, without the layer that makes class scores",
        f"  images      {entry.image_size} px",
        f"  features    {size.feature_dim}",
        f"  groups      {groups}",
    ]
    for label, weights in zip(["weights", *[""] * len(entry.weights)], entry.weights, strict=False):
        lines.append(f"  {label:<10}  {_in_words(weights)}")
    if not entry.weights:
        lines.append("  weights     none: it can start random, or from a file")
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _in_words(weights: NamedWeights) -> str:
    place = f"here, {weights.cached}" if weights.cached else f"from {weights.source}"
    return f"{weights.name}: {place}"


def _print_table(library: str, entries: Sequence[BackboneEntry], console: Console) -> None:
    """Print a line for each backbone: names and weights to the left, numbers to the right."""
    if not entries:
        return
    rows = [(library, *_HEAD), *map(_row, entries)]
    print_columns(rows, console, right=range(1, len(_HEAD)))


def _row(entry: BackboneEntry) -> tuple[str, ...]:
    size = entry.size
    weights = ", ".join(f"{w.name} (here)" if w.cached else w.name for w in entry.weights)
    return (
        entry.name,
        _short(size.num_params) if size else "",
        str(entry.image_size),
        str(len(size.groups)) if size else "",
        str(size.feature_dim) if size else "",
        weights or "none",
    )


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 10**5 else f"{count:,}"


def _name_the_rest(pattern: str | None, libraries: Sequence[Library], out: Output) -> None:
    """Say how to see what was not listed, and one model in full."""
    if pattern is None and "timm" in libraries:
        out.say(f"timm has {len(names_of('timm')):,} more; they are listed by a part of their name")
        out.next("rayft", "models", "vit", "--library", "timm")
    else:
        out.next("rayft", "models", "NAME")


def _as_json(entry: BackboneEntry) -> dict[str, object]:
    size = entry.size
    return {
        "library": entry.library,
        "name": entry.name,
        "parameters": size.num_params if size else None,
        "image_size": entry.image_size,
        "feature_dim": size.feature_dim if size else None,
        "groups": [{"name": n, "parameters": count} for n, count in size.groups] if size else None,
        "weights": [
            asdict(w) | {"cached": str(w.cached) if w.cached else None} for w in entry.weights
        ],
    }
