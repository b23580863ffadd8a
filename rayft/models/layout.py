"""How a network is laid out in depth: which name lies in which group, and in what order it runs.

A network declares its layout once, when it is built. Nothing here knows a library; the
declarations stand in `torchvision_nets`, `timm_nets` and the files beside them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from rayft.errors import ModelError, Problem


@dataclass(frozen=True, slots=True)
class Stage:
    """One depth group as a step of the forward pass."""

    name: str
    """The depth group."""
    modules: tuple[nn.Module, ...]
    """Submodules of the network that run in this stage, in their order."""
    forward: Callable[[Tensor], Tensor]
    """From the output of the stage before to this stage's output; the last one gives [B, D]. It
    leaves its input as it was: what a stage gives may be kept and used again."""
    tensors: tuple[str, ...] = ()
    """Parameters and buffers that the stage uses outside of `modules`, by name in the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Official:
    """What files hold of a network whose structure was changed afterwards."""

    shapes: Mapping[str, torch.Size]
    """Shape of every parameter and buffer, in the order of the network."""
    feature_dim: int
    """Width of its features: the classifier in a file takes so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a backbone must know about its network beyond the modules themselves."""

    depth_groups: tuple[str, ...]
    """Names of the depth groups, input side first."""
    group_of: Mapping[str, str]
    """Depth group of every parameter, buffer and leaf module, by name in the network."""
    feature_dim: int
    """D, the width of the features."""
    classifier: tuple[str, ...]
    """Modules of the official network that make class scores, auxiliary ones last. They are
    removed here, and their entries in an official state dict are ignored."""
    make_stages: Callable[[nn.Module], tuple[Stage, ...]] | None
    """Finds the stages in a network of this layout; None where it is no plain chain. A function
    and not the stages, so that copies of a network and replaced submodules stay right."""
    norm_types: tuple[type[nn.Module], ...]
    """Classes of the normalisation layers that this library uses."""
    skipping: tuple[type[nn.Module], str]
    """Class of the layers that skip a residual block by chance, and their name of the chance."""
    channel_axis: int = 1
    """Where the channels of feature maps are: 1 in [B, C, H, W], -1 in [B, H, W, C]."""
    input_layers: tuple[str, ...] = ()
    """Convolutions that take the images themselves."""
    pools_as_asked: bool = False
    """Whether the network was built with the pooling that the spec asks for."""
    added: tuple[str, ...] = ()
    """Modules that no official file has; they keep their initial values where a file has none."""
    official: Official | None = None
    """The network before its structure was changed; None where it is the official one."""
    translate: Callable[[nn.Module, Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None
    """Brings the tensors of an official file that was written for another version of the network
    under the names of this one; None where official files have always had these names."""


TORCH_NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
"""Normalisation layers of torch, with their subclasses."""


def tensor_names(net: nn.Module) -> Iterator[str]:
    """Yield the name of every parameter and buffer of `net`, of shared ones each name."""
    params = net.named_parameters(remove_duplicate=False)
    buffers = net.named_buffers(remove_duplicate=False)
    return (name for name, _ in chain(params, buffers))


def leaf_names(net: nn.Module) -> Iterator[str]:
    """Yield the name of every module of `net` that has no submodules."""
    return (name for name, module in net.named_modules() if name and is_leaf(module))


def is_leaf(module: nn.Module) -> bool:
    """Return whether `module` has no submodules."""
    return next(module.children(), None) is None


def groups_by_stage(net: nn.Module, stages: tuple[Stage, ...]) -> dict[str, str]:
    """Return the stage of every tensor and leaf module of `net`.

    Raises:
        ModelError: a name lies in two stages; the declaration of the family is wrong.
    """
    paths = {id(module): path for path, module in net.named_modules(remove_duplicate=False)}
    owners = {paths[id(module)]: stage.name for stage in stages for module in stage.modules}
    owners |= {name: stage.name for stage in stages for name in stage.tensors}
    found: dict[str, str] = {}
    for name in chain(tensor_names(net), leaf_names(net)):
        prefixes = (name[:end] for end in _ends(name))
        groups = {owners[prefix] for prefix in prefixes if prefix in owners}
        if len(groups) > 1:
            raise ModelError(_odd_name(f"`{name}` lies in {sorted(groups)}"))
        found.update((name, group) for group in groups)
    return found


def check_coverage(net: nn.Module, layout: Layout) -> None:
    """Check that every parameter, buffer and leaf module is in one known depth group.

    Raises:
        ModelError: a name is in no group, a group is unknown, or a group has no tensor.
    """
    names = set(tensor_names(net))
    problems = [
        _odd_name(f"`{name}` lies in no depth group of {', '.join(layout.depth_groups)}")
        for name in chain(names, leaf_names(net))
        if layout.group_of.get(name) not in layout.depth_groups
    ]
    empty = set(layout.depth_groups) - {layout.group_of.get(name) for name in names}
    problems += [_odd_name(f"depth group `{group}` has no parameter") for group in sorted(empty)]
    if problems:
        raise ModelError(*problems[:5])


def _ends(name: str) -> Iterator[int]:
    """Yield where each dotted prefix of `name` ends."""
    return (at for at in range(1, len(name) + 1) if at == len(name) or name[at] == ".")


def _odd_name(what: str) -> Problem:
    fix = "choose another backbone, and report this one: its depth groups are not known well"
    return Problem("model.backbone.name", what, fix)
