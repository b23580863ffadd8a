"""The frozen part of a backbone: run in batches of one size, and named by its weights."""

import hashlib

import torch
from torch import Tensor

from rayft.models.backbone import Backbone


def run_prefix(backbone: Backbone, images: Tensor, *, cut: int, rows: int) -> Tensor:
    """Return what the lowest `cut` depth groups make of each row.

    They run on batches of `rows` rows, the last one filled up: so what they make of a row has the
    same bits in whichever batch it comes.

    Args:
        backbone: its lowest groups in evaluation mode.
        images: [n, C, H, W], float, normalised, n at least 1.
        cut: where the backbone can be cut.
        rows: of every batch.
    """
    made = []
    for start in range(0, len(images), rows):
        part = images[start : start + rows]
        count = len(part)
        if count < rows:
            part = torch.zeros(
                (rows, *images.shape[1:]), dtype=images.dtype, device=images.device
            ).contiguous(memory_format=_format(images))
            part[:count] = images[start:]
        made.append(backbone.between(part, 0, cut)[:count])
    return made[0] if len(made) == 1 else torch.cat(made)


def _format(images: Tensor) -> torch.memory_format:
    if images.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def prefix_digest(backbone: Backbone, cut: int) -> str:
    """Return the SHA-256 of the weights and buffers of the lowest `cut` depth groups."""
    groups = set(backbone.depth_groups[:cut])
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.net.state_dict().items()):
        if backbone.group_of(name) in groups:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            values = tensor.detach().cpu().contiguous().flatten()
            digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
