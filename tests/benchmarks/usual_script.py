"""The script that people write by hand: the yardstick for rayft's throughput.

A DataLoader with two worker processes, images decoded and transformed one by one with Pillow,
torchvision's MobileNetV2 with the same pretrained weights, AdamW. Nothing in it is made slow on
purpose: `channels_last`, fused AdamW and, where asked, bf16 autocast.
"""

import io
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import mobilenet_v2

from tests.benchmarks.side_by_side import SHARED

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Pictures(Dataset[tuple[Tensor, int]]):
    """CIFAR-10 from parquet, one picture at a time."""

    def __init__(self, size: int, *, num_files: int = 2, decoded: bool = False) -> None:
        tables = [
            pq.read_table(SHARED / f"data/cifar10/train-{i:05d}-of-00005.parquet")
            for i in range(num_files)
        ]
        self.encoded = [row["bytes"] for t in tables for row in t["image"].to_pylist()]
        self.decoded = [self._open(index) for index in range(len(self.encoded))] if decoded else []
        self.labels = [label for t in tables for label in t["label"].to_pylist()]
        self.transform = transforms.Compose(
            [
                *([transforms.Resize((size, size))] if size != 32 else []),
                transforms.RandomCrop(size, padding=size // 8),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.decoded[index] if self.decoded else self._open(index)
        return self.transform(image), self.labels[index]

    def _open(self, index: int) -> Image.Image:
        with Image.open(io.BytesIO(self.encoded[index])) as image:
            return image.convert("RGB")


def loader(size: int, *, batch_size: int, decoded: bool = False) -> DataLoader[Any]:
    """Return the usual loader; `decoded` keeps all pictures decoded in memory beforehand."""
    pictures = Pictures(size, decoded=decoded)
    return DataLoader(pictures, batch_size=batch_size, shuffle=True, num_workers=2, drop_last=True)


class Trainer:
    """Model and optimizer of the usual script."""

    def __init__(self, *, bf16: bool, batch_norm_statistics: bool) -> None:
        state = load_file(SHARED / "models/mobilenet_v2-imagenet-features.safetensors")
        model = mobilenet_v2(num_classes=10)
        model.load_state_dict(state, strict=False)
        self.model = model.to(memory_format=torch.channels_last).train()
        if not batch_norm_statistics:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        self.autocast = torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()

    def step(self, images: Tensor, labels: Tensor) -> None:
        with self.autocast:
            scores = self.model(images)
        F.cross_entropy(scores.float(), labels).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def rows_per_s(batches: Iterator[tuple[Tensor, Tensor]], trainer: Trainer, *, steps: int) -> float:
    """Train `steps` steps after three to warm up; return rows per second."""
    rows, started = 0, 0.0
    for number in range(steps + 3):
        images, labels = next(batches)
        if number == 3:
            started = time.perf_counter()
        trainer.step(images.contiguous(memory_format=torch.channels_last), labels)
        rows += len(labels) if number >= 3 else 0
    return rows / (time.perf_counter() - started)
