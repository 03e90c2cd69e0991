"""Encoders of images, as few-shot papers define them."""

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.tensors import check_generator
from plastic_envs.checks import check_choice, check_count, check_int, check_number, shown

EncoderName = Literal["conv4", "resnet12"]

_SLOPE = 0.1  # of ResNet-12's leaky rectifiers
_LARGEST = 2**28  # numbers of one convolution: 1 GiB in float32


class ImageEncoder(nn.Module):
    """A convolutional network from images [N, channels, height, width] to embeddings.

    Attributes:
        image_shape: Height, width and channels of an image.
        embedding_size: Entries of an embedding.
    """

    def __init__(self, image_shape: tuple[int, int, int], blocks: list[nn.Module]) -> None:
        super().__init__()
        height, width, channels = self.image_shape = check_image_shape(image_shape)
        if min(height, width) < 2 ** len(blocks):  # every block halves the sides
            raise ValueError(
                f"images must be at least {2 ** len(blocks)} pixels high and wide for this "
                f"encoder, got {height}×{width}"
            )
        self.blocks = nn.Sequential(*blocks)
        # Training takes two thirds of the time in this layout (x86, float32).
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        shapes_only = copy.deepcopy(self.blocks).to("meta").eval()
        one = shapes_only(torch.empty(1, channels, height, width, device="meta"))
        self.embedding_size = one[0].numel()

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings [N, embedding_size] of images [N, channels, height, width]."""
        result: Tensor = self.blocks(images).flatten(start_dim=1)
        return result


class Conv4(ImageEncoder):
    """Four blocks of 3×3 convolution, batch normalisation, rectifier and 2×2 maximum.

    The encoder of Vinyals et al. (2016) and Snell et al. (2017). The maximum is taken before the
    rectifier, which gives the same and costs less.

    Args:
        image_shape: Height, width and channels of an image.
        filters: Channels of each block.
        generator: Source of the initial parameters (He et al. 2015, by fan-out).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        filters: int = 64,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        shape, filters = _checked(image_shape, filters, generator, widest=1)
        inputs = [shape[2]] + [filters] * 3
        blocks: list[nn.Module] = [
            nn.Sequential(*_convolution(i, filters, 3, generator), nn.MaxPool2d(2), nn.ReLU())
            for i in inputs
        ]
        super().__init__(shape, blocks)


class ResNet12(ImageEncoder):
    """Four residual blocks of three convolutions each.

    The encoder of Oreshkin et al. (TADAM, 2018) in the form of Lee et al. (MetaOptNet, 2019):
    leaky rectifiers, dropout after the first two blocks, DropBlock after the last two, no average
    over the last feature map.

    Args:
        image_shape: Height, width and channels of an image.
        filters: Channels of the first block; the others have 2.5, 5 and 10 times as many.
        drop_rate: Share of activities that is dropped in training.
        block_size: Side of the squares that DropBlock drops.
        generator: Source of the initial parameters (He et al. 2015, by fan-out).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        filters: int = 64,
        *,
        drop_rate: float = 0.1,
        block_size: int = 5,
        generator: torch.Generator | None = None,
    ) -> None:
        shape, filters = _checked(image_shape, filters, generator, widest=10)
        drop_rate = check_number("drop_rate", drop_rate, minimum=0, below=1)
        widths = [filters, filters * 5 // 2, filters * 5, filters * 10]
        inputs = [shape[2], *widths[:3]]
        drops: list[nn.Module] = [nn.Dropout(drop_rate) for _ in range(2)]
        drops += [DropBlock(drop_rate, block_size) for _ in range(2)]
        blocks: list[nn.Module] = [
            nn.Sequential(_Residual(i, width, generator), drop)
            for i, width, drop in zip(inputs, widths, drops, strict=True)
        ]
        super().__init__(shape, blocks)


class _Residual(nn.Module):
    """Three convolutions beside one of 1×1, their sum rectified and pooled."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *_convolution(inputs, outputs, 3, generator),
            nn.LeakyReLU(_SLOPE),
            *_convolution(outputs, outputs, 3, generator),
            nn.LeakyReLU(_SLOPE),
            *_convolution(outputs, outputs, 3, generator),
        )
        self.skip = nn.Sequential(*_convolution(inputs, outputs, 1, generator))

    def forward(self, images: Tensor) -> Tensor:
        pooled = F.max_pool2d(self.main(images) + self.skip(images), 2)
        return F.leaky_relu(pooled, _SLOPE)


class DropBlock(nn.Module):
    """Drop squares of a feature map in training, and scale up what is left.

    Source: Ghiasi et al. (2018). The rate rises linearly over the first `ramp` training passes, as
    in MetaOptNet. Random numbers come from torch's global generator, as for `nn.Dropout`.

    Args:
        drop_rate: Share of activities that is dropped in the end.
        block_size: Side of a square; less where the feature map is smaller.
        ramp: Training passes until the full rate.
    """

    passes: Tensor

    def __init__(self, drop_rate: float = 0.1, block_size: int = 5, ramp: int = 40_000) -> None:
        super().__init__()
        self.drop_rate = check_number("drop_rate", drop_rate, minimum=0, below=1)
        self.block_size = check_int("block_size", block_size, minimum=1)
        self.ramp = check_int("ramp", ramp, minimum=1)
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))

    def forward(self, features: Tensor) -> Tensor:
        """Return features [N, channels, height, width], some of them dropped."""
        if not self.training:
            return features
        self.passes += 1
        rate = self.drop_rate * min(1.0, int(self.passes) / self.ramp)
        height, width = features.shape[-2:]
        size = min(self.block_size, height, width)
        room = height - size + 1, width - size + 1
        gamma = rate / size**2 * (height * width) / (room[0] * room[1])
        seeds = torch.rand(*features.shape[:2], *room, device=features.device) < gamma
        # A square of which the seed is the first corner: every place that a seed can reach.
        frame = F.pad(seeds.to(features.dtype), [size - 1] * 4)
        kept = 1 - F.max_pool2d(frame, size, stride=1)
        return features * kept * (kept.numel() / kept.sum().clamp(min=1))

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"{self.drop_rate}, block_size={self.block_size}, ramp={self.ramp}"


def make_encoder(
    name: EncoderName,
    image_shape: tuple[int, int, int],
    filters: int = 64,
    *,
    generator: torch.Generator | None = None,
) -> ImageEncoder:
    """Make an image encoder by its name.

    Args:
        name: `"conv4"` or `"resnet12"`.
        image_shape: Height, width and channels of an image.
        filters: Channels of its first block.
        generator: Source of the initial parameters.

    Raises:
        ValueError: If there is no such encoder, or the images are too small for it.
    """
    check_choice("name", name, get_args(EncoderName))
    kind = Conv4 if name == "conv4" else ResNet12
    return kind(image_shape, filters, generator=generator)


def check_image_shape(image_shape: Any) -> tuple[int, int, int]:
    """Return height, width and channels as integers of at least 1.

    Raises:
        ValueError: If they are not three such integers.
    """
    sizes = image_shape.tolist() if isinstance(image_shape, np.ndarray) else image_shape
    if not isinstance(sizes, Sequence) or len(sizes) != 3:
        raise ValueError(f"image_shape must be (height, width, channels), got {shown(image_shape)}")
    height, width, channels = (check_int("image_shape", size, minimum=1) for size in sizes)
    return height, width, channels


def _checked(
    image_shape: Any, filters: Any, generator: Any, *, widest: int
) -> tuple[tuple[int, int, int], int]:
    """Return the shape and number of filters, if the parameters are not too many."""
    shape, filters = check_image_shape(image_shape), check_int("filters", filters, minimum=1)
    check_generator(generator)
    last = widest * filters
    count = 9 * last * max(shape[2], last)
    check_count("a layer's weights", count, _LARGEST, filters=filters, image_shape=shape)
    return shape, filters


def _convolution(
    inputs: int, outputs: int, size: int, generator: torch.Generator | None
) -> tuple[nn.Module, nn.Module]:
    """Return a convolution that keeps the size of the image, and its batch normalisation."""
    convolution = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, inputs, outputs, size, padding=size // 2, bias=False
    )
    deviation = math.sqrt(2 / (size * size * outputs))
    nn.init.normal_(convolution.weight, std=deviation, generator=generator)
    return convolution, nn.BatchNorm2d(outputs)
