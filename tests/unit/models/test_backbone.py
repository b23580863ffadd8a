"""A backbone is the original network, cut into depth groups that cover it exactly."""

import copy
from dataclasses import dataclass

import pytest
import timm
import torch
from timm.models.beit import Beit
from torch import Tensor, nn
from torchvision import models

from rayft.errors import ModelError
from rayft.models.backbone import Backbone, batch_norms, make_backbone
from rayft.models.layout import is_leaf, leaf_names, tensor_names
from rayft.models.timm_stages import stage_maker
from rayft.spec.model import BackboneSpec, TimmBackbone, TorchvisionBackbone

TORCHVISION = {
    "resnet18": ("stem", "layer1", "layer2", "layer3", "layer4"),
    "resnet50": ("stem", "layer1", "layer2", "layer3", "layer4"),
    "mobilenet_v2": ("stem", *(f"block{i}" for i in range(1, 18)), "conv"),
    "efficientnet_b0": ("stem", *(f"stage{i}" for i in range(1, 8)), "conv"),
    "efficientnet_v2_s": ("stem", *(f"stage{i}" for i in range(1, 7)), "conv"),
}
TIMM_CHAINS = {
    "tf_efficientnet_lite0": ("stem", *(f"block{i}" for i in range(7))),
    "resnet18": ("stem", "layer1", "layer2", "layer3", "layer4"),
    "convnext_atto": ("stem", *(f"block{i}" for i in range(4)), "head"),
}
TIMM_OTHERS = {"edgenext_xx_small": ("stem", *(f"block{i}" for i in range(4)), "head")}
GROUPS = TORCHVISION | {f"timm/{n}": g for n, g in (TIMM_CHAINS | TIMM_OTHERS).items()}
MORE_TIMM_CHAINS = (
    "beit_base_patch16_224",
    "convnextv2_atto",
    "deit_tiny_distilled_patch16_224",
    "densenet121",
    "efficientformer_l1",
    "mixer_s32_224",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small",
    "regnety_002",
    "regnetv_040",
    "repvgg_a0",
    "mobileone_s0",
    "swin_tiny_patch4_window7_224",
    "vit_base_patch16_siglip_224",
    "vit_tiny_patch16_224",
)
BIASES = ("use_shared_rel_pos_bias", "use_rel_pos_bias")
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def spec_of(case: str) -> BackboneSpec:
    library, _, name = case.rpartition("/")
    if library == "timm":
        return TimmBackbone(kind="timm", name=name, weights="none")
    return TorchvisionBackbone(kind="torchvision", name=name, weights="none")


@dataclass(frozen=True)
class Pair:
    case: str
    backbone: Backbone
    official: nn.Module


def make_official(case: str) -> nn.Module:
    library, _, name = case.rpartition("/")
    return timm.create_model(name, num_classes=10) if library else models.get_model(name)


@pytest.fixture(scope="module", params=GROUPS)
def pair(request: pytest.FixtureRequest) -> Pair:
    """A backbone, and the library's own model with its classifier and the same weights."""
    official = make_official(request.param).eval()
    backbone = make_backbone(spec_of(request.param)).eval()
    backbone.net.load_state_dict(official.state_dict(), strict=False)
    return Pair(request.param, backbone, official)


def official_features(pair: Pair) -> Tensor:
    """What the original hands to its classifier."""
    if pair.case.startswith("timm/"):
        return pair.official.forward_head(pair.official.forward_features(IMAGES), pre_logits=True)
    seen = []
    (name,) = pair.backbone.layout.classifier
    classifier = pair.official.get_submodule(name)
    handle = classifier.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    pair.official(IMAGES)
    handle.remove()
    return seen[0]


def test_features_equal_the_original_bitwise(pair: Pair) -> None:
    with torch.no_grad():
        features, expected = pair.backbone(IMAGES), official_features(pair)

    assert torch.equal(features, expected)
    assert features.shape == (2, pair.backbone.feature_dim)
    assert features.std() > 0


def test_groups_are_named_input_side_first(pair: Pair) -> None:
    assert pair.backbone.depth_groups == GROUPS[pair.case]


def test_every_tensor_is_in_exactly_one_group(pair: Pair) -> None:
    backbone = pair.backbone
    names = set(tensor_names(backbone.net))
    by_group = [{n for n in names if backbone.group_of(n) == g} for g in backbone.depth_groups]

    assert all(by_group)
    assert set.union(*by_group) == names
    assert sum(map(len, by_group)) == len(names)


def test_modules_of_the_groups_hold_every_leaf_once(pair: Pair) -> None:
    backbone = pair.backbone
    found = [
        id(leaf)
        for group in backbone.depth_groups
        for module in backbone.modules_of(group)
        for leaf in module.modules()
        if is_leaf(leaf)
    ]

    assert len(found) == len(set(found))
    assert set(found) == {id(backbone.net.get_submodule(name)) for name in leaf_names(backbone.net)}


def test_the_layout_is_the_official_one_without_classifier(pair: Pair) -> None:
    ours = {name: tensor.shape for name, tensor in pair.backbone.net.state_dict().items()}
    theirs = {name: tensor.shape for name, tensor in pair.official.state_dict().items()}
    (classifier,) = pair.backbone.layout.classifier

    rest = {name for name in theirs if not name.startswith(f"{classifier}.")}
    assert len(theirs) - len(rest) == 2
    assert ours == {name: theirs[name] for name in rest}


def test_stages_run_in_the_order_of_the_groups(pair: Pair) -> None:
    backbone, ran = pair.backbone, []
    handles = [
        leaf.register_forward_hook(lambda _m, _a, _o, group=group: ran.append(group))
        for group in backbone.depth_groups
        for module in backbone.modules_of(group)
        for leaf in module.modules()
        if is_leaf(leaf)
    ]

    with torch.no_grad():
        backbone(IMAGES)
    for handle in handles:
        handle.remove()

    assert tuple(dict.fromkeys(ran)) == backbone.depth_groups
    order = [backbone.depth_groups.index(group) for group in ran]
    assert order == sorted(order)


def test_a_chain_can_be_cut_after_any_stage(pair: Pair) -> None:
    stages = pair.backbone.stages
    if pair.case.rpartition("/")[2] in TIMM_OTHERS:
        assert stages is None
        return
    assert stages is not None
    assert tuple(stage.name for stage in stages) == pair.backbone.depth_groups

    with torch.no_grad():
        outputs = [IMAGES]
        for stage in stages:
            outputs.append(stage.forward(outputs[-1]))
        middle = outputs[len(stages) // 2].clone()
        for stage in stages[len(stages) // 2 :]:
            middle = stage.forward(middle)

        assert torch.equal(middle, pair.backbone(IMAGES))


def test_the_meta_device_gives_the_same_groups(pair: Pair) -> None:
    with torch.device("meta"):
        backbone = make_backbone(spec_of(pair.case))

    assert backbone.depth_groups == pair.backbone.depth_groups
    assert all(tensor.is_meta for tensor in backbone.state_dict().values())


@pytest.mark.parametrize("name", [*TIMM_CHAINS, *MORE_TIMM_CHAINS])
def test_declared_chains_agree_with_the_groups_of_timm(name: str) -> None:
    with torch.device("meta"):
        net = timm.create_model(name, num_classes=0)
        backbone = make_backbone(TimmBackbone(kind="timm", name=name))
    by_timm = timm.models.group_parameters(net, net.group_matcher(coarse=True))

    ours = [
        [n for n, _ in net.named_parameters() if backbone.group_of(n) == group]
        for group in backbone.depth_groups
    ]
    assert ours == [by_timm[i] for i in range(len(by_timm))]


@pytest.mark.parametrize("name", ["edgenext_xx_small", "xcit_nano_12_p16_224", "vgg11"])
def test_timm_models_without_a_chain_are_covered(name: str) -> None:
    with torch.device("meta"):
        backbone = make_backbone(TimmBackbone(kind="timm", name=name)).eval()
        features = backbone(torch.empty(1, 3, 224, 224))

    assert backbone.stages is None
    assert backbone.depth_groups[:2] == ("stem", "block0")
    assert {backbone.group_of(n) for n in tensor_names(backbone.net)} == set(backbone.depth_groups)
    assert features.shape == (1, backbone.feature_dim)


def test_a_bias_that_all_blocks_share_makes_no_chain() -> None:
    with torch.device("meta"):
        shared, own = (Beit(depth=2, **{kind: True}) for kind in BIASES)

    assert stage_maker(shared) is None
    assert stage_maker(own) is not None


def test_a_copy_runs_its_own_weights() -> None:
    backbone = make_backbone(spec_of("resnet18")).eval()
    twin = copy.deepcopy(backbone)

    for param in twin.parameters():
        param.data.zero_()

    with torch.no_grad():
        assert not twin(IMAGES).any()
        assert backbone(IMAGES).any()


def test_a_network_with_an_uncovered_parameter_is_refused() -> None:
    backbone = make_backbone(spec_of("resnet18"))
    net = copy.deepcopy(backbone.net)
    net.extra = nn.Parameter(torch.zeros(1))

    with pytest.raises(ModelError, match=r"`extra` lies in no depth group"):
        Backbone(net, backbone.layout)


@pytest.mark.parametrize(
    ("spec", "near"),
    [
        (TorchvisionBackbone(kind="torchvision", name="resnet5O"), "`resnet50`"),
        (TorchvisionBackbone(kind="torchvision", name="vgg17"), "`vgg16`"),
        (TimmBackbone(kind="timm", name="efficientnet_lite_0"), "`efficientnet_lite0`"),
        (TimmBackbone(kind="timm", name="resnet18.a1_in1k"), "`weights: a1_in1k`"),
    ],
)
def test_an_unknown_name_is_refused_with_near_ones(spec: BackboneSpec, near: str) -> None:
    with pytest.raises(ModelError) as caught:
        make_backbone(spec)

    (problem,) = caught.value.problems
    assert problem.where == "model.backbone.name"
    assert spec.name in problem.what
    assert near in problem.fix


def test_fused_batch_norms_of_timm_are_found() -> None:
    with torch.device("meta"):
        ours = make_backbone(spec_of("resnet18"))
        timms = make_backbone(spec_of("timm/tf_efficientnet_lite0"))

    assert len(list(batch_norms(ours))) == 20
    assert len(list(batch_norms(timms))) == 49


def test_the_mode_of_a_group_is_set_through_its_modules() -> None:
    backbone = make_backbone(spec_of("efficientnet_b0")).train()

    for module in backbone.modules_of("stage3"):
        module.eval()

    still = {n for n, module in backbone.net.named_modules() if not module.training}
    assert {n for n in still if not n.startswith("features.3")} == set()
    assert {n for n in leaf_names(backbone.net) if n.startswith("features.3.")} <= still
