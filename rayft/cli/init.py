"""`rayft init`: look at data, choose a backbone that can be had, write a spec to be edited."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from rayft.cli.command import Output
from rayft.cli.recipes import Recipe, RecipeName, Size, make_recipe
from rayft.data.inspect import Inspection, inspect_path
from rayft.errors import ModelError, Problem, SpecError
from rayft.models.available import Suggestion, suggest_backbone
from rayft.models.facts import model_facts
from rayft.models.torchvision_nets import supported_torchvision
from rayft.plan.facts import ModelFacts
from rayft.spec.model import (
    BackboneSpec,
    ClassificationHead,
    ModelSpec,
    TimmBackbone,
    TorchvisionBackbone,
)
from rayft.spec.run import RunSpec
from rayft.storage.commit import write_file_atomically

_LONGEST_NAME = 64
_FEW_ROWS = 2_000
_ROWS_FOR_STRATIFIED = 20
"""Rows of each class on average from which hardly any class is too small to be shared out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for on the command line."""

    data: Path
    output: Path | None
    recipe: RecipeName
    backbone: str | None
    """Name with or without its library: `resnet50`, `timm/resnet50`."""
    force: bool


def write_spec(request: Request, out: Output) -> None:
    """Write a spec for data that trains unedited.

    Raises:
        DataError: it cannot be told what the data are.
        ModelError: there is no such backbone.
        SpecError: the file exists already.
    """
    found = inspect_path(request.data)
    suggestion = _backbone(request.backbone)
    facts = _facts(suggestion.backbone, found)
    name = _run_name(request.data)
    file = request.output or Path(f"{name}.yaml")
    if file.exists() and not request.force:
        raise SpecError(
            Problem(str(file), "the file exists already", "choose another with -o, or use --force")
        )
    size = _size(found, facts)
    recipe = make_recipe(request.recipe, size)
    text = _head(name, found, facts, recipe, _command(request))
    text += _body(found, size, suggestion, recipe)
    # What is written must be a valid spec, or this command is at fault.
    RunSpec.model_validate(yaml.safe_load(text))
    write_file_atomically(file, text.encode())
    rows = ", ".join(f"{count:,} {split}" for split, count in found.num_rows.items())
    out.say(f"{rows} rows in {len(found.classes)} classes")
    out.say(f"backbone {suggestion.backbone.kind}/{suggestion.backbone.name}: {suggestion.why}")
    out.say(f"recipe {recipe.name}: {recipe.why}")
    out.say(f"wrote {file}")
    out.next("rayft", "plan", file)
    out.result(
        {
            "status": "written",
            "spec": str(file),
            "recipe": recipe.name,
            "classes": list(found.classes),
        }
    )


def _run_name(data: Path) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", data.resolve().stem)
    return plain[:_LONGEST_NAME].strip("-._") or "run"


def _backbone(wanted: str | None) -> Suggestion:
    """Return the backbone that was asked for, or one whose weights are at hand."""
    if wanted is None:
        return suggest_backbone()
    library, _, name = wanted.rpartition("/")
    library = library or ("torchvision" if name in supported_torchvision() else "timm")
    at_hand = suggest_backbone()
    if (at_hand.backbone.kind, at_hand.backbone.name) == (library, name):
        return at_hand
    why = "it was asked for; its weights are fetched when it is first trained."
    match library:
        case "torchvision":
            return Suggestion(backbone=TorchvisionBackbone(kind="torchvision", name=name), why=why)
        case "timm":
            return Suggestion(backbone=TimmBackbone(kind="timm", name=name), why=why)
        case _:
            what = f"there is no library {library!r} of backbones"
            raise SpecError(Problem("--backbone", what, "write torchvision/NAME or timm/NAME"))


def _facts(backbone: BackboneSpec, found: Inspection) -> ModelFacts:
    """Look at the backbone, at the size of the data's images where it can take that.

    Raises:
        ModelError: there is no such backbone.
    """
    model = ModelSpec(backbone=backbone, heads={"label": ClassificationHead(kind="classification")})
    classes = len(found.classes)
    try:
        return model_facts(model, num_classes=classes, image_size=found.image_size)
    except ModelError as error:
        if error.problems[0].where != "data.image_size":
            raise
        return model_facts(model, num_classes=classes, image_size="auto")


def _size(found: Inspection, facts: ModelFacts) -> Size:
    rows = found.num_rows["train"]
    taken = sum(split not in found.sources for split in ("validation", "test")) * _share(found)
    return Size(
        rows=round(rows * (1 - taken)),
        classes=len(found.classes),
        batch_size=_batch_size(rows),
        groups=len(facts.groups),
        image_size=facts.image_size,
    )


def _command(request: Request) -> str:
    words = f"rayft init --data {request.data} --recipe {request.recipe}"
    return f"{words} --backbone {request.backbone}" if request.backbone else words


def _head(name: str, found: Inspection, facts: ModelFacts, recipe: Recipe, command: str) -> str:
    groups = [group.name for group in facts.groups]
    shown = groups if len(groups) < 10 else [*groups[:3], "...", *groups[-3:]]
    return (
        f"# {command}\n"
        f"# {found.num_rows['train']:,} rows to train from, {len(found.classes)} classes\n"
        f"# recipe {recipe.name}: {recipe.why}\n"
        f"# groups of {facts.backbone}, input side first: {', '.join(shown)}\n"
        # A folder may be called `2024-01-05`, which is a date without quotes.
        f"{yaml.safe_dump({'name': name})}\n"
    )


def _body(found: Inspection, size: Size, suggestion: Suggestion, recipe: Recipe) -> str:
    """Return all sections of the YAML, with a comment on each choice."""
    steps = -(-size.rows // size.batch_size)
    sections = [
        _data(found, image_size=size.image_size),
        recipe.augment,
        f"# Chosen because {suggestion.why}\n"
        f"# {recipe.head_why}\n"
        "model:\n"
        f"  backbone: {_flow(_written(suggestion.backbone))}\n"
        f"  heads:\n    label: {{{recipe.head}}}",
        recipe.phases,
        f"{recipe.optimizer}\n{recipe.schedule}\n{recipe.ema}",
        f"# About {steps} steps in an epoch; the rates belong to this size.\n"
        f"global_batch_size: {size.batch_size}\n"
        "scaling: {num_workers: 1}   # 2 or more: as many workers, same steps",
    ]
    return "\n\n".join(sections) + "\n"


def _written(backbone: BackboneSpec) -> dict[str, object]:
    """Return a backbone's section: what names it first, and nothing that is left at its default."""
    named = backbone.model_dump(mode="json", include={"kind", "name", "weights"}, exclude_none=True)
    rest = backbone.model_dump(mode="json", exclude_defaults=True)
    return {"kind": named["kind"], "name": named["name"], "weights": named["weights"]} | {
        key: value for key, value in rest.items() if key not in named
    }


def _data(found: Inspection, *, image_size: int) -> str:
    lines = ["data:"]
    for source, fields in sorted(found.sources.items(), key=lambda item: item[0] != "train"):
        shown = {**fields, "path": _relative(fields["path"])}
        lines.append(f"  {source}: {_flow(shown)}")
    enough = found.num_rows["train"] >= _ROWS_FOR_STRATIFIED * len(found.classes)
    known: set[str] = set(found.sources)
    for split in ("validation", "test"):
        if split in known:
            continue
        stratify = "" if enough else ", stratify: false"
        taken = f"{{fraction: {_share(found)}{stratify}}}"
        lines.append(f"  {split}: {taken}   # taken out of train")
    lines.append(f"  image_size: {image_size}")
    return "\n".join(lines)


def _share(found: Inspection) -> float:
    """Return the share of the rows that validation and test each take."""
    return 0.2 if found.num_rows["train"] < _FEW_ROWS else 0.1


def _batch_size(rows: int) -> int:
    """Return a batch that leaves a dozen steps or more in an epoch, where rows are enough."""
    return next((size for size in (64, 32, 16) if rows >= 20 * size), 8)


def _relative(path: str) -> str:
    here = Path.cwd()
    resolved = Path(path).resolve() if not any(c in path for c in "*?[") else Path(path)
    return str(resolved.relative_to(here)) if resolved.is_relative_to(here) else path


def _flow(values: object) -> str:
    return yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=1000).strip()
