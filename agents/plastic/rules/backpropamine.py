"""The modulated trace of Backpropamine.

Source: Miconi et al., "Backpropamine: training self-modifying neural networks with differentiable
neuromodulated plasticity", ICLR 2019, section 3.2 (retroactive neuromodulation).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.plastic.rules.base import Rule, StepRecord, Write
from agents.plastic.state import FastWeights
from plastic_envs.checks import check_number


@dataclass(frozen=True, kw_only=True)
class Backpropamine(Rule):
    """δ = E, a fading trace of Hebbian products that modulation turns into weights.

    What happened stays in E for a while, and is written by the sign and strength of a later m_t:

        w̃ ← clip((1 - λ) w̃ + η_t min(1, max_norm / n) E, ±weight_clip), η_t = base_eta · m_t
        E ← (1 - trace_rate) E + trace_rate · p ⊗ activity

    with m_t = tanh(η̃_t), which may be negative, or 1 without modulation. Connections read α ⊙ w̃;
    biases do not change.

    Attributes:
        trace_rate: How fast E takes up what happens, within [0, 1].
        base_decay: λ, which is not modulated; none in the source.
        weight_clip: 1 in the source.
    """

    base_decay: float = 0.0
    weight_clip: float | None = 1.0
    trace_rate: float = 0.1

    writes_bias: ClassVar[bool] = False
    reads_alpha: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        rate = check_number("trace_rate", self.trace_rate, minimum=0, maximum=1)
        object.__setattr__(self, "trace_rate", rate)

    def initial_state(self, name: str, fast: FastWeights) -> dict[str, Tensor]:
        return {"trace": torch.zeros_like(fast.weight)}

    def writes(self, step: StepRecord) -> dict[str, Write]:
        writes = {}
        for name, (pre, _, post, _, fast, state) in step.layers.items():
            trace = state["trace"]
            hebb = torch.bmm(pre.unsqueeze(2), (self.trace_rate * post).unsqueeze(1))
            writes[name] = Write(
                direction=FastWeights(trace, torch.zeros_like(fast.bias)),
                state={"trace": torch.add(hebb, trace, alpha=1 - self.trace_rate)},
            )
        return writes

    def literal(self, step: StepRecord) -> dict[str, Write]:
        """Fade the trace, and add the outer product as a matrix."""
        writes = {}
        for name, layer in step.layers.items():
            trace = layer.state["trace"]
            hebb = torch.einsum("bi,bo->bio", layer.pre, layer.post)
            after = (1 - self.trace_rate) * trace + self.trace_rate * hebb
            direction = FastWeights(trace, torch.zeros_like(layer.fast.bias))
            writes[name] = Write(direction=direction, state={"trace": after})
        return writes

    def rates(self, output: Tensor) -> tuple[Tensor, Tensor]:
        m = self.modulations(output)
        return self.base_eta * m, torch.full_like(m, self.base_decay)

    def modulations(self, output: Tensor) -> Tensor:
        unit = output[..., -1]
        return torch.tanh(unit) if self.modulation else torch.ones_like(unit)
