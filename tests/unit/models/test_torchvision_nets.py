"""What differs from one family of torchvision to another: classifiers, old files, sizes, inputs."""

import re

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from rayft.errors import ModelError
from rayft.models.backbone import Backbone, make_backbone
from rayft.models.inputs import input_facts
from rayft.models.matching import match_by_name
from rayft.models.model import make_model
from rayft.models.torchvision_nets import supported_torchvision
from rayft.spec.model import ClassificationHead, ModelSpec, TorchvisionBackbone


def spec_of(name: str, weights: str = "none") -> TorchvisionBackbone:
    return TorchvisionBackbone(kind="torchvision", name=name, weights=weights)


def on_meta(name: str, weights: str = "none") -> Backbone:
    with torch.device("meta"):
        return make_backbone(spec_of(name, weights))


def zeros_of(net: nn.Module) -> dict[str, Tensor]:
    """Return a state dict of `net` that takes no memory to speak of."""
    return {
        name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
        for name, tensor in net.state_dict().items()
    }


def test_every_classifier_of_torchvision_is_a_backbone() -> None:
    assert supported_torchvision() == models.list_models(module=models)


@pytest.mark.parametrize(
    ("name", "width", "dropouts"),
    [
        ("alexnet", 4096, 2),
        ("vgg11", 4096, 1),
        ("maxvit_t", 512, 0),
        ("mobilenet_v3_small", 1024, 0),
        ("mobilenet_v3_large", 1280, 0),
    ],
)
def test_pretrained_layers_below_the_classifier_are_the_last_group(
    name: str, width: int, dropouts: int
) -> None:
    backbone = on_meta(name)

    assert backbone.depth_groups[-1] == "classifier"
    assert backbone.feature_dim == width
    last = [m for part in backbone.modules_of("classifier") for m in part.modules()]
    assert sum(isinstance(module, nn.Dropout) for module in last) == dropouts
    assert not any(isinstance(module, nn.Linear) and module.out_features == 1000 for module in last)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_the_shift_of_the_input_is_that_of_the_pretrained_original(name: str) -> None:
    # torchvision builds these two so for its own weights, and normalises by ImageNet's numbers.
    official = models.get_model(name, transform_input=True, init_weights=True).eval()
    preset = models.get_model_weights(name).DEFAULT.transforms()
    backbone = make_backbone(spec_of(name)).eval()
    matched = match_by_name(backbone, official.state_dict())
    backbone.net.load_state_dict(matched.state)
    pixels = torch.rand(2, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    facts = input_facts(spec_of(name, "DEFAULT"))

    with torch.no_grad():
        official.fc = nn.Identity()
        expected = official(normalised(pixels, preset.mean, preset.std))
        found = backbone(normalised(pixels, facts.mean, facts.std))
        unshifted = backbone(normalised(pixels, preset.mean, preset.std))

    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))
    assert (unshifted - expected).abs().max() > 0.01 * expected.std()


def normalised(pixels: Tensor, mean: object, std: object) -> Tensor:
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


@pytest.mark.parametrize(
    ("name", "auxiliary"), [("googlenet", ("aux1", "aux2")), ("inception_v3", ("AuxLogits",))]
)
def test_auxiliary_heads_are_left_out_and_said_so(name: str, auxiliary: tuple[str, ...]) -> None:
    with torch.device("meta"):
        official = models.get_model(name, aux_logits=True, init_weights=True)
    backbone = on_meta(name)

    matched = match_by_name(backbone, zeros_of(official))

    assert matched.notes == tuple(f"`{part}` left out" for part in auxiliary)
    assert not any(name.startswith(auxiliary) for name in backbone.net.state_dict())


def test_an_official_file_of_densenet_has_older_names() -> None:
    with torch.device("meta"):
        official = models.get_model("densenet121")
    old = {
        re.sub(r"(denselayer\d+\.[a-z]+)([12]\.)", r"\1.\2", name): tensor
        for name, tensor in zeros_of(official).items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old

    matched = match_by_name(on_meta("densenet121"), old)

    assert matched.notes == ("names brought up to date",)


def test_an_official_file_of_vit_has_older_names() -> None:
    with torch.device("meta"):
        official = models.get_model("vit_b_32")
    old = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): tensor
        for name, tensor in zeros_of(official).items()
    }
    assert "encoder.layers.encoder_layer_0.mlp.linear_1.weight" in old

    matched = match_by_name(on_meta("vit_b_32"), old)

    assert matched.notes == ("names brought up to date",)


def test_weights_of_another_network_are_refused_under_their_own_names() -> None:
    with torch.device("meta"):
        official = models.get_model("resnet18")

    with pytest.raises(ModelError, match=r"unexpected: conv1\.weight"):
        match_by_name(on_meta("densenet121"), zeros_of(official))


def test_weights_without_values_are_refused() -> None:
    with torch.device("meta"):
        official = models.get_model("vgg16")
    state = zeros_of(official)
    nothing = torch.full((), float("nan"))
    state |= {n: nothing.expand(t.shape) for n, t in state.items() if n.startswith("classifier.")}

    with pytest.raises(ModelError, match=r"4 tensors hold NaN or infinity: classifier\.0\.weight"):
        match_by_name(on_meta("vgg16"), state)


def test_mnasnet_takes_tensors_that_tell_no_version() -> None:
    head = ClassificationHead(kind="classification")
    spec = ModelSpec(backbone=spec_of("mnasnet0_5"), heads={"label": head})
    model, other = (make_model(spec, num_classes=2, seed=seed) for seed in (0, 1))

    # A checkpoint is read as plain tensors.
    model.load_state_dict(dict(other.state_dict()))

    assert all(torch.equal(model.state_dict()[n], t) for n, t in other.state_dict().items())


@pytest.mark.parametrize(
    ("name", "weights", "size", "tokens"),
    [
        ("vit_b_16", "none", 224, 197),
        ("vit_b_16", "IMAGENET1K_V1", 224, 197),
        ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1", 384, 577),
        ("vit_h_14", "DEFAULT", 518, 1370),
    ],
)
def test_positions_of_vit_fit_the_size_of_its_weights(
    name: str, weights: str, size: int, tokens: int
) -> None:
    backbone = on_meta(name, weights)

    assert input_facts(spec_of(name, weights)).image_size == size
    assert backbone.net.get_parameter("encoder.pos_embedding").shape[1] == tokens
