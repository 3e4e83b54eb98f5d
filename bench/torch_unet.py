"""Our U-Net and its loss in plain PyTorch, as its users write it: the peer of bench/segment.py."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

SLOPE = 0.01


class Convolution(nn.Sequential):
    """Convolution → instance normalisation → leaky ReLU."""

    def __init__(self, before: int, after: int, kernel: Sequence[int], stride: Sequence[int] = (1, 1, 1)) -> None:
        padding = tuple(side // 2 for side in kernel)
        super().__init__(
            nn.Conv3d(before, after, tuple(kernel), tuple(stride), padding, bias=False),
            nn.InstanceNorm3d(after, affine=True),
            nn.LeakyReLU(SLOPE, inplace=True),
        )


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, before: int, after: int, kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        second = Convolution(after, after, kernel)
        self.body = nn.Sequential(Convolution(before, after, kernel, stride), *list(second)[:-1])
        shortcut: list[nn.Module] = [nn.AvgPool3d(tuple(stride))] if max(stride) > 1 else []
        if before != after:
            shortcut += [nn.Conv3d(before, after, 1, bias=False), nn.InstanceNorm3d(after, affine=True)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.leaky_relu(self.body(x) + self.shortcut(x), SLOPE)


class UNet(nn.Module):
    """The layers of ``hounsfield.segmentation.residual_unet`` in 3D."""

    def __init__(
        self,
        channels: int,
        outputs: int,
        width: int,
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        widths = [min(width * 2**stage, 320) for stage in range(len(strides) + 1)]
        self.stem = Convolution(channels, width, kernels[0])
        steps = [(1, 1, 1), *strides]
        self.encoder = nn.ModuleList(
            Residual(widths[max(stage - 1, 0)], widths[stage], kernels[stage], step) for stage, step in enumerate(steps)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(widths[stage + 1], widths[stage], tuple(step), tuple(step), bias=False)
            for stage, step in enumerate(strides)
        )
        self.decoder = nn.ModuleList(
            Convolution(2 * widths[stage], widths[stage], kernels[stage]) for stage in range(len(strides))
        )
        self.heads = nn.ModuleList(nn.Conv3d(widths[stage], outputs, 1) for stage in range(max(1, len(strides) - 1)))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Logits, the finest first."""
        hidden, skips = self.stem(x), []
        for block in self.encoder:
            hidden = block(hidden)
            skips.append(hidden)
        logits = {}
        for stage in reversed(range(len(self.up))):
            hidden = torch.cat([self.up[stage](hidden), skips[stage]], 1)
            hidden = self.decoder[stage](hidden)
            if stage < len(self.heads):
                logits[stage] = self.heads[stage](hidden)
        return [logits[stage] for stage in range(len(self.heads))]


def initialise(network: nn.Module) -> None:
    """Draw the weights as ours are drawn: He before a normalisation, Glorot for outputs and transposed convolutions."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.ConvTranspose3d) or (isinstance(layer, nn.Conv3d) and name.startswith("heads")):
            nn.init.xavier_uniform_(layer.weight)
        elif isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.Conv3d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def loss_of(outputs: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and soft Dice with deep supervision, as ``hounsfield.segmentation.deep_supervision_loss``."""
    count = outputs[0].shape[1]
    truth = functional.one_hot(labels, count).movedim(-1, 1).float()
    total, weights = torch.zeros(()), [0.5**number for number in range(len(outputs))]
    for logits, weight in zip(outputs, weights, strict=True):
        size = [fine // coarse for fine, coarse in zip(truth.shape[2:], logits.shape[2:], strict=True)]
        target = functional.avg_pool3d(truth, size) if max(size) > 1 else truth
        logs = functional.log_softmax(logits.float(), 1)
        entropy = -(target * logs).sum(1).mean()
        shared, predicted, true = (each.sum((0, 2, 3, 4))[1:] for each in (logs.exp() * target, logs.exp(), target))
        dice = (2 * shared + 1) / (predicted + true + 1)
        present = (true > 0).float()
        missed = (present * (1 - dice)).sum() / present.sum().clamp(min=1)
        total = total + weight / sum(weights) * (entropy + missed)
    return total
