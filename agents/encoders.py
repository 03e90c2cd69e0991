"""Encoders of images, as few-shot papers define them, and their join with the label."""

import math
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

EncoderName = Literal["conv4", "resnet12"]

_SLOPE = 0.1  # of ResNet-12's leaky rectifiers


class ImageEncoder(nn.Module):
    """A convolutional network from images [N, channels, height, width] to embeddings.

    Attributes:
        image_shape: Height, width and channels of an image.
        embedding_size: Entries of an embedding.
    """

    def __init__(self, image_shape: tuple[int, int, int], blocks: list[nn.Module]) -> None:
        super().__init__()
        height, width, _ = self.image_shape = image_shape
        if min(height, width) < 2 ** len(blocks):  # every block halves the sides
            raise ValueError(
                f"images must be at least {2 ** len(blocks)} pixels high and wide for this "
                f"encoder, got {height}×{width}"
            )
        self.blocks = nn.Sequential(*blocks)
        # Training takes two thirds of the time in this layout (x86, float32).
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            self.eval()
            self.embedding_size = self(torch.zeros(1, *image_shape[2:], height, width)).shape[1]
            self.train()

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
        _check_positive(filters=filters)
        inputs = [image_shape[2]] + [filters] * 3
        blocks: list[nn.Module] = [
            nn.Sequential(*_convolution(i, filters, 3, generator), nn.MaxPool2d(2), nn.ReLU())
            for i in inputs
        ]
        super().__init__(image_shape, blocks)


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
        _check_positive(filters=filters)
        widths = [filters, filters * 5 // 2, filters * 5, filters * 10]
        inputs = [image_shape[2], *widths[:3]]
        drops: list[nn.Module] = [nn.Dropout(drop_rate) for _ in range(2)]
        drops += [DropBlock(drop_rate, block_size) for _ in range(2)]
        blocks: list[nn.Module] = [
            nn.Sequential(_Residual(i, width, generator), drop)
            for i, width, drop in zip(inputs, widths, drops, strict=True)
        ]
        super().__init__(image_shape, blocks)


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
        _check_positive(block_size=block_size, ramp=ramp)
        if not 0 <= drop_rate < 1:
            raise ValueError(f"drop_rate must be at least 0 and below 1, got {drop_rate!r}")
        self.drop_rate, self.block_size, self.ramp = drop_rate, block_size, ramp
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


class ImageEmbedder(nn.Module):
    """A module that turns the images of whole sequences into embeddings, in one call.

    Inputs are dictionaries with `"label"`, float32 [B, T, num_labels], and either `"image"`,
    uint8 [B, T, height, width, channels], or `"embedding"`, [B, T, embedding_size], computed
    before (which is taken if both are there). Or they are one tensor, float32 [B, T, height * width
    * channels + num_labels]: pixels in [0, 1], then the label.

    Args:
        image_encoder: Makes the embeddings.
        num_labels: Entries of a label.

    Attributes:
        frozen: Whether the image encoder stays as it is.
    """

    def __init__(self, image_encoder: ImageEncoder, num_labels: int) -> None:
        super().__init__()
        self.image_encoder, self.num_labels = image_encoder, num_labels
        self.frozen = False

    def freeze(self) -> None:
        """Keep the image encoder as it is: no gradient, and always as in evaluation."""
        self.frozen = True
        self.image_encoder.requires_grad_(requires_grad=False).eval()

    def train(self, mode: bool = True) -> Self:
        """Set training mode; a frozen image encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.image_encoder.eval()
        return self

    def embed(self, images: NDArray[np.uint8], block: int = 512) -> Tensor:
        """Return the embeddings [N, embedding_size] of images, as in evaluation.

        Args:
            images: uint8 [N, height, width, channels], N at least 1.
            block: Images at a time, which bounds the memory.

        Raises:
            ValueError: If the images have another shape.
        """
        shape = list(self.image_encoder.image_shape)
        if images.dtype != np.uint8 or list(images.shape[1:]) != shape or len(images) < 1:
            raise ValueError(
                f"images must be uint8 [N, {', '.join(map(str, shape))}], got {images.dtype} "
                f"{list(images.shape)}"
            )
        device = next(self.image_encoder.parameters()).device
        was_training = self.image_encoder.training
        self.image_encoder.eval()
        try:
            with torch.no_grad():
                parts = [
                    self._encode(
                        torch.from_numpy(np.array(images[start : start + block])).to(device)
                    )
                    for start in range(0, len(images), block)
                ]
        finally:
            self.image_encoder.train(was_training)
        return torch.cat(parts)

    def embeddings_and_labels(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Return embeddings [B, T, embedding_size] and labels [B, T, num_labels] of inputs.

        Raises:
            ValueError: If the inputs have another form.
        """
        flat = not isinstance(inputs, Mapping)
        if flat:
            inputs = self._unflattened(inputs)
        if "label" not in inputs or not ("image" in inputs or "embedding" in inputs):
            raise ValueError(
                f"inputs need 'label', and 'image' or 'embedding'; got {sorted(inputs)}"
            )
        label = inputs["label"]
        if label.dim() != 3 or label.shape[2] != self.num_labels:
            raise ValueError(
                f"labels must have shape [batch, time, {self.num_labels}], got {list(label.shape)}"
            )
        if "embedding" in inputs:
            embedding, expected = inputs["embedding"], [self.image_encoder.embedding_size]
        else:
            embedding, expected = inputs["image"], list(self.image_encoder.image_shape)
        if list(embedding.shape) != [*label.shape[:2], *expected]:
            raise ValueError(
                f"images or embeddings must have shape {[*label.shape[:2], *expected]}, "
                f"got {list(embedding.shape)}"
            )
        if "embedding" in inputs:
            self._check_dtype("embeddings", embedding, floating=True)
            return embedding, label
        self._check_dtype("flat inputs" if flat else "images", embedding, floating=flat)
        return self._encode(embedding.flatten(end_dim=1)).view(*label.shape[:2], -1), label

    def _check_dtype(self, what: str, values: Tensor, *, floating: bool) -> None:
        """Refuse, among others, pixels whose range would be misread."""
        expected = next(self.image_encoder.parameters()).dtype if floating else torch.uint8
        if values.dtype != expected:
            raise ValueError(f"{what} must be {expected}, got {values.dtype}")

    def _encode(self, images: Tensor) -> Tensor:
        """Return embeddings [N, E] of images [N, height, width, channels], uint8 or in [0, 1]."""
        weight = next(self.image_encoder.parameters())
        if images.dtype == torch.uint8:
            images = images.to(weight.dtype) / 255
        result: Tensor = self.image_encoder(images.permute(0, 3, 1, 2))
        return result

    def _unflattened(self, inputs: Tensor) -> dict[str, Tensor]:
        pixels = math.prod(self.image_encoder.image_shape)
        if inputs.dim() != 3 or inputs.shape[2] != pixels + self.num_labels:
            raise ValueError(
                f"inputs must have shape [batch, time, {pixels + self.num_labels}], "
                f"got {list(inputs.shape)}"
            )
        images = inputs[..., :pixels].view(*inputs.shape[:2], *self.image_encoder.image_shape)
        return {"image": images, "label": inputs[..., pixels:]}


class ImageLabelEncoder(ImageEmbedder):
    """The encoder of a `PlasticNetwork` for labelled images: [project(embedding), label].

    Nothing of it is plastic. The projection leaves as many units as make `hidden_size` with the
    label. Its weight and bias start U(-k, k), k = 1/√embedding_size. Source: arXiv 2302.03235;
    here each entry of the embedding is shifted and scaled to mean 0 and variance 1 first (by batch
    normalisation, which `standardise` can set once for all), and the projection is linear. Its
    published code does neither: it rectifies the projection (`rectify`).

    Args:
        image_encoder: Makes the embeddings.
        hidden_size: Entries of the output: those of the network's cell.
        num_labels: Entries of a label, fewer than `hidden_size`.
        rectify: Pass the projection through a rectifier, as the published code does.
        generator: Source of the initial projection.

    Raises:
        ValueError: If the label leaves no room for the image.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        hidden_size: int,
        num_labels: int,
        *,
        rectify: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(image_encoder, num_labels)
        _check_positive(hidden_size=hidden_size, num_labels=num_labels)
        if hidden_size <= num_labels:
            raise ValueError(
                f"hidden_size must be more than the {num_labels} entries of the label, "
                f"got {hidden_size}"
            )
        size, self.rectify = image_encoder.embedding_size, rectify
        self.normalisation = nn.BatchNorm1d(size, affine=False)
        self.projection: nn.Module = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, size, hidden_size - num_labels
        )
        for parameter in self.projection.parameters():
            nn.init.uniform_(parameter, -(size**-0.5), size**-0.5, generator=generator)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; of a frozen encoder, that of the projection alone."""
        super().train(mode)
        if self.frozen:
            self.normalisation.eval()
        return self

    def standardise(self, embeddings: Tensor) -> None:
        """Take mean and variance of the embeddings [N, embedding_size], of a frozen encoder."""
        variance, mean = torch.var_mean(embeddings, dim=0)
        for kept, value in (
            (self.normalisation.running_mean, mean),
            (self.normalisation.running_var, variance),
        ):
            assert kept is not None
            kept.copy_(value)

    def forward(self, inputs: Any) -> Tensor:
        """Return what the cell takes, [B, T, hidden_size]."""
        embedding, label = self.embeddings_and_labels(inputs)
        normal = self.normalisation(embedding.flatten(end_dim=1)).view_as(embedding)
        projected = self.projection(normal)
        return torch.cat([F.relu(projected) if self.rectify else projected, label], dim=-1)


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
    if name not in get_args(EncoderName):
        raise ValueError(f"encoder must be one of {get_args(EncoderName)}, got {name!r}")
    kind = Conv4 if name == "conv4" else ResNet12
    return kind(image_shape, filters, generator=generator)


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {number!r}")


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
