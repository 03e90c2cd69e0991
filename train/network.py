"""The network of a run: its settings, and how it is made of them."""

from dataclasses import dataclass, field
from typing import Any

import torch
from gymnasium import spaces
from torch import nn

from agents import ImageLabelEncoder, make_encoder
from agents.core import make_core
from agents.vision.encoders import EncoderName
from plastic_envs.checks import shown
from plastic_envs.tasks import SequenceTask
from train.names import DeviceName
from train.parts import Part, find_cell, find_core, find_rule
from train.scoring.objectives import objective_of
from train.settings import check_settings

Network = Any
"""A torch module that is an `agents.core.Core`."""

_EMBEDDING = 128  # entries of what a core without a hidden size of its own gets of an image


@dataclass(frozen=True)
class NetworkConfig:
    """The network to train: a core, which remembers, and what it is made of.

    The settings of each part are completed with its defaults. A core that is not made of a rule and
    a cell has none.

    Raises:
        ValueError: If there is no such part, or a setting does not fit.
    """

    core: str = "plastic"
    """What remembers: a name of `agents.core.CORES`, or module:name of a function or class of your
    own."""
    core_settings: dict[str, Any] = field(default_factory=dict)
    """Its own settings, such as hidden_size."""
    rule: str | None = "gradient"
    """Plasticity rule, by name or module:Class; "none" is the ordinary recurrent network."""
    rule_settings: dict[str, Any] = field(default_factory=dict)
    """Its own settings, such as base_eta."""
    cell: str | None = "rnn"
    """Recurrent cell, by name or module:Class."""
    cell_settings: dict[str, Any] = field(default_factory=dict)
    """Its own settings."""
    encoder: EncoderName = "conv4"
    """What makes embeddings of images, in a task that shows such."""
    filters: int = 64
    """Filters of the image encoder's first layer."""
    rectify: bool = False
    """Rectify the projected embedding of an image, as the published code does."""

    def __post_init__(self) -> None:
        """Check the settings, and complete them."""
        check_settings(self, filters={"minimum": 1, "maximum": 2**12})
        core = find_core(self.core)
        for name, find in (("rule", find_rule), ("cell", find_cell)):
            given = getattr(self, name)
            if core.takes(name):
                if given is None:
                    raise ValueError(f"{name} must be given: core {self.core} is made with one")
                self._complete(name, find(given))
            else:
                self._leave_out(name, find(given) if given else None)
        self._complete("core", core)

    def _complete(self, kind: str, part: Part) -> None:
        settings = getattr(self, f"{kind}_settings")
        object.__setattr__(self, f"{kind}_settings", part.complete(settings))

    def _leave_out(self, name: str, part: Part | None) -> None:
        """Forget a part that the core is not made of, and of which nothing was set."""
        settings = getattr(self, f"{name}_settings")
        if settings and (part is None or settings != part.complete({})):
            raise ValueError(f"core {self.core} is made without a {name}: leave out its settings")
        object.__setattr__(self, name, None)
        object.__setattr__(self, f"{name}_settings", {})

    @property
    def parts(self) -> dict[str, Part]:
        """The core, and the rule and the cell that it is made of, if it is, by kind."""
        parts = {"core": find_core(self.core)}
        if self.rule is not None:
            parts["rule"] = find_rule(self.rule)
        if self.cell is not None:
            parts["cell"] = find_cell(self.cell)
        return parts

    @property
    def name(self) -> str:
        """A few words, such as `hebbian-rnn-64`, or `gru-64`."""
        return "-".join(map(str, self.words.values()))

    @property
    def words(self) -> dict[str, Any]:
        """What tells networks apart at first sight: parts, and size if it has one."""
        parts = self.parts
        if self.core == "plastic":
            del parts["core"]
        words: dict[str, Any] = {kind: part.title for kind, part in parts.items()}
        if self._is_of_images:
            words |= {"encoder": self.encoder, "filters": self.filters}
        if "hidden_size" in self.core_settings:
            words["hidden_size"] = self.core_settings["hidden_size"]
        return words

    def check_device(self, device: DeviceName) -> None:
        """Check that the network can compute where it is to.

        Raises:
            ValueError: If its form is for the CPU alone.
        """
        form = self.core_settings["form"] if self.core == "plastic" else None
        if form == "compiled" and device not in ("auto", "cpu"):
            raise ValueError(
                f"form='compiled' computes on the CPU alone, and device is {device!r}: leave out "
                "--form, or give --device cpu"
            )

    def options(self) -> dict[str, Any]:
        """Return the options of `make_core`, with rule and cell made."""
        parts = self.parts
        options = parts.pop("core").arguments(self.core_settings)
        for kind, part in parts.items():
            options[kind] = part.make(getattr(self, f"{kind}_settings"))
        return options

    def build(self, task: SequenceTask, seed: int) -> Network:
        """Make the network for a task, on the CPU, its initial parameters drawn from a seed.

        Of a task that shows labelled images, a core with a hidden size gets embedding and label in
        as many entries, and another core with an encoder of its own the encoder of images alone.

        Raises:
            ValueError: If it cannot be made, or does not suit the task.
        """
        generator = torch.Generator().manual_seed(seed)
        encoder, size = None, _entries(task)
        if shows_images(task.observation_space):
            encoder = self._encoder(task, generator)
            size = self._width
        else:
            self.check_no_images()
        return make_core(
            self.core,
            size,
            output_size=objective_of(task).output_size(task),
            encoder=encoder,
            generator=generator,
            **self.options(),
        )

    @property
    def _is_of_images(self) -> bool:
        """Whether the core works on the embeddings of images, with an encoder that it is given."""
        core = find_core(self.core)
        return core.takes("encoder") and "hidden_size" not in core.options

    @property
    def _width(self) -> int:
        """Entries of what a core gets of an image and its label."""
        width: int = self.core_settings.get("hidden_size", _EMBEDDING)
        return width

    def _encoder(self, task: SequenceTask, generator: torch.Generator) -> nn.Module:
        """Make the encoder of labelled images, as the core takes it."""
        space: Any = task.observation_space
        images = make_encoder(self.encoder, space["image"].shape, self.filters, generator=generator)
        if self._is_of_images:
            delayed = getattr(task, "label_mode", None) == "delayed"
            if self.core_settings.get("delayed", delayed) != delayed:
                raise ValueError(
                    f"delayed must be {delayed} (--{'' if delayed else 'no-'}delayed) for a task "
                    f"with label_mode={task.label_mode!r}"  # type: ignore[attr-defined]
                )
            return images
        labels = space["label"].shape[0]
        return ImageLabelEncoder(
            images, self._width, labels, rectify=self.rectify, generator=generator
        )

    @property
    def image_settings(self) -> dict[str, Any]:
        """The settings of the image encoder that are not the defaults."""
        names = ("encoder", "filters", "rectify")
        settings = {name: getattr(self, name) for name in names}
        return {k: value for k, value in settings.items() if value != getattr(NetworkConfig, k)}

    def check_no_images(self) -> None:
        """Check that nothing is set of an encoder of images.

        Raises:
            ValueError: If something is.
        """
        for name, value in self.image_settings.items():
            raise ValueError(f"{name}={shown(value)} is set, but the task has no images")


def count_parameters(network: Network) -> int:
    """Return how many numbers the parameters of a network are, frozen ones included."""
    return sum(each.numel() for each in network.parameters())


def shows_images(space: spaces.Space[Any]) -> bool:
    """Say whether observations are labelled images: each with its label beside it."""
    return isinstance(space, spaces.Dict) and set(space.spaces) == {"image", "label"}


def _entries(task: SequenceTask) -> int:
    """Return the entries of an observation."""
    space = task.observation_space
    if not shows_images(space) and (not isinstance(space, spaces.Box) or len(space.shape) != 1):
        raise ValueError(
            "a network takes observations that are vectors, or images with labels, and not "
            f"{space}: give the task another observation space"
        )
    return spaces.flatdim(space)
