"""A pretrained network that turns images into features, and knows its own depth."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import assert_never, final

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rayft.models.channels import input_layers, replace_layers
from rayft.models.inputs import input_facts
from rayft.models.layout import Layout, Stage, check_coverage
from rayft.models.pooling import unpooled
from rayft.models.structure import restructure
from rayft.models.torchvision_nets import make_torchvision_layout, make_torchvision_net
from rayft.spec.data import RGB
from rayft.spec.model import BackboneSpec, TimmBackbone, TorchvisionBackbone

_SECTION: TypeAdapter[BackboneSpec] = TypeAdapter(BackboneSpec)


@final
class Backbone(nn.Module):
    """A network without its classifier, divided into depth groups.

    `net` keeps the official layout of its library, so official state dicts load directly and
    checkpoints carry official names. Names in the methods below are those of `net`
    (`layer1.0.conv1.weight`).

    Raises:
        ModelError: a parameter, buffer or leaf module of `net` is not in exactly one group.
    """

    def __init__(self, net: nn.Module, layout: Layout) -> None:
        super().__init__()
        check_coverage(net, layout)
        self.net = net
        self.layout = layout

    @property
    def depth_groups(self) -> tuple[str, ...]:
        """Names of the depth groups, input side first."""
        return self.layout.depth_groups

    @property
    def feature_dim(self) -> int:
        """D, the width of the features."""
        return self.layout.feature_dim

    @property
    def stages(self) -> tuple[Stage, ...] | None:
        """One stage for each depth group, in the order they run.

        None where the network is no plain chain: it can then be grouped and frozen, but not run
        from a cut. Found anew at each call, so it holds for copies of this module and after
        submodules were replaced (synchronised batch norm).
        """
        if self.layout.make_stages is None:
            return None
        return self.layout.make_stages(self.net)

    def forward(self, images: Tensor, cut: int = 0) -> Tensor:
        """Return features [B, D].

        Args:
            images: [B, C, H, W], float, normalised; or what the lowest `cut` groups made of them.
            cut: depth groups that are done already.
        """
        return self.between(images, cut, len(self.depth_groups))

    def can_be_cut(self, cut: int) -> bool:
        """Return whether the lowest `cut` groups can run by themselves."""
        return self.layout.make_stages is not None or cut in (0, len(self.depth_groups))

    def between(self, inputs: Tensor, first: int, stop: int) -> Tensor:
        """Run the depth groups from number `first` to the one before `stop`.

        Args:
            inputs: what the groups below made; images where `first` is 0.
            first: groups that are done already.
            stop: groups that are done afterwards. The network can be cut at both.
        """
        if first == stop:
            return inputs
        stages = self.stages
        if stages is None:
            features: Tensor = self.net(inputs)
            return features
        for stage in stages[first:stop]:
            inputs = stage.forward(inputs)
        return inputs

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Copy matched tensors into `net`; layers that they have nothing for keep what they hold.

        Args:
            state: from `rayft.models.matching`.
        """
        self.net.load_state_dict({**self.net.state_dict(), **state}, strict=True)

    def group_of(self, name: str) -> str:
        """Return the depth group of a parameter or buffer by its name in `net`.

        Raises:
            KeyError: `net` has no such parameter or buffer.
        """
        return self.layout.group_of[name]

    def modules_of(self, group: str) -> list[nn.Module]:
        """Return the largest submodules of `net` that lie within one depth group.

        Together with their own submodules they are all that runs in `group`; set their mode to
        set that of batch norm, dropout and stochastic depth. A container that spans several
        groups belongs to none.
        """
        return list(self._largest_within(group, "", self.net))

    def _largest_within(self, group: str, path: str, module: nn.Module) -> Iterator[nn.Module]:
        below = {
            owner
            for name, owner in self.layout.group_of.items()
            if not path or name == path or name.startswith(f"{path}.")
        }
        if below == {group}:
            yield module
        elif group in below:
            for name, child in module.named_children():
                yield from self._largest_within(group, f"{path}.{name}" if path else name, child)


def make_backbone(
    spec: BackboneSpec, *, image_size: int | None = None, channels: int = RGB
) -> Backbone:
    """Build the backbone that `spec` names with random weights, from torch's global generator.

    Inside `torch.device("meta")` no memory is taken. `spec.weights` is not read: see
    `rayft.models.weights`.

    Args:
        spec: the `model.backbone:` section.
        image_size: height and width of the images, for a network whose weights depend on it (the
            positions of a ViT); None is the size that the weights of `spec` were trained with.
        channels: those of the images. For others than 3 the first convolutions are new ones.

    Raises:
        ModelError: the name is unknown or its family is not supported (it lists near names), the
            network cannot take images of that size or so many channels, or its structure not be
            changed as asked.
    """
    match spec:
        case TorchvisionBackbone():
            net = make_torchvision_net(spec, image_size=image_size)
            layout = make_torchvision_layout(spec.name, net)
            if channels != RGB:
                layers = input_layers(net, channels=RGB, within=_first_names(layout))
                replace_layers(net, layers, channels=channels)
        case TimmBackbone():
            # Imported here because timm takes a second that other backbones need not wait for.
            from rayft.models.timm_nets import make_timm_layout, make_timm_net

            net = make_timm_net(spec, image_size=image_size, channels=channels)
            layout = make_timm_layout(net)
        case _:
            assert_never(spec)
    layers = input_layers(net, channels=channels, within=_first_names(layout))
    layout = replace(layout, input_layers=layers)
    if spec.is_changed:
        official = _official(spec).model_dump_json()
        layout = restructure(net, layout, spec, _outputs(official))
    return Backbone(net, layout)


def _first_names(layout: Layout) -> tuple[str, ...]:
    first = layout.depth_groups[0]
    return tuple(name for name, group in layout.group_of.items() if group == first)


def _official(spec: BackboneSpec) -> BackboneSpec:
    changes: dict[str, object] = {
        "weights": "none",
        "cut_after": None,
        "pool": "own",
        "drop": (),
        "insert": (),
        "strides": {},
    }
    return spec.model_copy(update=changes)


@lru_cache(maxsize=16)
def _outputs(official_spec: str) -> tuple[tuple[torch.Size, torch.Size], ...]:
    """Return two shapes for each stage of the network, for one RGB image of its usual size.

    They are those of what it gives, and of the map that it may have pooled and flattened for that.
    How many axes and channels they have is the same for the user's images, which may be too small
    for the network before it is changed. The section comes as JSON because tables cannot be
    looked up.
    """
    official: BackboneSpec = _SECTION.validate_json(official_spec)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        stages = make_backbone(official).eval().stages
    size = input_facts(official).image_size
    passed = torch.empty(1, RGB, size, size, device="meta")
    shapes: list[tuple[torch.Size, torch.Size]] = []
    for stage in stages or ():
        last_map = unpooled(stage).forward(passed)
        passed = stage.forward(passed)
        shapes.append((passed.shape, last_map.shape))
    return tuple(shapes)


def batch_norms(module: nn.Module) -> Iterator[nn.Module]:
    """Yield every batch norm below `module`, timm's fused ones and synchronised ones too."""
    return (child for child in module.modules() if isinstance(child, _BatchNorm))
