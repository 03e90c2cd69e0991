"""The gradient rule. Source: Duan et al., arXiv 2302.03235."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.plastic.rules.base import Rule, StepRecord, Write, inner_loss
from agents.plastic.state import FastWeights


@dataclass(frozen=True, kw_only=True)
class Gradient(Rule):
    """δ = gradient of the inner loss L_t = mean_k (ω_k o_{t,k})² within the current step.

    h_{t-1} and c_{t-1} are constants for this gradient (not for the outer one). The sign is plus:
    α carries it. Written out by hand, so that no autograd runs inside the step.
    """

    trains_output_weight: ClassVar[bool] = True

    def writes(self, step: StepRecord) -> dict[str, Write]:
        return {name: Write(post) for name, post in self.posts(step).items()}

    def posts(self, step: StepRecord) -> dict[str, Tensor]:
        """Return ∂L/∂q [B, out] of every layer of the network."""
        omega, output = step.output_weight, step.output
        grad_output = (2 / output.shape[-1]) * omega * omega * output
        grad_h = step.backward("readout", grad_output)
        grad_input, grad_hidden = step.cell.backward(grad_h, step.cell_step)
        posts = {"cell_input": grad_input, "cell_hidden": grad_hidden, "readout": grad_output}
        if "encoder" in step.layers:
            grad_encoded = step.backward("cell_input", grad_input)
            posts["encoder"] = torch.where(step.layers["encoder"].post > 0, grad_encoded, 0)
        return posts

    def literal(self, step: StepRecord) -> dict[str, Write]:
        return {name: Write(direction=made) for name, made in self.gradients(step).items()}

    def gradients(self, step: StepRecord) -> dict[str, FastWeights]:
        """Differentiate the inner loss by autograd, with a second-order graph."""
        tensors = [tensor for layer in step.layers.values() for tensor in layer.fast]
        loss = inner_loss(step.output, step.output_weight)
        grads = torch.autograd.grad(loss.sum(), tensors, create_graph=True)
        pairs = zip(grads[::2], grads[1::2], strict=True)
        return {name: FastWeights(*pair) for name, pair in zip(step.layers, pairs, strict=True)}
