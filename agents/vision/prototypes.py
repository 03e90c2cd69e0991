"""Prototypical networks: the nearest class mean of learned embeddings."""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agents.tensors import add_time_axis, check_leaves, check_starts
from agents.tree import map_tree
from agents.vision.encoders import ImageEncoder
from agents.vision.label_encoder import ImageEmbedder
from plastic_envs.checks import check_bool, check_count, check_instance, check_int


class Prototypes(NamedTuple):
    """What a prototypical network knows of an episode so far.

    Attributes:
        sums: [B, num_labels, embedding_size], sum of the embeddings of each class.
        counts: [B, num_labels], number of them.
        last: [B, embedding_size], the embedding seen last.
    """

    sums: Tensor
    counts: Tensor
    last: Tensor


class PrototypicalNetwork(ImageEmbedder):
    """Classify by the nearest mean embedding of the images labelled so far.

    Logit of class k: -‖e - c_k‖², c_k the mean embedding of its labelled images (Snell et al.
    2017). It is called like a recurrent network: what it knows is its state, and each step's logits
    use the labels that came before that step. A class that was not shown yet has the logit of a
    prototype at zero.

    Args:
        image_encoder: Makes the embeddings.
        num_labels: Number of classes of an episode.
        delayed: Whether a label comes one step after its image.
    """

    def __init__(
        self, image_encoder: ImageEncoder, num_labels: int, *, delayed: bool = False
    ) -> None:
        super().__init__(image_encoder, num_labels)
        self.delayed = check_bool("delayed", delayed)

    def initial_state(self, batch_size: int) -> Prototypes:
        """Return the state at the start of an episode.

        Args:
            batch_size: Number B of samples.

        Raises:
            ValueError: If it is no size, or the state would be too large.
        """
        like, batch_size = self._like(), check_int("batch_size", batch_size)
        size = self.image_encoder.embedding_size
        count = batch_size * self.num_labels * size
        check_count("the state", count, 2**33, batch_size=batch_size)
        return Prototypes(
            like.new_zeros(batch_size, self.num_labels, size),
            like.new_zeros(batch_size, self.num_labels),
            like.new_zeros(batch_size, size),
        )

    @property
    def output_size(self) -> int:
        """Entries of an output: the logit of each class."""
        return self.num_labels

    def forward(
        self, x: Any, state: Prototypes | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, Prototypes]:
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
        embedding, label = self.embeddings_and_labels(x)
        initial = self.initial_state(len(label))
        if state is None:
            state = initial
        check_instance("state", state, Prototypes, "Prototypes or None")
        check_leaves("the state holds", state, [leaf.shape for leaf in initial], initial.sums)
        if episode_starts is None:
            return self._piece(embedding, label, state)
        steps = label.shape[1]
        check_starts(episode_starts, (len(label), steps), label.device)
        cuts = episode_starts.any(dim=0).nonzero().flatten().tolist() if steps > 1 else []
        logits = []
        for begin, end in pairwise(sorted({0, *cuts, steps})):
            state = _reset(state, episode_starts[:, begin])
            part, state = self._piece(embedding[:, begin:end], label[:, begin:end], state)
            logits.append(part)
        return torch.cat(logits, dim=1), state

    def step(
        self, x: Any, state: Prototypes | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, Prototypes]:
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
        logits, state = self(add_time_axis(x), state, starts)
        return logits.squeeze(1), state

    def _piece(
        self, embedding: Tensor, label: Tensor, state: Prototypes
    ) -> tuple[Tensor, Prototypes]:
        """Run over steps in which no episode starts."""
        sums, counts, last = state
        labelled = embedding
        if self.delayed:
            labelled = torch.cat([last.unsqueeze(1), embedding[:, :-1]], dim=1)
        # What a step writes is there from the next step on; a delayed label is known at once.
        added = label.unsqueeze(-1) * labelled.unsqueeze(-2)  # [B, T, num_labels, E]
        sums = sums.unsqueeze(1) + added.cumsum(dim=1)
        counts = counts.unsqueeze(1) + label.cumsum(dim=1)
        used_sums, used_counts = (sums, counts) if self.delayed else (sums - added, counts - label)
        prototypes = used_sums / used_counts.clamp(min=1).unsqueeze(-1)
        logits = -(embedding.unsqueeze(-2) - prototypes).square().sum(dim=-1)
        return logits, Prototypes(sums[:, -1], counts[:, -1], embedding[:, -1])


def prototypical(
    input_size: int, *, delayed: bool = False, output_size: int, encoder: nn.Module
) -> PrototypicalNetwork:
    """Make a `PrototypicalNetwork` as a core.

    Args:
        input_size: Not used.
        delayed: Whether a label comes one step after its image.
        output_size: Number of classes.
        encoder: Makes the embeddings of images; or an `ImageEmbedder`, whose `image_encoder` does.

    Raises:
        ValueError: If an argument does not fit.
    """
    images: Any = encoder.image_encoder if isinstance(encoder, ImageEmbedder) else encoder
    return PrototypicalNetwork(images, output_size, delayed=delayed)


def _reset(state: Prototypes, starts: Tensor) -> Prototypes:
    """Forget the episodes of samples where another one starts, bool [B]."""
    return map_tree(
        lambda leaf: leaf.masked_fill(starts.view(-1, *[1] * (leaf.dim() - 1)), 0), state
    )
