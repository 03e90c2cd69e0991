"""Features extractors: what stands between an observation and the rest of a policy."""

from collections.abc import Callable
from typing import Any, Self

from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space_channels_first
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from agents.encoders import EncoderName, ImageLabelEncoder, make_encoder


class ImageLabelExtractor(BaseFeaturesExtractor):
    """`agents.ImageLabelEncoder` for observations `{"image": …, "label": …}`, one at a time.

    Args:
        observation_space: Dict of `"image"`, uint8 with the channels first (as Stable-Baselines3
            turns images) or last, and `"label"`, [num_labels].
        features_dim: Entries of the features, more than the label has.
        encoder: `"conv4"` or `"resnet12"`.
        filters: Channels of its first block.

    Raises:
        ValueError: If the space has another form, or an argument does not fit.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        features_dim: int = 128,
        encoder: EncoderName = "conv4",
        filters: int = 64,
    ) -> None:
        super().__init__(observation_space, features_dim)
        if not has_image_and_label(observation_space):
            raise ValueError(
                "observation_space must be a Dict of 'image', a Box of rank 3, and 'label', a Box "
                f"of rank 1; got {observation_space}"
            )
        image: Any = observation_space["image"]
        label: Any = observation_space["label"]
        shape = image.shape
        self._channels_first = is_image_space_channels_first(image)
        if self._channels_first:
            shape = (*shape[1:], shape[0])
        image_encoder = make_encoder(encoder, shape, filters)
        self.encoder = ImageLabelEncoder(image_encoder, features_dim, label.shape[0])

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:  # noqa: ARG002
        """Do nothing: the encoder keeps its own initial weights, which policies would replace."""
        return self

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Return features [N, features_dim]; images come in [0, 1], as float32."""
        image = observations["image"]
        if not self._channels_first:
            image = image.permute(0, 3, 1, 2)
        embedding = self.encoder.image_encoder(image)
        sequence = {"embedding": embedding.unsqueeze(0), "label": observations["label"][None]}
        features: Tensor = self.encoder(sequence)
        return features.squeeze(0)


def has_image_and_label(space: spaces.Space[Any]) -> bool:
    """Say whether observations are `{"image": …, "label": …}`, as those of few-shot tasks are."""
    if not isinstance(space, spaces.Dict) or set(space.spaces) != {"image", "label"}:
        return False
    ranks = [len(space[name].shape or ()) for name in ("image", "label")]
    return ranks == [3, 1] and all(isinstance(part, spaces.Box) for part in space.spaces.values())
