"""`rayft init`: look at data, choose a backbone that can be had, write a spec to be edited."""

import re
from pathlib import Path

import yaml

from rayft.cli.command import Output
from rayft.data.inspect import Inspection, inspect_path
from rayft.errors import Problem, SpecError
from rayft.models.available import Suggestion, suggest_backbone
from rayft.spec.run import RunSpec
from rayft.storage.commit import write_file_atomically

_FEW_ROWS = 2_000
_ROWS_FOR_STRATIFIED = 100
"""Rows of each class on average from which a tenth of them is hardly ever empty in some class."""


def write_spec(data: Path, output: Path | None, *, force: bool, out: Output) -> None:
    """Write a spec for `data` that trains unedited.

    Raises:
        DataError: it cannot be told what `data` is.
        SpecError: the file exists already.
    """
    found = inspect_path(data)
    suggestion = suggest_backbone()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", data.resolve().stem).strip("-._") or "run"
    file = output or Path(f"{name}.yaml")
    if file.exists() and not force:
        raise SpecError(
            Problem(str(file), "the file exists already", "choose another with -o, or use --force")
        )
    text = spec_text(name, found, suggestion, command=f"rayft init --data {data}")
    # What is written must be a valid spec, or this command is at fault.
    RunSpec.model_validate(yaml.safe_load(text))
    write_file_atomically(file, text.encode())
    rows = ", ".join(f"{count:,} {split}" for split, count in found.num_rows.items())
    out.say(f"{rows} rows in {len(found.classes)} classes")
    out.say(f"backbone {suggestion.backbone.kind}/{suggestion.backbone.name}: {suggestion.why}")
    out.say(f"wrote {file}")
    out.next("rayft", "plan", file)
    out.result({"status": "written", "spec": str(file), "classes": list(found.classes)})


def spec_text(name: str, found: Inspection, suggestion: Suggestion, *, command: str) -> str:
    """Return the YAML of a spec with a comment on each choice."""
    few = found.num_rows["train"] < _FEW_ROWS
    sections = [
        f"# {command}\n"
        f"# {found.num_rows['train']:,} training rows, {len(found.classes)} classes\n"
        f"name: {name}",
        _data(found, few=few),
        "# Random changes to training images.\n"
        "augment:\n  - {kind: horizontal_flip}   # remove where left and right differ, as in text\n"
        f"  - {{kind: random_crop, padding: {max(4, found.image_size // 16)}}}",
        f"# Chosen because {suggestion.why}\n"
        "model:\n"
        f"  backbone: {_flow(suggestion.backbone.model_dump(mode='json', exclude_none=True))}\n"
        "  heads:\n    label: {kind: classification, dropout: 0.2}",
        "# First the new head alone, then the upper part of the backbone at lower rates.\n"
        "phases:\n"
        "  - {name: probe, train: [heads], for: 2 epochs, lr: 1e-2}\n"
        f"  - {{name: finetune, train: [heads, top], for: {8 if few else 4} epochs, "
        "lr: {heads: 1e-3, backbone: 5e-4, decay: 0.8}}",
        "optimizer: {kind: adamw, weight_decay: 0.05}\n"
        "schedule: {kind: cosine, warmup: 5%}\n"
        f"global_batch_size: {_batch_size(found.num_rows['train'])}\n"
        "scaling: {num_workers: 1}   # 2 or more: as many workers, same steps",
    ]
    return "\n\n".join(sections) + "\n"


def _data(found: Inspection, *, few: bool) -> str:
    lines = ["data:"]
    for source, fields in sorted(found.sources.items(), key=lambda item: item[0] != "train"):
        shown = {**fields, "path": _relative(fields["path"])}
        lines.append(f"  {source}: {_flow(shown)}")
    share = 0.2 if few else 0.1
    enough = found.num_rows["train"] >= _ROWS_FOR_STRATIFIED * len(found.classes)
    known: set[str] = set(found.sources)
    for split in ("validation", "test"):
        if split in known:
            continue
        stratify = "" if enough else ", stratify: false"
        lines.append(f"  {split}: {{fraction: {share}{stratify}}}   # taken out of train, by hash")
    lines.append(f"  image_size: {found.image_size}")
    return "\n".join(lines)


def _batch_size(rows: int) -> int:
    """Return a batch that leaves at least some twenty steps in an epoch."""
    return next((size for size in (64, 32, 16) if rows >= 20 * size), 8)


def _relative(path: str) -> str:
    here = Path.cwd()
    resolved = Path(path).resolve() if not any(c in path for c in "*?[") else Path(path)
    return str(resolved.relative_to(here)) if resolved.is_relative_to(here) else path


def _flow(values: object) -> str:
    return yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=1000).strip()
