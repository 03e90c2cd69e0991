"""What the forms take and return."""

from typing import NamedTuple, Protocol

from torch import Tensor

from agents.plastic.cells import Cell
from agents.plastic.rules import Rule
from agents.plastic.state import PlasticState


class LayerParameters(NamedTuple):
    """Slow parameters of one layer.

    Attributes:
        weight: W [in, out].
        bias: b [out].
        weight_alpha: Plasticity α of W [in, out], or None for 1.
        bias_alpha: Plasticity of b [out], or None for 1.
    """

    weight: Tensor
    bias: Tensor
    weight_alpha: Tensor | None
    bias_alpha: Tensor | None


class NetworkParameters(NamedTuple):
    """Slow parameters of a network.

    Attributes:
        layers: By name: `encoder` (absent if inputs come encoded), `cell_input`, `cell_hidden`,
            `readout`, in this order.
        output_weight: ω [readout] of the inner loss.
    """

    layers: dict[str, LayerParameters]
    output_weight: Tensor


class Probes(NamedTuple):
    """What plasticity did at each step; each [B, T], detached.

    Attributes:
        eta: Plasticity rate η_t as applied, after the bound on the write norm.
        eta_before_clip: η_t before that bound.
        decay: Decay λ_t.
        write_norm: Norm n of the write direction, over all plastic tensors of one sample.
        inner_loss: L_t = mean_k (ω_k o_{t,k})².
    """

    eta: Tensor
    eta_before_clip: Tensor
    decay: Tensor
    write_norm: Tensor
    inner_loss: Tensor


class Form(Protocol):
    """A way to run a network over a sequence."""

    def __call__(
        self,
        parameters: NetworkParameters,
        rule: Rule,
        cell: Cell,
        x: Tensor,
        state: PlasticState,
        episode_starts: Tensor | None,
        *,
        probe: bool,
    ) -> tuple[Tensor, PlasticState, Probes | None]:
        """Run the network.

        Args:
            parameters: Slow parameters.
            rule: Plasticity rule.
            cell: Recurrent cell.
            x: Inputs [B, T, in]; encoded ones if there is no `encoder` layer.
            state: State before the first step.
            episode_starts: bool [B, T], true where the state is reset before the step; or None.
            probe: Whether to return probes.

        Returns:
            All readout units o [B, T, readout], the state after the last write, and the probes.
        """
