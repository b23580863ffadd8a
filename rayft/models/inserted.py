"""Layers that a spec puts between the groups of a network: adapters, and dropout of maps."""

import torch
from torch import Tensor, nn


class ResidualAdapter(nn.Module):
    """x + up(relu(down(x))), at every place of a feature map or token by itself.

    A narrow residual block between groups that stay frozen.
    `up` starts at zero, so the block starts as the identity (Houlsby et al. 2019,
    https://arxiv.org/abs/1902.00751, section 2.1).
    """

    def __init__(self, channels: int, width: int, *, axis: int) -> None:
        """Build the block.

        Args:
            channels: those of what passes.
            width: those inside.
            axis: of the channels, 1 or -1.
        """
        super().__init__()
        if axis == 1:
            self.down: nn.Module = nn.Conv2d(channels, width, 1)
            self.up: nn.Module = nn.Conv2d(width, channels, 1)
        else:
            self.down = nn.Linear(channels, width)
            self.up = nn.Linear(width, channels)
        for param in self.up.parameters():
            nn.init.zeros_(param)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [B, ...] of the same shape."""
        adapted: Tensor = inputs + self.up(torch.relu(self.down(inputs)))
        return adapted


class ChannelDropout(nn.Dropout2d):
    """Dropout of whole channels of maps [B, H, W, C], as `nn.Dropout2d` is of [B, C, H, W]."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [B, H, W, C]."""
        return super().forward(inputs.movedim(-1, 1)).movedim(1, -1)
