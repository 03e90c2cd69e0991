"""`LabelMemory`: an associative memory of embeddings and their labels."""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agents.memories.associative import declare
from agents.memories.layer import MemoryLayer, MemoryProbes
from agents.memories.naive import emptied
from agents.memories.updates import UPDATES, Attention, Update
from agents.tensors import add_time_axis, check_leaves, check_starts
from agents.vision.encoders import ImageEncoder
from agents.vision.label_encoder import ImageEmbedder
from plastic_envs.checks import check_bool, check_count, check_instance, check_int, check_number

_ALL = 60.0  # logit of a write of all, and of none
_LEAST = 1e-20  # share of a label, which bounds the logarithm and its derivative


class LabelMemoryState(NamedTuple):
    """State of a `LabelMemory`.

    Attributes:
        memory: Of its update, tensors [B, 1, …].
        last: [B, embedding_size], the embedding seen last; a delayed label belongs to it.
    """

    memory: Any
    last: Tensor


class LabelMemory(ImageEmbedder):
    """Write labels under the embeddings of their images, and read those of other images.

    With embeddings e: k = q = W e, W started at the identity, so that learning starts at the metric
    that the encoder was trained for and stays one; v is the label. Images without a label write
    nothing, those with one write before they read. Logits are τ o of what is read; of attention,
    whose o is a share for each label, τ log o. τ is learned.

    - attention by distance is a matching network (Vinyals et al. 2016), and before learning, with
      one image of each class, the prototypical network: κ τ = 1 and the logit of a class is
      −‖e − e_class‖² up to what all have in common. With more images of a class and κ ‖…‖² ≪ 1 it
      is so up to the variance within classes.
    - mesa is ridge regression on embeddings (R2-D2, Bertinetto et al. 2018), with a learned Λ.

    Args:
        image_encoder: Makes the embeddings.
        num_labels: Number of classes of an episode.
        update: The memory, whose keys have `embedding_size` and whose values `num_labels` entries.
        delayed: Whether a label comes one step after its image.
        noise: Standard deviation of what is added to embeddings in training, in units of the
            deviation of each entry over the batch: against overfitting few classes. From torch's
            global generator, as dropout is.

    Raises:
        ValueError: If an argument does not fit.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        num_labels: int,
        update: Update,
        *,
        delayed: bool = False,
        noise: float = 0.0,
    ) -> None:
        super().__init__(image_encoder, num_labels)
        check_instance("update", update, Update, "an Update")  # type: ignore[type-abstract]
        size = self.image_encoder.embedding_size
        found = update.heads, update.key_size, update.value_size
        if found != (1, size, self.num_labels):
            raise ValueError(
                f"update must have 1 head, keys of {size} and values of {self.num_labels} entries, "
                f"got {', '.join(map(str, found))}"
            )
        self.delayed = check_bool("delayed", delayed)
        self.noise = check_number("noise", noise, minimum=0, maximum=1e3)
        self.shares = isinstance(update, Attention)
        self.layer = MemoryLayer(0, update, _Pairs(size, update.largest_write))
        scale = -float(update.log_kappa.detach()) if isinstance(update, Attention) else 2.0
        self.log_scale = nn.Parameter(torch.tensor(scale))

    @property
    def output_size(self) -> int:
        """Entries of an output: the logit of each class."""
        return self.num_labels

    def initial_state(self, batch_size: int) -> LabelMemoryState:
        """Return the state at the start of an episode.

        Raises:
            ValueError: If the batch is no size, or the state would be too large.
        """
        batch_size = check_int("batch_size", batch_size)
        one = self._initial_state(1)
        size = one.last.numel() + sum(leaf.numel() for leaf in one.memory)
        check_count("the state", batch_size * size, 2**33, batch_size=batch_size)
        return self._initial_state(batch_size)

    def forward(
        self, x: Any, state: LabelMemoryState | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, LabelMemoryState]:
        """Run over a sequence.

        Args:
            x: Inputs as for `ImageEmbedder`, [B, T, …].
            state: State to carry on from; None at the start of an episode.
            episode_starts: bool [B, T], true where the state is reset before the step.

        Returns:
            Logits [B, T, num_labels] and the state after the last step.

        Raises:
            ValueError: If an argument has another form.
        """
        z, memory, last = self._prepared(x, state, episode_starts)
        reads, memory = self.layer(z, memory, episode_starts)
        return self._logits(reads), LabelMemoryState(memory, last)

    def probe(
        self, x: Any, state: LabelMemoryState | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, LabelMemoryState, MemoryProbes]:
        """Run over a sequence as `forward` does, and report what the memory did at each step."""
        z, memory, last = self._prepared(x, state, episode_starts)
        reads, after = self.layer(z, memory, episode_starts)
        probes = self.layer.probe(z, memory, episode_starts)
        return self._logits(reads), LabelMemoryState(after, last), probes

    def step(
        self, x: Any, state: LabelMemoryState | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, LabelMemoryState]:
        """Take one step, for acting.

        Args:
            x: Inputs as for `forward`, without the time axis.
            state: State before the step; None at the start of an episode.
            episode_starts: bool [B].

        Returns:
            Logits [B, num_labels] and the state after the step.

        Raises:
            ValueError: As for `forward`.
        """
        starts = None if episode_starts is None else add_time_axis(episode_starts, "episode_starts")
        z, memory, last = self._prepared(add_time_axis(x), state, starts)
        if memory is None:
            memory = self._initial_state(len(last)).memory
        if episode_starts is not None:
            memory = emptied(memory, episode_starts)
        reads, memory = self.layer.step(z.squeeze(1), memory)
        return self._logits(reads), LabelMemoryState(memory, last)

    def _initial_state(self, batch: int) -> LabelMemoryState:
        like, size = self.log_scale, self.image_encoder.embedding_size
        memory = self.layer.update.initial_state(batch, like)
        return LabelMemoryState(memory, like.new_zeros(batch, size))

    def _prepared(
        self, x: Any, state: LabelMemoryState | None, starts: Tensor | None
    ) -> tuple[Tensor, Any, Tensor]:
        """Return what the layer takes, its memory before, and the last embedding."""
        embedding, label = self.embeddings_and_labels(x)
        batch, steps = label.shape[:2]
        if self.training and self.noise:
            spread = embedding.detach().flatten(end_dim=1).std(dim=0, correction=0)
            embedding = embedding + self.noise * spread * torch.randn_like(embedding)
        if starts is not None:
            check_starts(starts, (batch, steps), label.device)
        initial = self._initial_state(batch)
        if state is not None:
            check_instance("state", state, LabelMemoryState, "LabelMemoryState or None")
            kind = type(initial.memory)
            check_instance("state.memory", state.memory, kind, f"{kind.__name__}")
            shapes = [leaf.shape for leaf in (*initial.memory, initial.last)]
            check_leaves("the state holds", [*state.memory, state.last], shapes, self.log_scale)
        labelled = embedding
        if self.delayed:
            last = initial.last if state is None else state.last
            labelled = torch.cat([last.unsqueeze(1), embedding[:, :-1]], dim=1)
            if starts is not None:
                labelled = labelled.masked_fill(starts.unsqueeze(-1), 0)
        z = torch.cat([labelled, embedding, label], dim=-1)
        return z, None if state is None else state.memory, embedding[:, -1]

    def _logits(self, reads: Tensor) -> Tensor:
        if self.shares:
            reads = (reads + _LEAST).log()
        return self.log_scale.exp() * reads


class _Pairs(nn.Module):
    """[embedding that the label belongs to, embedding, label] to [k, q, v, logit of β]."""

    def __init__(self, size: int, largest_write: float) -> None:
        super().__init__()
        self.size = size
        self.metric = nn.Linear(size, size, bias=False)
        nn.init.eye_(self.metric.weight)
        # largest · σ(logit) = 1
        self.written = -math.log(largest_write - 1) if largest_write > 1 else _ALL

    def forward(self, z: Tensor) -> Tensor:
        labelled, embedding, label = z.tensor_split([self.size, 2 * self.size], dim=-1)
        none = (label == 0).all(dim=-1, keepdim=True)
        write = torch.full_like(label[..., :1], self.written).masked_fill(none, -_ALL)
        return torch.cat([self.metric(labelled), self.metric(embedding), label, write], dim=-1)


def label_memory_factory(update: str, **defaults: Any) -> Callable[..., LabelMemory]:
    """Return a factory of label memories with the update of a name, whose settings are options.

    Args:
        update: A name in `UPDATES`.
        **defaults: In place of the update's own.
    """
    kind = UPDATES[update]

    def factory(
        input_size: int,  # noqa: ARG001 (of every core)
        *,
        delayed: bool = False,
        noise: float = 0.0,
        output_size: int,
        encoder: nn.Module,
        **settings: Any,
    ) -> LabelMemory:
        images: Any = encoder.image_encoder if isinstance(encoder, ImageEmbedder) else encoder
        size = check_int("encoder.embedding_size", getattr(images, "embedding_size", None))
        memory = kind(size, output_size, 1, **{**defaults, **settings})
        return LabelMemory(images, output_size, memory, delayed=delayed, noise=noise)

    declare(factory, update, inspect.signature(factory).parameters.values(), defaults)
    return factory
