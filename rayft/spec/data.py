"""The `data:` section: where rows come from, how they are split, and how they are stored."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayft.spec.base import Fraction, Positive, Probability, Spec
from rayft.spec.size import SizeText
from rayft.spec.sources import PythonSource, SourceSpec


class SplitSpec(Spec):
    """A share taken out of the training source.

    Rows are taken in the order of the hash of their content (or of their group), so equal images
    and members of a group stay together, and another seed gives the same share.
    """

    fraction: Fraction
    """Share of the rows, above 0 and below 1."""
    stratify: bool = True
    """Take the share of each class, rounded and at least one row. Without it the share is that of
    all rows, about, and no row changes its split when others are added."""


class FoldsSpec(Spec):
    """One of several equal parts of the training source, for cross-validation: a run for each."""

    folds: int = Field(ge=2)
    """Number of parts, each with its share of every class. Together they hold every row once."""
    fold: int = Field(ge=0)
    """The part that validates, from 0; the others train."""

    @model_validator(mode="before")
    @classmethod
    def _is_no_share(cls, raw: object) -> object:
        if isinstance(raw, Mapping) and "folds" in raw:
            if "fraction" in raw:
                raise ValueError(
                    "fraction takes a share, and folds cut the training source into equal parts; "
                    "remove fraction, or folds and fold"
                )
            if "stratify" in raw:
                raise ValueError(
                    "stratify has no effect on folds, which are always stratified; remove it"
                )
        return raw

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.fold >= self.folds:
            raise ValueError(
                f"fold is {self.fold}, and {self.folds} folds count from 0; choose one from 0 to "
                f"{self.folds - 1}"
            )
        return self


class BadRowsSpec(Spec):
    """What to do with images that cannot be read."""

    limit: Probability = 0.0
    """Largest share of unreadable rows that is put aside; above it, preparing stops with a list."""


class WeightsNormalization(Spec):
    """Use the mean and standard deviation that the pretrained weights were trained with."""

    kind: Literal["weights"] = "weights"


class GivenNormalization(Spec):
    """Use the mean and standard deviation given here."""

    kind: Literal["given"]
    mean: tuple[float, ...]
    """Mean of each channel, on a scale where white is 1."""
    std: tuple[Positive, ...]
    """Standard deviation of each channel, on the same scale."""


class ComputedNormalization(Spec):
    """Compute mean and standard deviation over the training split."""

    kind: Literal["computed"]


NormalizationSpec = Annotated[
    WeightsNormalization | GivenNormalization | ComputedNormalization, Field(discriminator="kind")
]


RGB = 3
"""Red, green and blue: the channels that pretrained weights were trained with."""

FILE_CHANNELS = (1, 3, 4)
"""What an image file can be decoded to: grey, RGB, RGBA."""

ResizeMode = Literal["crop", "stretch", "pad"]
"""How an image becomes square."""


class LocalCacheSpec(Spec):
    """What each machine keeps of prepared rows that lie in an object store."""

    path: str = "auto"
    """Folder on each machine, shared by its workers; `auto` is `$RAYFT_CACHE_DIR`, or else
    `~/.cache/rayft`."""
    budget: SizeText = "50 GB"
    """Most bytes it takes. Rows beyond it are fetched again in every epoch, in windows of a third
    of it."""


class DataSpec(Spec):
    """Where rows come from and how they are split."""

    train: SourceSpec
    """Source of the training rows."""
    validation: SourceSpec | SplitSpec | FoldsSpec | None = None
    """Rows to choose the best checkpoint by: a source, or a share or fold of the training
    source."""
    test: SourceSpec | SplitSpec | None = None
    """Rows for the final figure: a source, or a share of the training source."""
    leave_out: str | None = None
    """CSV file of rows that no split gets, here or in an object store; `rayft prepare --report`
    writes one to be edited."""
    bad_rows: BadRowsSpec = BadRowsSpec()
    """Images that cannot be read."""
    image_size: int | Literal["auto"] = "auto"
    """Height and width in pixels that the backbone sees; `auto` is the size its weights were
    trained at."""
    stored_size: int | Literal["auto"] = "auto"
    """Height and width in pixels of the stored images. `auto` is `image_size`, or 8/7 of it where
    `random_resized_crop` needs room; evaluation takes the centre."""
    channels: int = Field(default=RGB, ge=1, le=64)
    """Channels of the images: 3 is red, green and blue, 1 grey, 4 those and an opacity, which an
    opaque image has as 255. Files become any of these. Other numbers, and other bands, come as
    arrays of exactly that many from a `python` source."""
    resize: ResizeMode = "crop"
    """How an image becomes square: scale the shorter side and keep the centre, stretch both sides,
    or scale the longer side and pad with black."""
    normalize: NormalizationSpec = WeightsNormalization()
    """Mean and standard deviation that images are normalised with."""
    stored_as: Literal["auto", "decoded", "encoded"] = "auto"
    """What the row store holds: pixels (fast), or each image's file (small, decoded again in every
    epoch). Same batches either way. `auto` takes pixels up to 16 GiB a source."""
    order: Literal["auto", "permutation", "windowed", "balanced"] = "auto"
    """Order of rows in an epoch: all mixed; shards mixed and rows mixed within windows of shards;
    or as many rows of every class, so that those of a rare one come several times, each time in
    another random view. `auto` takes windows where the rows lie in an object store and exceed
    `local_cache.budget`, else all mixed."""
    local_cache: LocalCacheSpec = LocalCacheSpec()
    """What each machine keeps of rows that lie in an object store."""

    @model_validator(mode="after")
    def _values_for_each_channel(self) -> Self:
        given = self.normalize
        if isinstance(given, GivenNormalization):
            for name, values in (("mean", given.mean), ("std", given.std)):
                if len(values) != self.channels:
                    raise ValueError(
                        f"normalize.{name} is a list of {len(values)}, and data.channels is "
                        f"{self.channels}; give one value for each channel, or set data.channels"
                    )
        return self

    @model_validator(mode="after")
    def _channels_can_be_had(self) -> Self:
        if self.channels in FILE_CHANNELS:
            return self
        if self.stored_as == "encoded":
            raise ValueError(
                f"stored_as is encoded, and files hold 1, 3 or 4 channels, not {self.channels}; "
                "remove it"
            )
        for source in (self.train, self.validation, self.test):
            if isinstance(source, SplitSpec | FoldsSpec | PythonSource | None):
                continue
            raise ValueError(
                f"channels is {self.channels}, and a {source.kind} source has images of 1, 3 or 4; "
                f"choose one of these, or a python source that yields arrays of {self.channels}"
            )
        return self

    @model_validator(mode="after")
    def _shares_leave_training_rows(self) -> Self:
        taken = sum(
            split.fraction for split in (self.validation, self.test) if isinstance(split, SplitSpec)
        )
        if taken >= 1:
            raise ValueError(
                f"validation and test take {taken:g} of the training source and leave nothing to "
                "train on; make their fractions sum to less than 1"
            )
        for name in ("image_size", "stored_size"):
            size = getattr(self, name)
            if isinstance(size, int) and not 8 <= size <= 4096:
                raise ValueError(
                    f"{name} is {size} pixels, expected 8 to 4096; choose a size in between"
                )
        if isinstance(self.stored_size, int):
            if self.image_size == "auto":
                raise ValueError("stored_size needs image_size as a number; set image_size as well")
            if self.stored_size < self.image_size:
                raise ValueError(
                    f"stored_size {self.stored_size} is smaller than image_size {self.image_size}; "
                    "make it at least as large, or remove it"
                )
        return self
