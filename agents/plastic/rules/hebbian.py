"""The Hebbian rule. Source: Duan et al., arXiv 2302.03235."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from agents.plastic.rules.base import Rule, StepRecord, Write
from agents.plastic.state import FastWeights


@dataclass(frozen=True, kw_only=True)
class Hebbian(Rule):
    """δ_W = p ⊗ activity: what fires together wires together; biases do not change.

    The activity is the encoder's ReLU output, the RNN's h_t or the gates of an LSTM or GRU, and the
    linear readout.
    """

    writes_bias: ClassVar[bool] = False

    def writes(self, step: StepRecord) -> dict[str, Write]:
        return {name: Write(layer.post) for name, layer in step.layers.items()}

    def literal(self, step: StepRecord) -> dict[str, Write]:
        """Form the outer products as matrices."""
        return {
            name: Write(
                direction=FastWeights(
                    torch.einsum("bi,bo->bio", layer.pre, layer.post),
                    torch.zeros_like(layer.fast.bias),
                )
            )
            for name, layer in step.layers.items()
        }
