"""Features extractors: what stands between an observation and the rest of a policy."""

import math
from collections.abc import Callable
from typing import Any, Self, get_args

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from agents.core import Factory, make_core, outputs_of
from agents.plastic.cells import Cell
from agents.plastic.rules import Rule
from agents.sb3.core_options import gathered
from agents.sb3.observations import is_image
from agents.vision.encoders import EncoderName, make_encoder
from agents.vision.label_encoder import ImageLabelEncoder
from plastic_envs.checks import check_choice, check_int, shown

_NATURE_SIDE = 36  # pixels that the convolutions of Mnih et al. take at least
_MOST_FEATURES = 2**16
_CONV4_SIDE = 16  # pixels that `agents.Conv4` takes at least


class ImageExtractor(BaseFeaturesExtractor):
    """Convolutions for images of any size, down to one pixel.

    Images of 36 × 36 pixels and more go through the convolutions of Mnih et al. (Nature 518, 2015),
    as in Stable-Baselines3's `NatureCNN`, which takes no others; smaller ones through three of
    3 × 3, padded, that halve a side as long as it has more than seven pixels. For `PlasticPolicy`,
    which takes it by default, and for any policy of Stable-Baselines3.

    Args:
        observation_space: Box of rank 3: of any type, with any number of channels, which are the
            first axis if that is the shortest, else the last.
        features_dim: Entries of the features.

    Raises:
        ValueError: If the space has another form, or `features_dim` is not positive.

    Example:
        >>> extractor = ImageExtractor(spaces.Box(0, 1, (7, 7, 3)), features_dim=32)
        >>> extractor(torch.zeros(5, 7, 7, 3)).shape
        torch.Size([5, 32])
    """

    def __init__(self, observation_space: spaces.Box, features_dim: int = 512) -> None:
        features_dim = _check_features("features_dim", features_dim)
        is_box = isinstance(observation_space, spaces.Box)
        shape = observation_space.shape if is_box else ()
        if len(shape) != 3 or 0 in shape:
            raise ValueError(
                f"observation_space must be a Box of rank 3, got {shown(observation_space)}"
            )
        super().__init__(observation_space, features_dim)
        self._channels_first = _has_channels_first(observation_space)
        channels, *sides = shape if self._channels_first else (shape[2], *shape[:2])
        self.cnn = _convolutions(channels, sides)
        with torch.no_grad():
            entries = self.cnn(torch.zeros(1, channels, *sides)).shape[1]
        self.linear = nn.Sequential(nn.Linear(entries, self.features_dim), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        """Return features [N, features_dim] of images [N, …]."""
        if not self._channels_first:
            observations = observations.permute(0, 3, 1, 2)
        features: Tensor = self.linear(self.cnn(observations))
        return features


def _convolutions(channels: int, sides: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    if min(sides) >= _NATURE_SIDE:
        for outputs, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            layers += [nn.Conv2d(channels, outputs, size, stride), nn.ReLU()]
            channels = outputs
    else:
        for outputs in (32, 64, 64):
            strides = [2 if side > 7 else 1 for side in sides]
            convolution = nn.Conv2d(channels, outputs, 3, (strides[0], strides[1]), padding=1)
            layers += [convolution, nn.ReLU()]
            channels = outputs
            sides = [-(-side // stride) for side, stride in zip(sides, strides, strict=True)]
    return nn.Sequential(*layers, nn.Flatten())


def _has_channels_first(image: spaces.Box) -> bool:
    """Say whether the first axis is the shortest, which Stable-Baselines3 takes for channels."""
    return min(image.shape) == image.shape[0]


class DictExtractor(BaseFeaturesExtractor):
    """Features of a dictionary, side by side: images by `ImageExtractor`, everything else flat.

    What Stable-Baselines3's `CombinedExtractor` does, for images of any size.

    Args:
        observation_space: Dict of Box, Discrete, MultiDiscrete and MultiBinary.
        image_features: Entries of the features of each image (uint8 in [0, 255], or floats in
            [0, 1]).

    Raises:
        ValueError: If `image_features` is not positive, or the space is no Dict.
    """

    def __init__(self, observation_space: spaces.Dict, image_features: int = 256) -> None:
        image_features = _check_features("image_features", image_features)
        if not isinstance(observation_space, spaces.Dict):
            raise ValueError(f"observation_space must be a Dict, got {shown(observation_space)}")
        extractors: list[nn.Module] = []
        total = 0
        for part in observation_space.spaces.values():
            is_picture = isinstance(part, spaces.Box) and is_image(part)
            extractors.append(ImageExtractor(part, image_features) if is_picture else nn.Flatten())  # type: ignore[arg-type]
            total += image_features if is_picture else int(get_flattened_obs_dim(part))
        super().__init__(observation_space, features_dim=total)
        self.extractors = nn.ModuleList(extractors)  # in order: a name may be none for a module

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Return features [N, features_dim]."""
        names = self._observation_space.spaces  # type: ignore[attr-defined]
        parts = zip(self.extractors, names, strict=True)
        return torch.cat([extractor(observations[name]) for extractor, name in parts], dim=1)


class PlasticFeaturesExtractor(BaseFeaturesExtractor):
    """Plasticity for the algorithms of Stable-Baselines3 that know no memory.

    Such as PPO, A2C, DQN and SAC. The environment shows the whole episode so far (the `History`
    wrapper of `plastic_envs`), and a plastic network runs over it from its beginning; the features
    are its outputs at the last step. So there is no state to carry, gradients run through the whole
    episode, and what a step gives is exactly what a recurrent agent would compute.

    The price: to see step t costs t steps of the network. Acting for an episode of T steps costs
    T (T + 1) / 2 of them instead of T; learning from N samples costs N times the longest of their
    histories, and a replay buffer stores whole histories. For short episodes; otherwise use
    `RecurrentPPO`.

    Args:
        observation_space: Dict of one or more histories, each a Box [max_steps, …] that holds what
            was observed so far, oldest first, and then anything; and of `"length"`, how many steps
            that were: a Box of shape (1,) or (), or Discrete. (The replay buffers of
            Stable-Baselines3 refuse ().) Images are not taken.
        features_dim: Entries of the features: the outputs of the plastic network, 32 if it is None;
            those of another core are as many as it makes, or are read out.
        hidden_size: Its units, if it has them.
        rule: Its plasticity rule; `"gradient"` if it is None.
        cell: Its cell; `"rnn"` if it is None.
        core: Another core, as for `PlasticPolicy`; its outputs are the features.
        **kwargs: Further options of the core.

    Raises:
        ValueError: If the space has another form, or an argument does not fit.

    Example:
        >>> import numpy as np
        >>> history = spaces.Box(-1, 1, (20, 3))
        >>> length = spaces.Box(1, 20, (1,), np.int64)
        >>> space = spaces.Dict(history=history, length=length)
        >>> extractor = PlasticFeaturesExtractor(space, features_dim=16)
        >>> seen = {"history": torch.zeros(5, 20, 3), "length": torch.full((5, 1), 7)}
        >>> extractor(seen).shape
        torch.Size([5, 16])
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        features_dim: int | None = None,
        hidden_size: int | None = None,
        rule: str | Rule | None = None,
        cell: str | Cell | None = None,
        core: str | Factory = "plastic",
        **kwargs: Any,
    ) -> None:
        if features_dim is not None:
            features_dim = _check_features("features_dim", features_dim)
        super().__init__(observation_space, features_dim or 1)  # as many as the core has, below
        if not isinstance(observation_space, spaces.Dict) or len(observation_space.spaces) < 2:
            raise ValueError(
                "observation_space must be a Dict of 'history' and 'length', as the History "
                f"wrapper makes it; got {shown(observation_space)}"
            )
        length = observation_space.spaces.get("length")
        self._one_hot = isinstance(length, spaces.Discrete)
        if length is None or not (self._one_hot or length.shape in ((), (1,))):
            raise ValueError(
                f"'length' must be Discrete or a Box of one entry, got {shown(length)}"
            )
        self._histories = [name for name in observation_space.spaces if name != "length"]
        size = sum(_entries_of_a_step(name, observation_space[name]) for name in self._histories)
        options = gathered(core, hidden_size, rule, cell, kwargs)
        self.core = make_core(core, size, output_size=features_dim, **options)
        self._features_dim = self.core.output_size

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Return features [N, features_dim] of histories [N, max_steps, …] and their lengths."""
        # Stable-Baselines3 hands Discrete observations on as one-hot vectors.
        length = observations["length"]
        length = length.argmax(-1) if self._one_hot else length.long()
        last = (length.flatten() - 1).clamp(min=0)
        steps = int(last.max()) + 1
        histories = [observations[name][:, :steps] for name in self._histories]
        x = torch.cat([part.reshape(*part.shape[:2], -1) for part in histories], dim=2)
        outputs = outputs_of(self.core, x)
        rows = torch.arange(len(outputs), device=outputs.device)
        features: Tensor = outputs[rows, last]
        return features


def _entries_of_a_step(name: str, history: spaces.Space[Any]) -> int:
    shape = history.shape
    is_box = isinstance(history, spaces.Box) and bool(shape)
    if not is_box or not shape or is_image_space(history) or len(shape) > 3:
        raise ValueError(
            f"{name!r} must be a Box [max_steps, …] and no images, got {shown(history)}"
        )
    return math.prod(shape[1:])


class ImageLabelExtractor(BaseFeaturesExtractor):
    """`agents.ImageLabelEncoder` for observations `{"image": …, "label": …}`, one at a time.

    Args:
        observation_space: Dict of `"image"`, uint8 with the channels first (as Stable-Baselines3
            turns images) or last, and `"label"`, [num_labels].
        features_dim: Entries of the features, more than the label has.
        encoder: `"conv4"` or `"resnet12"`.
        filters: Channels of its first block.
        rectify: Rectify the projected embedding, as the published code does.

    Raises:
        ValueError: If the space has another form, or an argument does not fit.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        features_dim: int = 128,
        encoder: EncoderName = "conv4",
        filters: int = 64,
        rectify: bool = False,
    ) -> None:
        super().__init__(observation_space, _check_features("features_dim", features_dim))
        if not has_image_and_label(observation_space):
            raise ValueError(
                "observation_space must be a Dict of 'image', a Box of rank 3, and 'label', a Box "
                f"of rank 1; got {shown(observation_space)}"
            )
        check_choice("encoder", encoder, get_args(EncoderName))
        image: Any = observation_space["image"]
        label: Any = observation_space["label"]
        if features_dim <= label.shape[0]:
            raise ValueError(
                f"features_dim must be more than the {label.shape[0]} entries of 'label' in "
                f"observation_space, got {features_dim}"
            )
        shape = image.shape
        self._channels_first = _has_channels_first(image)
        if self._channels_first:
            shape = (*shape[1:], shape[0])
        image_encoder = make_encoder(encoder, shape, filters)
        self.encoder = ImageLabelEncoder(
            image_encoder, features_dim, label.shape[0], rectify=rectify
        )

    @staticmethod
    def fits(space: spaces.Space[Any], features_dim: int) -> bool:
        """Say whether observations are images and labels that suit the default encoder."""
        if not has_image_and_label(space):
            return False
        assert isinstance(space, spaces.Dict)  # noqa: S101 (for mypy)
        image: Any = space["image"]
        label: Any = space["label"]
        sides = image.shape[1:] if _has_channels_first(image) else image.shape[:2]
        return bool(min(sides) >= _CONV4_SIDE and label.shape[0] < features_dim)

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


def _check_features(name: str, value: object) -> int:
    return check_int(name, value, minimum=1, maximum=_MOST_FEATURES)
