"""The `model:` section: a pretrained backbone and the heads on its features."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayft.spec.base import Positive, Spec


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


class Adapter(Spec):
    """A narrow residual block that starts as the identity, a depth group of its own.

    It is called GROUP_adapter after the group it follows. Source: Houlsby et al. 2019
    (https://arxiv.org/abs/1902.00751), section 2.1.
    """

    kind: Literal["adapter"]
    after: str
    """Depth group that it follows."""
    width: int = Field(ge=1)
    """Channels inside the block; a sixteenth to a quarter of those outside is usual."""


class InsertedDropout(Spec):
    """Dropout of a group's output, which works where that group trains."""

    kind: Literal["dropout"]
    after: str
    """Depth group that it follows."""
    probability: float = Field(gt=0, lt=1)
    """Share of the numbers that are dropped; of a feature map, whole channels."""


InsertSpec = Annotated[Adapter | InsertedDropout, Field(discriminator="kind")]


class StructuredBackbone(Spec):
    """What all backbones have in common: their structure can be changed."""

    weights: WeightsSpec = "DEFAULT"
    """Where the pretrained weights come from."""
    cut_after: str | None = None
    """Last depth group that is kept: its output, pooled, becomes the features."""
    pool: Literal["own", "avg", "max", "avg_max"] = "own"
    """How the last feature map becomes features: as the network does, by its mean, its maximum, or
    the mean of the two. After a cut, `own` is the mean."""
    drop: tuple[str, ...] = ()
    """Layers to leave out, by their names in the network (`layer4.2`); what follows gets their
    input, so it must have the same shape."""
    insert: tuple[InsertSpec, ...] = ()
    """Layers to put between depth groups."""
    strides: dict[str, Annotated[int, Field(ge=1)]] = {}
    """Smaller strides, by the names of layers in the network (`{layer4: 1}`): every convolution and
    pooling in such a layer whose stride is larger gets this one, so that maps stay larger from
    there on. Weights stay as they are."""
    stochastic_depth: float | None = Field(default=None, ge=0, lt=1)
    """Chance that the last residual block that is kept is skipped in training; it rises to this
    from the first (Huang et al. 2016, https://arxiv.org/abs/1603.09382), in EfficientNets to one
    block's step below it. Left out: as the network was designed."""

    @property
    def is_changed(self) -> bool:
        """Whether the network's chain is not the official one."""
        asked = (self.cut_after, self.pool != "own", self.drop, self.insert, self.strides)
        return any(bool(change) for change in asked)


class TorchvisionBackbone(StructuredBackbone):
    """A model of `torchvision.models`."""

    kind: Literal["torchvision"]
    name: str
    """Name of the model, such as `resnet50`."""


class TimmBackbone(StructuredBackbone):
    """A model of the `timm` library."""

    kind: Literal["timm"]
    name: str
    """Name of the model, such as `tf_efficientnet_lite0`."""


BackboneSpec = Annotated[TorchvisionBackbone | TimmBackbone, Field(discriminator="kind")]


class ClassificationHead(Spec):
    """Dropout, hidden layers and one score for each class, trained with cross entropy."""

    kind: Literal["classification"]
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Widths of hidden layers."""
    activation: Literal["relu", "gelu"] = "relu"
    """What follows each hidden layer."""
    norm: Literal["none", "layer"] = "none"
    """Normalise the inputs of every linear layer, those of the first, which are the features, too.
    There is no batch norm here: a new one would make results depend on how rows fall to
    workers."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the inputs of every linear layer that is dropped in training."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread evenly over all classes (Szegedy et al. 2016,
    https://arxiv.org/abs/1512.00567, section 7)."""
    class_weights: Literal["auto", "none"] | dict[str, Positive] = "none"
    """Weight of each class's rows in the loss: by name, 1 for those that are not named; `auto`
    weighs a class by the rows it lacks to the average, so that all classes count alike."""

    @model_validator(mode="after")
    def _refuse_activation_without_layers(self) -> Self:
        if self.activation != "relu" and not self.hidden:
            raise ValueError(
                "activation has no effect without hidden layers; remove it, or set hidden"
            )
        return self


class ModelSpec(Spec):
    """A pretrained backbone and the heads on its features."""

    backbone: BackboneSpec
    """The pretrained network."""
    heads: dict[str, ClassificationHead]
    """A head for each label column; a single task has one, named `label`."""
