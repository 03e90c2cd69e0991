"""Oja's rule. Source: Oja, "A simplified neuron model as a principal component analyzer", 1982."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from agents.plastic.rules.base import Rule, StepRecord, Write
from agents.plastic.state import FastWeights


@dataclass(frozen=True, kw_only=True)
class Oja(Rule):
    """δ_ij = q_j (p_i - w̃_ij q_j): Hebbian, with what keeps the weights of each unit bounded.

    q is what the layer itself gives, as the output of Oja's linear neuron, and w̃ the fast weights
    alone, so that the slow ones are no part of what is bounded. Connections read α ⊙ w̃; biases do
    not change.
    """

    writes_bias: ClassVar[bool] = False
    reads_alpha: ClassVar[bool] = True

    def writes(self, step: StepRecord) -> dict[str, Write]:
        writes = {}
        for name, (pre, q, _, _, fast, _) in step.layers.items():
            residual = pre.unsqueeze(2) - fast.weight * q.unsqueeze(1)
            direction = FastWeights(residual * q.unsqueeze(1), torch.zeros_like(fast.bias))
            writes[name] = Write(direction=direction)
        return writes

    def literal(self, step: StepRecord) -> dict[str, Write]:
        """Take Hebb's term and the forgetting apart, unit by unit."""
        writes = {}
        for name, layer in step.layers.items():
            columns = []
            for unit, w in enumerate(layer.fast.weight.unbind(dim=2)):
                q = layer.pre_activation[:, unit, None]
                columns.append(q * layer.pre - q**2 * w)
            direction = FastWeights(torch.stack(columns, dim=2), torch.zeros_like(layer.fast.bias))
            writes[name] = Write(direction=direction)
        return writes
