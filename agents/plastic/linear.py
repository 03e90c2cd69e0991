"""`PlasticLinear`: the slow parameters of one layer of a `PlasticNetwork`."""

import torch
from torch import nn

from agents.plastic.rules import Rule


class PlasticLinear(nn.Module):
    """Slow parameters of one layer, q = p (W + w̃) + b + b̃, and their plasticity α.

    Attributes:
        weight: W [in, out], initially U(-k, k) with k = 1/√fan_out.
        bias: b [out], likewise.
        weight_alpha: α of W [in, out], or None if it is 1 and not learned, or W is not plastic.
        bias_alpha: α of b [out], or None if it is 1 and not learned, or b is not plastic.
    """

    weight_alpha: nn.Parameter | None
    bias_alpha: nn.Parameter | None

    def __init__(
        self, in_features: int, out_features: int, fan_out: int, rule: Rule, plastic: bool = True
    ) -> None:
        super().__init__()
        self._bound = fan_out**-0.5
        self._rule = rule
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        learned = plastic and rule.plastic and rule.alpha != "off"
        alphas = {"weight": learned, "bias": learned and rule.writes_bias}
        for name, has_alpha in alphas.items():
            like = getattr(self, name)
            alpha = nn.Parameter(torch.empty_like(like)) if has_alpha else None
            self.register_parameter(f"{name}_alpha", alpha)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw all parameters anew."""
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -self._bound, self._bound, generator=generator)
        for alpha in (self.weight_alpha, self.bias_alpha):
            if alpha is None:
                continue
            if self._rule.alpha == "random":
                nn.init.uniform_(alpha, -1, 1, generator=generator)
            else:
                nn.init.constant_(alpha, 1 if self._rule.alpha == "ones" else -1)

    @property
    def is_plain(self) -> bool:
        """Whether the parameters are as they were registered: nothing makes them of others."""
        return list(self._parameters) == ["weight", "bias", "weight_alpha", "bias_alpha"]

    def extra_repr(self) -> str:
        """Show the layer's size."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"
