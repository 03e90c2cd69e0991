"""From the images and labels of whole sequences to what a recurrent cell takes."""

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from agents.tensors import check_generator, described
from agents.vision.encoders import _LARGEST, ImageEncoder, check_image_shape
from plastic_envs.checks import check_bool, check_count, check_instance, check_int, shown


class ImageEmbedder(nn.Module):
    """A module that turns the images of whole sequences into embeddings, in one call.

    Inputs are dictionaries with `"label"`, float32 [B, T, num_labels], and either `"image"`,
    uint8 [B, T, height, width, channels], or `"embedding"`, [B, T, embedding_size], computed
    before (which is taken if both are there). Or they are one tensor, float32 [B, T, height * width
    * channels + num_labels]: pixels in [0, 1], then the label.

    Args:
        image_encoder: Makes the embeddings: one of `agents.vision.encoders`, or a module of yours
            that has their `image_shape` and `embedding_size`.
        num_labels: Entries of a label.

    Attributes:
        frozen: Whether the image encoder stays as it is.

    Raises:
        ValueError: If an argument is of the wrong kind, or out of range.
    """

    def __init__(self, image_encoder: ImageEncoder, num_labels: int) -> None:
        super().__init__()
        check_instance("image_encoder", image_encoder, nn.Module, "a torch.nn.Module")
        check_image_shape(getattr(image_encoder, "image_shape", None))
        size = getattr(image_encoder, "embedding_size", None)
        check_int("image_encoder.embedding_size", size, minimum=1)
        self.image_encoder = image_encoder
        self.num_labels = check_int("num_labels", num_labels, minimum=1)
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
        shape, block = list(self.image_encoder.image_shape), check_int("block", block, minimum=1)
        check_instance("images", images, np.ndarray, "a NumPy array")
        if images.dtype != np.uint8 or list(images.shape[1:]) != shape or len(images) < 1:
            raise ValueError(
                f"images must be uint8 [N, {', '.join(map(str, shape))}], got {images.dtype} "
                f"{list(images.shape)}"
            )
        device = self._like().device
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
                f"inputs need 'label', and 'image' or 'embedding'; got {shown(list(inputs))}"
            )
        for name in {"label", "image", "embedding"} & inputs.keys():
            if not isinstance(inputs[name], Tensor):
                what = described(inputs[name])
                raise ValueError(f"inputs[{shown(name)}] must be a torch.Tensor, got {what}")
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
        else:
            self._check_dtype("flat inputs" if flat else "images", embedding, floating=flat)
        self._check_dtype("labels", label, floating=True)
        if "embedding" in inputs:
            return embedding, label
        return self._encode(embedding.flatten(end_dim=1)).view(*label.shape[:2], -1), label

    def _check_dtype(self, what: str, values: Tensor, *, floating: bool) -> None:
        """Refuse, among others, pixels whose range would be misread."""
        expected = self._like().dtype if floating else torch.uint8
        if values.dtype != expected:
            raise ValueError(f"{what} must be {expected}, got {values.dtype}")

    def _encode(self, images: Tensor) -> Tensor:
        """Return embeddings [N, E] of images [N, height, width, channels], uint8 or in [0, 1]."""
        if images.dtype == torch.uint8:
            images = images.to(self._like().dtype) / 255
        result: Tensor = self.image_encoder(images.permute(0, 3, 1, 2))
        return result

    def _like(self) -> Tensor:
        """Return a tensor of the type and on the device of the parameters, if there are any."""
        parameter = next(self.parameters(), None)
        return torch.empty(0) if parameter is None else parameter

    def _unflattened(self, inputs: Tensor) -> dict[str, Tensor]:
        pixels = math.prod(self.image_encoder.image_shape)
        if not isinstance(inputs, Tensor):
            raise ValueError(
                f"inputs must be a torch.Tensor or a mapping of them, got {described(inputs)}"
            )
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
        num_labels, hidden_size = self.num_labels, check_int("hidden_size", hidden_size, minimum=1)
        check_generator(generator)
        if hidden_size <= num_labels:
            raise ValueError(
                f"hidden_size must be more than the {num_labels} entries of the label "
                f"(num_labels={num_labels}), got {hidden_size}"
            )
        size, self.rectify = int(image_encoder.embedding_size), check_bool("rectify", rectify)
        check_count("the projection", (size + 1) * hidden_size, _LARGEST, hidden_size=hidden_size)
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
        """Take mean and variance of the embeddings [N, embedding_size], of a frozen encoder.

        Raises:
            ValueError: If they have another form, or are fewer than 2.
        """
        size = self.image_encoder.embedding_size
        if not isinstance(embeddings, Tensor) or embeddings.dim() != 2 or len(embeddings) < 2:
            raise ValueError(f"embeddings must be [N, {size}], got {described(embeddings)}")
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
