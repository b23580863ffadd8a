"""A pretrained RGB network for images of other channels."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import resnet18

from rayft.errors import ModelError
from rayft.models.backbone import Backbone, make_backbone
from rayft.models.channels import adapted_filters, filters_in_words, per_channel
from rayft.models.facts import model_facts
from rayft.models.inputs import weights_in_words
from rayft.models.matching import match_by_name, match_by_name_or_order
from rayft.models.weights import resolve_weights
from rayft.spec.model import (
    FileWeights,
    ModelSpec,
    RunWeights,
    TimmBackbone,
    TorchvisionBackbone,
    WeightsSpec,
)
from tests.unit.models.building import model_of, spec_with
from tests.unit.models.families import random_images

RESNET = spec_with("none", "resnet18")


def backbone_of(channels: int) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return make_backbone(RESNET, channels=channels).eval()


def adapted(rgb: Backbone, channels: int) -> Backbone:
    """Return the network for `channels` channels with the weights of `rgb`."""
    backbone = backbone_of(channels)
    backbone.load(match_by_name(backbone, rgb.net.state_dict()).state)
    return backbone


def features(backbone: Backbone, images: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = backbone(images)
    return found


class TestTheFirstFilters:
    FILTERS = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(2))

    def test_a_grey_network_answers_as_the_rgb_network_does_to_three_equal_channels(self) -> None:
        rgb, grey = backbone_of(3), random_images(2, 64)[:, :1]

        found = features(adapted(rgb, 1), grey)

        expected = features(rgb, grey.expand(-1, 3, -1, -1))
        assert expected.std() > 0.01
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    def test_two_equal_channels_count_as_one(self) -> None:
        rgb, grey = backbone_of(3), random_images(2, 64)[:, :1]

        found = features(adapted(rgb, 2), grey.expand(-1, 2, -1, -1))

        expected = features(rgb, grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("channels", [4, 7])
    def test_new_channels_change_nothing_until_they_are_trained(self, channels: int) -> None:
        rgb = backbone_of(3)
        images = torch.cat([random_images(2, 64, seed=seed) for seed in (1, 2, 3)], dim=1)

        found = features(adapted(rgb, channels), images[:, :channels])

        expected = features(rgb, images[:, :3])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    def test_new_filters_are_trained_although_they_start_at_zero(self) -> None:
        backbone = adapted(backbone_of(3), 4)
        images = torch.cat([random_images(2, 64), random_images(2, 64, seed=2)[:, :1]], dim=1)

        backbone(images).square().sum().backward()

        gradient = backbone.net.get_parameter("conv1.weight").grad
        assert gradient is not None
        assert gradient[:, 3].abs().max() > 0

    @pytest.mark.parametrize(("had", "channels"), [(1, 3), (4, 3), (4, 1), (1, 4), (2, 6), (7, 5)])
    def test_filters_of_other_networks_lead_over_rgb(self, had: int, channels: int) -> None:
        filters = torch.randn(8, had, 5, 5, generator=torch.Generator().manual_seed(had))

        found = adapted_filters(filters, channels)

        assert found.shape == (8, channels, 5, 5)
        assert found.is_contiguous()
        torch.testing.assert_close(found.sum(1), filters[:, : max(3, min(had, channels))].sum(1))

    def test_to_one_channel_and_back_keeps_the_sum(self) -> None:
        there = adapted_filters(self.FILTERS, 1)

        assert torch.equal(there[:, 0], self.FILTERS.sum(1))
        torch.testing.assert_close(adapted_filters(there, 3).sum(1), self.FILTERS.sum(1))

    @pytest.mark.parametrize(
        ("had", "channels", "words"),
        [
            (3, 1, "the sum of the first three"),
            (3, 2, "1/2 of the sum of the first three each"),
            (3, 4, "the first 3 kept, 1 new at zero"),
            (3, 13, "the first 3 kept, 10 new at zero"),
            (4, 3, "the first 3 kept"),
            (1, 3, "a third of the sum each"),
            (1, 5, "a third of the sum each, 2 new at zero"),
        ],
    )
    def test_they_are_told_in_words(self, had: int, channels: int, words: str) -> None:
        assert filters_in_words(had, channels) == words


class TestMeanAndDeviation:
    def test_rgb_keeps_its_own(self) -> None:
        assert per_channel((0.1, 0.2, 0.6), 3) == (0.1, 0.2, 0.6)

    def test_fewer_channels_take_the_average(self) -> None:
        assert per_channel((0.1, 0.2, 0.6), 1) == pytest.approx((0.3,))
        assert per_channel((0.1, 0.2, 0.6), 2) == pytest.approx((0.3, 0.3))

    def test_further_channels_take_the_average(self) -> None:
        assert per_channel((0.1, 0.2, 0.6), 5) == pytest.approx((0.1, 0.2, 0.6, 0.3, 0.3))

    def test_the_facts_of_a_model_have_one_of_each_for_every_channel(self) -> None:
        model = model_of(RESNET, ("a", "b"))
        assert model.backbone.layout.input_layers == ("conv1",)
        spec = {"backbone": RESNET, "heads": {"label": {"kind": "classification"}}}
        facts = model_facts(
            ModelSpec.model_validate(spec), num_classes=2, image_size=64, channels=6
        )

        assert facts.channels == len(facts.mean) == len(facts.std) == 6
        (stem,) = [p for p in facts.groups[0].params if p.name.endswith("conv1.weight")]
        assert stem.size == 64 * 6 * 7 * 7


class TestLoading:
    def test_a_file_of_rgb_weights_is_read_and_the_log_says_how(self, tmp_path: Path) -> None:
        rgb = backbone_of(3)
        save_file(rgb.net.state_dict(), tmp_path / "rgb.safetensors")
        spec = spec_with(FileWeights(file="rgb.safetensors"), "resnet18")

        loaded = resolve_weights(spec, base_dir=tmp_path, channels=4)

        assert loaded is not None
        assert (
            "conv1.weight for 4 channels made of 3: the first 3 kept, 1 new at zero"
            in loaded.source
        )
        filters = loaded.state["conv1.weight"]
        assert torch.equal(filters[:, :3], rgb.net.state_dict()["conv1.weight"])
        assert not filters[:, 3].any()

    def test_weights_for_the_same_channels_are_taken_as_they_are(self) -> None:
        four = backbone_of(4)

        matched = match_by_name(backbone_of(4), four.net.state_dict())

        assert matched.notes == ()
        assert torch.equal(matched.state["conv1.weight"], four.net.state_dict()["conv1.weight"])

    @pytest.mark.parametrize("channels", [1, 3, 6])
    def test_a_run_of_other_channels(self, tmp_path: Path, channels: int) -> None:
        old = backbone_of(4)
        state = {f"backbone.net.{name}": t for name, t in old.net.state_dict().items()}
        save_file(state, tmp_path / "model.safetensors")
        (tmp_path / "manifest.json").write_text(json.dumps({"classes": {}}))
        spec = spec_with(RunWeights(checkpoint="."), "resnet18")

        loaded = resolve_weights(spec, base_dir=tmp_path, channels=channels)

        assert loaded is not None
        assert f"for {channels} channels made of 4" in loaded.source
        backbone_of(channels).load(loaded.state)

    def test_by_order_where_no_name_agrees(self) -> None:
        rgb = backbone_of(3)
        state = rgb.net.state_dict()
        renamed = {f"other{place}": tensor for place, tensor in enumerate(state.values())}

        matched = match_by_name_or_order(backbone_of(1), renamed)

        assert matched.notes[0] == "matched by order, since no name agrees"
        assert torch.equal(matched.state["conv1.weight"][:, 0], state["conv1.weight"].sum(1))

    def test_a_file_of_another_network_is_still_refused(self) -> None:
        other = make_backbone(spec_with("none", "mobilenet_v2")).net.state_dict()

        with pytest.raises(ModelError, match="missing"):
            match_by_name(backbone_of(4), other)


def test_rgb_networks_are_built_as_before() -> None:
    """No random number more or less: the initial weights of a seed stay what they were."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        official = resnet18()

    ours = backbone_of(3).net.state_dict()

    assert all(torch.equal(ours[name], official.state_dict()[name]) for name in ours)


def test_a_network_whose_first_layer_is_no_convolution_of_pixels_is_refused() -> None:
    # Pixels of 4 x 4 are one place of its first layer.
    with pytest.raises(ModelError) as caught, torch.device("meta"):
        make_backbone(TimmBackbone(kind="timm", name="tresnet_m", weights="none"), channels=4)

    assert "no convolution of its first group takes images of 4 channels" in str(caught.value)


def test_structure_changes_work_on_other_channels() -> None:
    spec = TorchvisionBackbone.model_validate(
        {"kind": "torchvision", "name": "resnet18", "weights": "none", "cut_after": "layer2",
         "insert": [{"kind": "adapter", "after": "layer1", "width": 8}]}
    )  # fmt: skip

    found = features(make_backbone(spec, channels=5).eval(), torch.randn(2, 5, 64, 64))

    assert found.shape == (2, 128)


@pytest.mark.parametrize(
    ("weights", "channels", "words"),
    [
        ("DEFAULT", 3, "torchvision resnet18 IMAGENET1K_V1"),
        (
            "DEFAULT",
            1,
            "torchvision resnet18 IMAGENET1K_V1; filters for RGB become such for 1 channel: "
            "the sum of the first three",
        ),
        (
            FileWeights(file="a.pth"),
            5,
            "file a.pth; filters for RGB become such for 5 channels: "
            "the first 3 kept, 2 new at zero",
        ),
        ("none", 5, "none: random"),
    ],
)
def test_the_plan_says_what_becomes_of_the_filters(
    weights: WeightsSpec, channels: int, words: str
) -> None:
    assert weights_in_words(spec_with(weights, "resnet18"), channels=channels) == words
