"""Looking at a path to tell what source it is: for `rayft init --data PATH`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from rayft.data.csv_source import read_csv
from rayft.data.folder_source import IMAGE_SUFFIXES
from rayft.data.parquet_files import is_image_type, is_label_type, is_text_type, read_schema
from rayft.data.sources import list_source
from rayft.data.tar_index import Wanted, index_tar
from rayft.data.tar_members import read_object
from rayft.data.typical_size import suggest_size, typical_size
from rayft.errors import DataError, Problem
from rayft.plan.facts import SplitName
from rayft.spec.sources import SourceSpec, WebDatasetSource
from rayft.storage.location import Location

IMAGE_NAMES = (
    "image",
    "img",
    "image_path",
    "filepath",
    "file_path",
    "filename",
    "file_name",
    "file",
    "path",
)
LABEL_NAMES = ("label", "labels", "class", "class_name", "category", "target", "fine_label", "y")
SPLIT_NAMES: Mapping[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}

Fields = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was found at a path."""

    sources: Mapping[SplitName, Fields]
    """The fields of each source that a spec needs; `train` is always there."""
    num_rows: Mapping[SplitName, int]
    classes: tuple[str, ...]
    typical_size: tuple[int, int] | None
    """Median width and height in pixels of a sample; None where no sampled image opened."""
    image_size: int
    """What to set `data.image_size` to: the shorter side, rounded up to a multiple of 32,
    between 96 (below, most backbones have hardly any feature map left) and 224."""


def inspect_path(path: Path) -> Inspection:
    """Find out what kind of source lies at `path`, and its splits, columns and classes.

    Files or folders named after splits (`train`, `val`, `test`) become sources of their own.

    Raises:
        DataError: it cannot be told, with what was looked for; or the source has problems.
    """
    path = path.expanduser().absolute()
    sources = _sources(path)
    adapter: TypeAdapter[SourceSpec] = TypeAdapter(SourceSpec)
    listings = {
        split: list_source(adapter.validate_python(fields), base_dir=path.parent)
        for split, fields in sources.items()
    }
    size = typical_size(listings["train"])
    return Inspection(
        sources=sources,
        num_rows={split: listing.num_rows for split, listing in listings.items()},
        classes=listings["train"].classes,
        typical_size=size,
        image_size=suggest_size(size),
    )


def _sources(path: Path) -> dict[SplitName, Fields]:
    if not path.exists():
        raise DataError(Problem(str(path), "there is nothing at this path", "check the spelling"))
    if path.is_file():
        return {"train": _file_source(path, str(path))}
    try:
        if listed := _listed_files(path):
            return listed
    except DataError:
        # Notes in a CSV file may well lie beside folders of images.
        if not _has_class_folders(path):
            raise
    folders = [f for f in sorted(path.iterdir()) if f.is_dir() and not f.name.startswith(".")]
    by_split = _by_split(folders)
    if "train" in by_split and all(_has_class_folders(f[0]) for f in by_split.values()):
        return {split: {"kind": "folder", "path": str(f[0])} for split, f in by_split.items()}
    if _has_class_folders(path):
        return {"train": {"kind": "folder", "path": str(path)}}
    raise _cannot_tell(path)


def _listed_files(path: Path) -> dict[SplitName, Fields]:
    for pattern in ("*.parquet", "*.csv", "*.tar"):
        if files := sorted(f for f in path.glob(pattern) if not f.name.startswith(".")):
            return _split_files(path, files)
    return {}


def _split_files(path: Path, files: list[Path]) -> dict[SplitName, Fields]:
    by_split = _by_split(files)
    if "train" in by_split:
        return {split: _files_source(path, found) for split, found in by_split.items()}
    if len(files) > 1 and files[0].suffix == ".csv":
        what = f"it holds {len(files)} CSV files, and none is named after `train`"
        raise DataError(Problem(str(path), what, "name the one CSV file"))
    where = str(files[0]) if files[0].suffix == ".csv" else str(path)
    return {"train": _file_source(files[0], where)}


def _files_source(path: Path, files: list[Path]) -> Fields:
    if len(files) == 1:
        return _file_source(files[0], str(files[0]))
    start = files[0].name.split("-")[0].split("_")[0].split(".")[0]
    return _file_source(files[0], str(path / f"{start}*{files[0].suffix}"))


def _by_split(paths: Iterable[Path]) -> dict[SplitName, list[Path]]:
    found: dict[SplitName, list[Path]] = {}
    for path in paths:
        start = path.name.lower().split("-")[0].split("_")[0].split(".")[0]
        for split, names in SPLIT_NAMES.items():
            if start in names:
                found.setdefault(split, []).append(path)
    return found


def _file_source(file: Path, path: str) -> Fields:
    match file.suffix.lower():
        case ".parquet":
            schema = read_schema(Location(str(file)))
            images = [f.name for f in schema if is_image_type(f.type)]
            texts = [f.name for f in schema if is_text_type(f.type)]
            labels = [f.name for f in schema if is_label_type(f.type)]
            image = _choose(IMAGE_NAMES, images) or _only(images) or _choose(IMAGE_NAMES, texts)
            return _with_columns("parquet", path, image, labels, columns=schema.names)
        case ".csv":
            columns = list((read_csv(Location(str(file))) or [{}])[0])
            image = _choose(IMAGE_NAMES, columns)
            return _with_columns("csv", path, image, columns, columns=columns)
        case ".tar":
            return _tar_source(file, path)
        case _:
            raise _cannot_tell(file)


def _tar_source(file: Path, path: str) -> Fields:
    index = index_tar(Location(str(file)), None, Wanted(images=(), label="json", label_key=None))
    images = [ending for ending in index.extensions if f".{ending}" in IMAGE_SUFFIXES]
    fields = {"kind": "webdataset", "path": path}
    usual = WebDatasetSource.model_fields["image"].default.split(";")
    if not set(images) <= set(usual):
        fields["image"] = ";".join(images)
    if images and "cls" in index.extensions:
        return fields
    objects = (label for label in index.labels if label is not None)
    if images and (key := _choose(LABEL_NAMES, _keys(next(objects, "")))) is not None:
        return {**fields, "label": "json", "label_key": key}
    endings = ", ".join(index.extensions[:20])
    what = f"no member for image and label can be told among those that end with: {endings}"
    fix = "name the extension of the class in the spec, by hand"
    raise DataError(Problem(path, what, fix))


def _keys(text: str) -> list[str]:
    try:
        return list(read_object(text))
    except ValueError:
        return []


def _with_columns(
    kind: str, path: str, image: str | None, labels: list[str], *, columns: list[str]
) -> Fields:
    rest = [name for name in labels if name != image]
    label = _choose(LABEL_NAMES, rest) or _only(rest)
    if image is None or label is None:
        lacking = " and ".join(n for n, c in (("image", image), ("label", label)) if c is None)
        what = f"no column for {lacking} can be told among: {', '.join(columns[:20])}"
        fix = "rename them to 'image' and 'label', or name them in the spec by hand"
        raise DataError(Problem(path, what, fix))
    return {"kind": kind, "path": path, "image": image, "label": label}


def _choose(usual: Iterable[str], present: list[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(present)}
    return next((lower[name] for name in usual if name in lower), None)


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _has_class_folders(path: Path) -> bool:
    return any(
        file.suffix.lower() in IMAGE_SUFFIXES
        for folder in path.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
        for file in folder.iterdir()
    )


def _cannot_tell(path: Path) -> DataError:
    what = (
        "it cannot be told what this is; looked for *.parquet, for *.csv with a header, for *.tar "
        "of WebDataset samples, and for "
        f"a folder for each class with images ({', '.join(sorted(IMAGE_SUFFIXES))})"
    )
    return DataError(Problem(str(path), what, "point to one of these, or write the spec by hand"))
