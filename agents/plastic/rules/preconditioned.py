"""The gradient rule with a preconditioner: least squares online, by each layer for itself.

Sources: Sussillo & Abbott, "Generating coherent patterns of activity from chaotic neural networks",
Neuron 2009 (FORCE learning: recursive least squares for the readout of a recurrent network); the
gradient rule of Duan et al., arXiv 2302.03235.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from agents.plastic.rules.base import AlphaInit, StepRecord, Write
from agents.plastic.rules.gradient import Gradient
from agents.plastic.state import FastWeights
from plastic_envs.checks import check_choice, check_number

Layers = Literal["all", "readout"]


@dataclass(frozen=True, kw_only=True)
class Preconditioned(Gradient):
    """δ = -P p ⊗ ∂L/∂q / (1 + η p·P p): what p has not told before counts, and the rest does not.

    L = ½ Σ_k (ω_k o_k)² over the readout units but the modulation unit. P [in, in] of each layer
    begins as P_0 = prior_variance · I and follows the inputs p that were written, by the formula of
    Sherman and Morrison:

        a = P p,  P ← P - η a ⊗ a / (1 + η p·a),  P ← (1 - λ) P + λ P_0

    with the rate η_t and decay λ_t of the step, before the bound on the norm; nothing is written
    where rounding has made p·a negative. With α = 1, λ = 0 and keys p that do not depend on what is
    learned, the fast weights of a readout are at each step the ridge regression on all that was
    written, each step weighted by its η_t. Keys must not see the value: see `teaching_size` of
    `PlasticNetwork`. Biases do not change.

    Attributes:
        base_eta: Weight of a step; 1 is what ridge regression gives each example.
        base_decay: None by default: least squares forgets nothing.
        max_norm: A bound that the first writes of an episode, which are large, stay under.
        alpha: 1 by default, and learned; the sign of δ is that of descent.
        prior_variance: Diagonal of P_0, above 0 and at most 1e6: how much may be learned of one
            example. Larger inputs p have the same effect.
        layers: Which layers are written.
    """

    base_eta: float = 1.0
    base_decay: float = 0.0
    max_norm: float = 100.0
    alpha: AlphaInit = "ones"
    prior_variance: float = 1.0
    layers: Layers = "all"

    writes_bias: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        variance = check_number("prior_variance", self.prior_variance, above=0, maximum=1e6)
        object.__setattr__(self, "prior_variance", variance)
        object.__setattr__(self, "layers", check_choice("layers", self.layers, get_args(Layers)))

    def writes_into(self, name: str) -> bool:
        return self.layers == "all" or name == "readout"

    def initial_state(self, name: str, fast: FastWeights) -> dict[str, Tensor]:
        return {"P": self._prior(fast.weight).clone()}

    def writes(self, step: StepRecord) -> dict[str, Write]:
        eta, decay = self.rates(step.output)
        half_units = step.output.shape[-1] / 2  # of a mean of squares, half the sum
        writes = {}
        for name, post in self.posts(self._without_modulation(step)).items():
            if not self.writes_into(name):
                continue
            p, inverse = step.layers[name].pre, step.layers[name].state["P"]
            a = torch.bmm(inverse, p.unsqueeze(2)).squeeze(2)
            s = (p * a).sum(dim=1)
            a = a.masked_fill((s < 0).unsqueeze(1), 0)
            spread = 1 + eta * s.clamp(min=0)
            square = torch.bmm(a.unsqueeze(2), a.unsqueeze(1))  # symmetric to the bit, and so P is
            inverse = torch.addcmul(inverse, square, (-eta / spread)[:, None, None])
            if self.base_decay > 0:
                inverse = self._faded(inverse, decay)
            gain = a / spread.unsqueeze(1)
            writes[name] = Write(-half_units * post, gain, state={"P": inverse})
        return writes

    def literal(self, step: StepRecord) -> dict[str, Write]:
        """Precondition the gradients that autograd finds, as matrices."""
        eta, decay = self.rates(step.output)
        writes = {}
        for name, (found, _) in self.gradients(self._without_modulation(step)).items():
            layer = step.layers[name]
            inverse, p = layer.state["P"], layer.pre
            a = torch.einsum("bij,bj->bi", inverse, p)
            s = torch.einsum("bi,bi->b", p, a)[:, None, None]
            a = torch.where(s[:, 0] < 0, 0, a)
            spread = 1 + eta[:, None, None] * s.clamp(min=0)
            gradient = found * step.output.shape[-1] / 2
            direction = -torch.einsum("bij,bjo->bio", inverse, gradient) / spread
            direction = torch.where(s < 0, 0, direction)
            after = inverse - eta[:, None, None] * torch.einsum("bi,bj->bij", a, a) / spread
            zero = torch.zeros_like(layer.fast.bias)
            writes[name] = Write(
                direction=FastWeights(direction, zero), state={"P": self._faded(after, decay)}
            )
        return writes

    def _without_modulation(self, step: StepRecord) -> StepRecord:
        """Leave the modulation unit out of the loss: no error of it is to be learned away."""
        if not self.modulation:
            return step
        omega = step.output_weight
        return step._replace(output_weight=torch.cat([omega[:-1], torch.zeros_like(omega[-1:])]))

    def _faded(self, inverse: Tensor, decay: Tensor) -> Tensor:
        """Return (1 - λ) P + λ P_0: as weights fade, so does what is known of them."""
        return torch.lerp(inverse, self._prior(inverse), decay[:, None, None])

    def _prior(self, like: Tensor) -> Tensor:
        """Return P_0 [B, in, in] of a layer, like a tensor [B, in, …] of it."""
        size = like.shape[1]
        unit = torch.eye(size, dtype=like.dtype, device=like.device)
        return (self.prior_variance * unit).expand(len(like), size, size)
