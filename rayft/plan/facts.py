"""What a plan is made from: facts about the model, the data and the cluster.

The rings above fill these in; planning itself is integers and tables. Nothing here knows
torch, pyarrow or ray.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ParamKind = Literal["weight", "bias", "norm"]
SplitName = Literal["train", "validation", "test"]
DeviceName = Literal["cpu", "cuda", "mps"]
"""What a worker computes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamFacts:
    """One parameter tensor."""

    name: str
    """Full name in the model: `backbone.net.layer1.0.conv1.weight`."""
    size: int
    """Number of elements."""
    kind: ParamKind
    """`norm`: of a normalisation layer; `bias`: any other bias. Neither of the two decays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFacts:
    """A depth group of the backbone, or a head."""

    name: str
    params: tuple[ParamFacts, ...]
    activation_bytes_per_row: int
    """Bytes of fp32 activations that backward needs from this group for one row."""
    flops_per_row: int
    """Multiply-adds of one forward pass for one row."""
    output_shape: tuple[int, ...] = ()
    """Shape of what the group makes of one row; empty where the network cannot be cut after it."""
    map_size: int = 0
    """Height in pixels of the map that the group makes, before pooling; 0 where it makes none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A backbone and its heads, seen on the meta device: no weight is read."""

    backbone: str
    """Kind and name, such as `torchvision/resnet50`."""
    groups: tuple[GroupFacts, ...]
    """Depth groups of the backbone, input side first."""
    heads: tuple[GroupFacts, ...]
    """Heads, named by label column."""
    feature_dim: int
    image_size: int
    """Height and width in pixels that the backbone will see."""
    mean: tuple[float, ...]
    """Mean of each channel that the weights were trained with, white being 1."""
    std: tuple[float, ...]
    weights: str
    """Where the weights come from, in words."""
    pretrained: bool
    """False where all weights are random."""

    @property
    def channels(self) -> int:
        """Channels of the images that the backbone sees."""
        return len(self.mean)

    @property
    def maps(self) -> Mapping[str, int]:
        """Height in pixels of the map that each group makes; one that makes none is left out."""
        return {group.name: group.map_size for group in self.groups if group.map_size}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """A dataset with its splits."""

    classes: tuple[str, ...]
    """Label names; a label's integer is its place here."""
    counts: Mapping[SplitName, tuple[int, ...]]
    """Rows of each class in each split that exists."""
    exact: bool
    """False before the dataset is prepared: counts of shares are then expectations."""
    num_bad_rows: int
    """Rows put aside because their image cannot be read."""
    num_left_out: int = 0
    """Other rows that `data.leave_out` keeps out of all splits."""
    stored_bytes: int
    """Bytes of all row stores on disk; an estimate while not `exact`."""
    stored_as: Literal["decoded", "encoded"]
    """What a row of the training source's store is."""
    rows_per_shard: int
    """Rows in every shard of the training source's store but the last."""
    num_shards: int
    """Shards of that store."""
    train_bytes: int
    """Bytes of that store."""

    def num_rows(self, split: SplitName) -> int:
        """Return the rows of `split`, 0 where it does not exist."""
        return sum(self.counts.get(split, ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """A node that is there, or a kind of nodes that an autoscaler may add."""

    name: str
    """Its host name and address, or the name of the kind."""
    resources: Mapping[str, float]
    """All that Ray can hand out on one such node, in use or not."""
    memory_bytes: int
    """Memory of one such node; 0 where it is not known."""
    count: int = 1
    """How many of them there are, or can be added at most."""
    present: bool = True
    """Whether it is there now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """What the cluster has, and what it could get."""

    cpus: float
    """CPUs present now."""
    gpus: float
    memory_bytes: int
    """Memory of the smallest node that can hold a worker."""
    gpu_memory_bytes: int
    """Memory of one GPU; 0 without GPUs."""
    gpu_names: tuple[str, ...] = ()
    """Kinds of GPUs, as far as they are known."""
    max_cpus: float | None
    """CPUs the cluster can reach by autoscaling; None when it does not say."""
    max_gpus: float | None
    cpu_bf16: bool
    """Whether the CPUs of this machine, which is probed, and of all nodes have instructions for
    bf16."""
    gpu_bf16: bool | None
    """Whether all GPUs have them; None while nothing is known of any, as before the first is up."""
    unusable_gpus: tuple[str, ...] = ()
    """Nodes with GPUs that torch cannot compute on there, as far as they were asked."""
    device: DeviceName
    """What a worker with the default settings would compute on."""
    disk_free_bytes: int
    """Free bytes where `storage_path` lies."""
    kept_bytes: int = 0
    """Bytes there that are kept of frozen layers."""
    nodes: tuple[NodeFacts, ...] = ()
    """Nodes that there are, and that can be added as far as the cluster says; empty where only the
    totals are known."""
    max_new_nodes: int | None = None
    """Nodes of all kinds together that can be added; None where only the kinds' own limits hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paces:
    """Rows per second of one worker in the two parts of a step."""

    below: float
    """Forward through the frozen prefix."""
    above: float
    """A training step of what lies above it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Rows per second of the workers' device, from a short probe of the machine that plans."""

    prepare_rows_per_s: float
    """Gathering and augmenting, in one thread of one process."""
    fp32_rows_per_s: float
    """Training steps of one worker."""
    bf16_rows_per_s: float | None
    """The same in bf16; None where it was not measured."""
    paces: Mapping[int, Paces] = field(default_factory=dict)
    """Those of the two parts of a step, by the number of groups below the cut; where it was not
    measured they are taken to follow from multiply-adds."""
