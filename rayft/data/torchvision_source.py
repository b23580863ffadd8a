"""Sources of kind `torchvision`: its own data sets, in the files that it keeps of them.

torchvision is imported only when such a source is listed. It reads CIFAR by unpickling, so the
hashes of all of that data set's files are checked here before it may; what was changed is refused
unread.
"""

from pathlib import Path
from typing import Any, assert_never

import numpy as np

from rayft.data.labels import capped, code_labels
from rayft.data.listing import Listing, make_listing, resolve_place
from rayft.data.raw import printable
from rayft.data.readers import FileRows, Reader, ValueRows
from rayft.errors import DataError, Problem
from rayft.spec.sources import TorchvisionSource
from rayft.storage.location import Location

Dataset = Any
"""One of torchvision's data sets, or its class; torchvision has no types."""


def list_torchvision(source: TorchvisionSource, *, base_dir: Path) -> Listing:
    """List the rows of one of torchvision's data sets, in its own order.

    Raises:
        DataError: files are missing, were changed or cannot be downloaded.
    """
    place = resolve_place(source.root, base_dir=base_dir)
    if not place.is_local:
        what = f"torchvision reads {source.name} from a folder of this machine only"
        fix = "copy the data set to a folder, and set `root` to it"
        raise DataError(Problem(str(place), what, fix))
    where = f"{source.name} in {printable(str(place))}"
    dataset = _open(source, place.path, where=where)
    reader, numbers = _rows(source, dataset, place)
    if len(reader.sources()) != len(numbers):
        what = f"it has {len(reader.sources())} images and {len(numbers)} labels"
        raise DataError(Problem(where, what, _again(place.path, source)))
    names = _names(dataset, numbers)
    labels = code_labels([names[number] for number in numbers])
    return make_listing(where=where, labels=labels, groups=None, reader=reader)


def _open(source: TorchvisionSource, root: Path, *, where: str) -> Dataset:
    from torchvision import datasets

    kind = getattr(datasets, source.name)
    missing = [path for path in _expected(source, kind) if not (root / path).exists()]
    if missing and not source.download:
        what = f"files are missing: {capped(missing)}"
        fix = (
            "set `download: true` where this machine reaches the internet, or download the data "
            f"set elsewhere (`torchvision.datasets.{source.name}(root, download=True)`) and set "
            "`root` to a copy of that folder"
        )
        raise DataError(Problem(where, what, fix))
    try:
        return _construct(source, kind, root, where=where)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        what = f"torchvision needs {package} to read it, which is not installed"
        raise DataError(Problem(where, what, f"run `pip install {package}`")) from error
    except DataError:
        raise
    except Exception as error:
        verb = "download and read it" if missing else "read it"
        reason = " ".join(str(error).split()) or type(error).__name__
        what = f"torchvision cannot {verb}: {reason}"
        raise DataError(Problem(where, what, _again(root, source))) from error


def _expected(source: TorchvisionSource, kind: Dataset) -> list[str]:
    """Return the files and folders that the data set cannot do without."""
    match source.name:
        case "CIFAR10" | "CIFAR100":
            return [path for path, _ in _hashed_files(kind)]
        case "FashionMNIST":
            names = [Path(name).stem for name, _ in kind.resources]
            return [f"FashionMNIST/raw/{name}" for name in names]
        case "Flowers102":
            return [f"flowers-102/{name}" for name in ("jpg", "imagelabels.mat", "setid.mat")]
        case "OxfordIIITPet":
            names = ["images", f"annotations/{source.split}.txt"]
            return [f"oxford-iiit-pet/{name}" for name in names]
        case _:
            assert_never(source.name)


def _hashed_files(kind: Dataset) -> list[tuple[str, str]]:
    """Return all files of a CIFAR data set with their MD5."""
    files = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    return [(f"{kind.base_folder}/{name}", md5) for name, md5 in files]


def _construct(source: TorchvisionSource, kind: Dataset, root: Path, *, where: str) -> Dataset:
    match source.name:
        case "CIFAR10" | "CIFAR100":
            _check_hashes(source, kind, root, where=where)
            return kind(str(root), train=source.split == "train")
        case "FashionMNIST":
            return kind(str(root), train=source.split == "train", download=source.download)
        case "Flowers102" | "OxfordIIITPet":
            return kind(str(root), split=source.split, download=source.download)
        case _:
            assert_never(source.name)


def _check_hashes(source: TorchvisionSource, kind: Dataset, root: Path, *, where: str) -> None:
    """Refuse a CIFAR data set in which a file is not the published one: it will be unpickled.

    MD5 is weak against those who make two files alike, not against those who must meet the hash
    of a given one.
    """
    from torchvision.datasets.utils import check_integrity, download_and_extract_archive

    def changed() -> list[str]:
        return [path for path, md5 in _hashed_files(kind) if not check_integrity(root / path, md5)]

    if source.download and changed():
        download_and_extract_archive(kind.url, str(root), filename=kind.filename, md5=kind.tgz_md5)
    if wrong := changed():
        what = f"files are not the published ones, and were not opened: {capped(wrong)}"
        raise DataError(Problem(where, what, _again(root, source)))


def _again(root: Path, source: TorchvisionSource) -> str:
    if source.download:
        return (
            f"check that this machine reaches the internet, or copy the data set of a machine that "
            f"does to {printable(str(root))}"
        )
    return "copy the data set again, or delete it and set `download: true`"


def _rows(source: TorchvisionSource, dataset: Dataset, place: Location) -> tuple[Reader, list[int]]:
    """Return the images, and the number of each one's class."""
    match source.name:
        case "CIFAR10" | "CIFAR100" | "FashionMNIST":
            images = np.ascontiguousarray(dataset.data)
            numbers = [int(number) for number in dataset.targets]
            return ValueRows(values=list(images)), numbers
        case "Flowers102":
            return _files(dataset._image_files, place), list(dataset._labels)
        case "OxfordIIITPet":
            return _files(dataset._images, place), list(dataset._labels)
        case _:
            assert_never(source.name)


def _files(paths: list[Path], place: Location) -> FileRows:
    relative = tuple(str(path.relative_to(place.path)) for path in paths)
    return FileRows(root=place, paths=relative, confined=True)


def _names(dataset: Dataset, numbers: list[int]) -> list[str]:
    """Return the name of each class; numbers from 1 where torchvision does not name them all."""
    names = [str(name) for name in getattr(dataset, "classes", ())]
    count = max(numbers, default=-1) + 1
    if len(set(names)) < max(len(names), count):
        return [str(number + 1) for number in range(count)]
    return names
