"""Prototypical networks: the nearest class mean of learned embeddings."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.plastic.network import add_time_axis
from agents.tensors import check_leaves
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

    def forward(self, inputs: Any, state: Prototypes | None = None) -> tuple[Tensor, Prototypes]:
        """Run over a sequence.

        Args:
            inputs: As for `ImageEmbedder`, [B, T, …].
            state: State to carry on from; None at the start of an episode.

        Returns:
            Logits [B, T, num_labels] and the state after the last step.

        Raises:
            ValueError: If inputs or state have another form.
        """
        embedding, label = self.embeddings_and_labels(inputs)
        initial = self.initial_state(len(label))
        if state is None:
            state = initial
        check_instance("state", state, Prototypes, "Prototypes or None")
        check_leaves("the state holds", state, [leaf.shape for leaf in initial], initial.sums)
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

    def step(self, inputs: Any, state: Prototypes | None = None) -> tuple[Tensor, Prototypes]:
        """Take one step, for acting.

        Args:
            inputs: As for `forward`, without the time axis.
            state: State before the step; None at the start of an episode.

        Returns:
            Logits [B, num_labels] and the state after the step.

        Raises:
            ValueError: As for `forward`.
        """
        logits, state = self(add_time_axis(inputs), state)
        return logits.squeeze(1), state
