"""Backbones by name, with what torchvision itself says of them."""

import time
from pathlib import Path

import pytest
import torch
from torchvision import models

from rayft.models.catalogue import describe, find_names, names_of, nothing_found

UNEQUAL = ("googlenet", "inception_v3", "maxvit_t", "squeezenet")
"""Auxiliary heads, no bias, no linear layer."""


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch.hub cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_all_of_torchvision_is_described_in_seconds_and_agrees_with_its_own_numbers() -> None:
    start = time.process_time()
    entries = [describe("torchvision", name, measured=True) for name in names_of("torchvision")]
    took_s = time.process_time() - start

    assert len(entries) == len(models.list_models(module=models))
    for entry in entries:
        size = entry.size
        assert size is not None
        assert sum(count for _, count in size.groups) == size.num_params
        official = models.get_model_weights(entry.name).DEFAULT.meta["num_params"]
        if entry.name.startswith(UNEQUAL):
            assert size.num_params < official
        else:
            assert size.num_params == official - 1000 * size.feature_dim - 1000, entry.name
    assert took_s < 30


def test_weights_are_listed_default_first_with_their_file_in_the_cache(hub: Path) -> None:
    (hub / "resnet50-0676ba61.pth").touch()

    entry = describe("torchvision", "resnet50", measured=False)

    assert [weights.name for weights in entry.weights] == ["IMAGENET1K_V2", "IMAGENET1K_V1"]
    assert [weights.cached for weights in entry.weights] == [None, hub / "resnet50-0676ba61.pth"]
    assert entry.weights[0].source.startswith("https://download.pytorch.org/models/resnet50-")
    assert entry.size is None


def test_weights_of_timm_are_tags_that_rayft_can_fetch() -> None:
    entry = describe("timm", "resnet18", measured=True)

    names = [weights.name for weights in entry.weights]
    assert names[0] == "a1_in1k"
    assert {"tv_in1k", "fb_ssl_yfcc100m_ft_in1k"} < set(names)
    assert all(weights.cached is None for weights in entry.weights)
    assert entry.size is not None
    assert [name for name, _ in entry.size.groups] == ["stem", *(f"layer{i}" for i in range(1, 5))]
    assert (entry.image_size, entry.size.feature_dim) == (224, 512)


def test_a_pattern_is_a_name_a_glob_or_a_part() -> None:
    assert find_names("resnet50", "torchvision") == ["resnet50"]
    assert find_names("vit_?_32", "torchvision") == ["vit_b_32", "vit_l_32"]
    assert find_names("vit_b", "torchvision") == ["vit_b_16", "vit_b_32"]
    assert find_names("none such", "torchvision") == []
    assert find_names(None, "torchvision") == names_of("torchvision")


def test_what_is_not_found_comes_with_near_names() -> None:
    (problem,) = nothing_found("resnet5O", ("torchvision",)).problems

    assert "torchvision is called or contains `resnet5O`" in problem.what
    assert "`resnet50`" in problem.fix


def test_describing_takes_no_memory() -> None:
    before = torch.get_rng_state()

    describe("torchvision", "vit_h_14", measured=True)

    assert torch.equal(torch.get_rng_state(), before)
