"""A rule of your own: BCM, in which what a unit takes for much slides with its activity.

    plastic train --rule own_rule:BCM --threshold-rate 0.2    # in the folder of this file
    python own_rule.py                                        # learns to remember, in seconds

Source: Bienenstock, Cooper, Munro, "Theory for the development of neuron selectivity", 1982.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents import FastWeights, PlasticNetwork, Rule, StepRecord, Write


@dataclass(frozen=True, kw_only=True)
class BCM(Rule):
    """δ = p ⊗ y (y - θ), with θ a running mean of y²: more than θ strengthens, less weakens.

    Attributes:
        threshold_rate: How fast θ follows, within [0, 1].
    """

    threshold_rate: float = 0.1

    writes_bias: ClassVar[bool] = False

    def initial_state(self, name: str, fast: FastWeights) -> dict[str, Tensor]:
        """Start every episode with thresholds [B, out] of 1."""
        return {"threshold": torch.ones_like(fast.bias)}

    def writes(self, step: StepRecord) -> dict[str, Write]:
        """Return the post-synaptic factors, and the thresholds after the step."""
        writes = {}
        for name, layer in step.layers.items():
            y, theta = layer.post, layer.state["threshold"]
            after = theta + self.threshold_rate * (y * y - theta)
            writes[name] = Write(y * (y - theta), state={"threshold": after})
        return writes


if __name__ == "__main__":
    torch.manual_seed(0)
    net = PlasticNetwork(input_size=4, output_size=4, hidden_size=16, rule=BCM())
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for update in range(201):
        x = torch.zeros(32, 6, 4)
        x[:, 0] = torch.randn(32, 4).sign()  # a pattern, then five steps of nothing
        recalled, state = net(x)
        loss = (recalled[:, -1] - x[:, 0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % 50 == 0:
            theta = state.rule["cell_hidden"]["threshold"].mean()
            print(f"update {update}: error {loss:.3f} (guessing 1), mean threshold {theta:.3f}")
