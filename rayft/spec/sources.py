"""Where rows come from: the kinds of sources of the `data:` section."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayft.spec.base import Spec


class FolderSource(Spec):
    """Images in one subfolder per class; the subfolder's name is the class."""

    kind: Literal["folder"]
    path: str
    """Folder that holds the class folders, or its address in an object store."""


class ParquetSource(Spec):
    """Rows of parquet files."""

    kind: Literal["parquet"]
    path: str
    """A file, a folder or a glob pattern, here or in an object store; files are read in the order
    of their names."""
    image: str = "image"
    """Column with the image: encoded bytes, a struct with `bytes` and `path`, or a path."""
    label: str = "label"
    """Column with the class: text or integer."""
    group: str | None = None
    """Column whose equal values must fall into the same split (a patient, a video)."""


class CsvSource(Spec):
    """A CSV manifest with one row for each image file."""

    kind: Literal["csv"]
    path: str
    """The CSV file, with a header line; here or in an object store."""
    image: str = "image"
    """Column with the image's path, relative to `root`."""
    label: str = "label"
    """Column with the class."""
    group: str | None = None
    """Column whose equal values must fall into the same split (a patient, a video)."""
    root: str | None = None
    """Folder the paths are relative to, here or in an object store; the CSV file's own folder when
    left out."""


class PythonSource(Spec):
    """Rows from your own Python function, which is called once, on the driver."""

    kind: Literal["python"]
    function: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """`package.module:function`. It yields one mapping per row with `image` (array [H, W] or
    [H, W, C] of uint8, encoded bytes, or a path), `label` (text or integer), and, where rows
    belong together, `group`."""
    args: dict[str, str | int | float | bool] = {}
    """Keyword arguments for the function."""


class TorchvisionSource(Spec):
    """One of torchvision's data sets, in the files that torchvision keeps of it."""

    kind: Literal["torchvision"]
    name: Literal["CIFAR10", "CIFAR100", "FashionMNIST", "Flowers102", "OxfordIIITPet"]
    """The data set, as torchvision calls it."""
    root: str
    """Folder that torchvision keeps the data set in: its `root`."""
    split: Literal["train", "trainval", "val", "test"]
    """The part of the data set: `train` or `test`; Flowers102 has `val` as well, and OxfordIIITPet
    has `trainval` and `test`."""
    download: bool = False
    """Let torchvision download what is missing, already when the run is planned."""

    @model_validator(mode="after")
    def _has_the_split(self) -> Self:
        known = TORCHVISION_SPLITS[self.name]
        if self.split not in known:
            raise ValueError(
                f"split is {self.split!r}, and {self.name} has {', '.join(known)}; "
                f"write {' or '.join(known)}"
            )
        return self


TORCHVISION_SPLITS = {
    "CIFAR10": ("train", "test"),
    "CIFAR100": ("train", "test"),
    "FashionMNIST": ("train", "test"),
    "Flowers102": ("train", "val", "test"),
    "OxfordIIITPet": ("trainval", "test"),
}
"""The parts of each data set, as torchvision calls them."""


class WebDatasetSource(Spec):
    """Samples in tar files, as WebDataset writes them: members that share a name are a row."""

    kind: Literal["webdataset"]
    path: str
    """A tar file, a folder, a glob pattern or a range such as `train-{000..099}.tar`, here or in an
    object store; files are read in the order of their names."""
    image: str = "jpg;jpeg;png;webp"
    """Extensions of the member with the image, separated by `;`; the first that a sample has
    counts."""
    label: str = "cls"
    """Extension of the member with the class: text or an integer, or JSON with `label_key`."""
    label_key: str | None = None
    """Key of the class in the JSON object that the label's member holds."""

    @model_validator(mode="after")
    def _key_goes_with_json(self) -> Self:
        is_json = self.label.split(".")[-1] == "json"
        if is_json and self.label_key is None:
            raise ValueError("label_key is not given, and label is JSON; name the key of the class")
        if not is_json and self.label_key is not None:
            raise ValueError(
                f"label_key has no effect while label is {self.label!r}; remove it, or set label "
                "to json"
            )
        if not all(part.strip(" .") for part in (*self.image.split(";"), self.label)):
            raise ValueError("image or label has an empty extension; write some such as 'jpg;png'")
        return self


SourceSpec = Annotated[
    FolderSource | ParquetSource | CsvSource | TorchvisionSource | WebDatasetSource | PythonSource,
    Field(discriminator="kind"),
]
