"""The `model:` section: a pretrained backbone and the heads on its features."""

from typing import Annotated, Literal

from pydantic import Field

from rayft.spec.base import Spec


class FileWeights(Spec):
    """A state dict in a file: `.safetensors`, or `.pth`/`.pt`, read without unpickling code."""

    file: str
    """Path of the file."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Expected hash of the file; checked before it is opened."""


class PackageWeights(Spec):
    """A state dict inside an installed Python package."""

    package: str
    """Import name of the package."""
    resource: str
    """Path of the file inside the package."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Expected hash of the file; checked before it is opened."""


class RunWeights(Spec):
    """The weights of an earlier run; heads are matched by class name."""

    checkpoint: str
    """A checkpoint folder, or a run folder (its best checkpoint)."""


WeightsSpec = str | FileWeights | PackageWeights | RunWeights
"""A name such as `IMAGENET1K_V1` or `DEFAULT`, a file, a package resource, an earlier run, or
`none` for random weights."""


class TorchvisionBackbone(Spec):
    """A model of `torchvision.models`."""

    kind: Literal["torchvision"]
    name: str
    """Name of the model, such as `resnet50`."""
    weights: WeightsSpec = "DEFAULT"
    """Where the pretrained weights come from."""


class TimmBackbone(Spec):
    """A model of the `timm` library."""

    kind: Literal["timm"]
    name: str
    """Name of the model, such as `tf_efficientnet_lite0`."""
    weights: WeightsSpec = "DEFAULT"
    """Where the pretrained weights come from."""


BackboneSpec = Annotated[TorchvisionBackbone | TimmBackbone, Field(discriminator="kind")]


class ClassificationHead(Spec):
    """Dropout, hidden layers and one score for each class, trained with cross entropy."""

    kind: Literal["classification"]
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Widths of hidden layers, each followed by ReLU and dropout."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the inputs of every linear layer that is dropped in training."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread evenly over all classes (Szegedy et al. 2016,
    https://arxiv.org/abs/1512.00567, section 7)."""


class ModelSpec(Spec):
    """A pretrained backbone and the heads on its features."""

    backbone: BackboneSpec
    """The pretrained network."""
    heads: dict[str, ClassificationHead]
    """A head for each label column; a single task has one, named `label`."""
