"""What a plasticity rule is: what is written into the fast weights, and how fast.

Source of the frame: Duan et al., "Hebbian and Gradient-based Plasticity Enables Robust Memory and
Rapid Learning in RNNs", ICLR 2023, arXiv 2302.03235.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from agents.plastic.cells import Cell, CellStep
from agents.plastic.state import FastWeights
from plastic_envs.checks import check_bool, check_choice, check_number

AlphaInit = Literal["random", "ones", "minus_ones", "off"]

LARGE = 1e30  # what float32 can hold, and one over it


class LayerStep(NamedTuple):
    """What one plastic layer did in a step: q = p (W + w̃) + b + b̃ and what became of it.

    Attributes:
        pre: Input p [B, in].
        pre_activation: q [B, out].
        post: Activity [B, out] of the units behind the layer: the encoder's ReLU output, the cell's
            (see `CellStep`), and the linear readout.
        slow: Slow weights W [in, out].
        fast: Fast weights as the step found them: `weight` [B, in, out], `bias` [B, out].
        state: The rule's own tensors of this layer, as the step found them.
    """

    pre: Tensor
    pre_activation: Tensor
    post: Tensor
    slow: Tensor
    fast: FastWeights
    state: Mapping[str, Tensor]


class StepRecord(NamedTuple):
    """What a rule may look at after one step of the network.

    Attributes:
        layers: Every layer with fast weights by name: `encoder` (absent if inputs come encoded),
            `cell_input`, `cell_hidden`, `readout`.
        cell: The cell that took the step.
        cell_step: What it left behind.
        output: All readout units o_t [B, readout].
        output_weight: Weight ω [readout] of each readout unit in the inner loss.
        backward: Takes a layer's name and a gradient [B, out] for its pre-activation; returns the
            gradient [B, in] for its input, through slow and fast weights.
    """

    layers: Mapping[str, LayerStep]
    cell: Cell
    cell_step: CellStep
    output: Tensor
    output_weight: Tensor
    backward: Callable[[str, Tensor], Tensor]


class Write(NamedTuple):
    """What a rule writes into one layer: a direction δ, either by its factors or in full.

    By factors, δ_W = pre ⊗ post and, if the rule `writes_bias`, δ_b = post: the fast path, since
    the norm needs no matrices.

    Attributes:
        post: Post-synaptic factor [B, out]; None if there is a `direction`, or nothing to write.
        pre: Pre-synaptic factor [B, in]; None for the layer's input p.
        direction: δ in full, `weight` [B, in, out] and `bias` [B, out], in the place of factors.
        eta: Rate of this layer in the place of η_t, [B] or per unit [B, out].
        decay: Decay of this layer in the place of λ_t, [B] or per unit [B, out], within [0, 1].
        state: The rule's own tensors of this layer after the step, under the same names as before;
            None if there are none, or they stay.
    """

    post: Tensor | None = None
    pre: Tensor | None = None
    direction: FastWeights | None = None
    eta: Tensor | None = None
    decay: Tensor | None = None
    state: dict[str, Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class RuleSettings:
    """The settings that all rules share.

    Attributes:
        base_eta: Base plasticity rate, from 0 to 1e30.
        base_decay: Base decay per step, in [0, 0.5], so that λ_t stays in [0, 1].
        max_norm: Bound on the norm of a write before the rate is applied, from 1e-30 to 1e30.
        weight_clip: If given, w̃ is clamped to ±weight_clip after each write; range as before.
        modulation: Whether the network sets its own rates.
        alpha: Initial plasticity α: "random" (U(-1, 1), the paper's), "ones", "minus_ones", or
            "off" (α = 1, not learned).

    Raises:
        ValueError: If a setting is outside its range.
    """

    base_eta: float = 0.1
    base_decay: float = 0.1
    max_norm: float = 1.0
    weight_clip: float | None = None
    modulation: bool = True
    alpha: AlphaInit = "random"

    def __post_init__(self) -> None:
        """Check the settings."""
        checked = {
            "base_eta": check_number("base_eta", self.base_eta, minimum=0, maximum=LARGE),
            "base_decay": check_number("base_decay", self.base_decay, minimum=0, maximum=0.5),
            "max_norm": check_number("max_norm", self.max_norm, minimum=1 / LARGE, maximum=LARGE),
            "modulation": check_bool("modulation", self.modulation),
            "alpha": check_choice("alpha", self.alpha, get_args(AlphaInit)),
        }
        if self.weight_clip is not None:
            checked["weight_clip"] = check_number(
                "weight_clip", self.weight_clip, minimum=1 / LARGE, maximum=LARGE
            )
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # NumPy's numbers become Python's


@dataclass(frozen=True, kw_only=True)
class Rule(RuleSettings, ABC):
    """What is written into the fast weights after each step.

    With m_t = 2 σ(η̃_t) from the network's own modulation unit η̃_t (m_t = 1 without modulation),
    the rates are η_t = base_eta · m_t and λ_t = base_decay · m_t. With n the joint norm of the
    write directions δ of one sample, and α the learned plasticity of each connection,

        w̃ ← (1 - λ_t) w̃ + η_t min(1, max_norm / n) α ⊙ δ.

    A rule says what δ is, and may have rates and tensors of its own. It is a frozen dataclass,
    whose fields are its settings: those of `RuleSettings` and its own.

    A rule may also define `literal(self, step) -> dict[str, Write]`: the same as `writes`, read
    from the equations as plainly as can be, with directions in full, and by autograd where there
    are derivatives (the fast weights of `step` are tensors that gradients can be taken for). The
    form `naive` uses it, the truth that `writes` is tested against. It counts for the very class
    that defines it alone, since a subclass may change what it was written for.

    Attributes:
        plastic: Whether the rule writes at all.
        writes_bias: Whether biases change too.
        reads_alpha: Whether α scales what is read, q = p (W + α ⊙ w̃) + b + α ⊙ b̃, and not what is
            written: for rules in which what is written depends on w̃.
        trains_output_weight: Whether the writes depend on ω, the weights of the inner loss.
    """

    plastic: ClassVar[bool] = True
    writes_bias: ClassVar[bool] = True
    reads_alpha: ClassVar[bool] = False
    trains_output_weight: ClassVar[bool] = False

    def writes_into(self, name: str) -> bool:
        """Say whether a layer has fast weights; all have by default.

        One without is an ordinary layer: it has no α, and is not among those that `writes` sees.
        """
        return True

    def initial_state(self, name: str, fast: FastWeights) -> dict[str, Tensor]:
        """Return the rule's own tensors of a layer at the start of an episode; none by default.

        Args:
            name: Name of the layer.
            fast: Its fast weights at that time, which are zero.

        Returns:
            Tensors [B, …] by name, of the type and on the device of `fast` (other types, such as
            counters, are kept), the same for every sample.
        """
        return {}

    @abstractmethod
    def writes(self, step: StepRecord) -> dict[str, Write]:
        """Return what is written, by layer; nothing into those left out, which still decay."""

    def rates(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return η_t before the norm bound, and λ_t, from readout units [..., readout]."""
        m = self.modulations(output)
        return self.base_eta * m, self.base_decay * m

    def modulations(self, output: Tensor) -> Tensor:
        """Return m_t from readout units [..., readout]: 2 σ(η̃_t), or 1 without modulation."""
        unit = output[..., -1]
        return 2 * torch.sigmoid(unit) if self.modulation else torch.ones_like(unit)


def is_exactly(part: object, *kinds: type) -> bool:
    """Say whether a rule or cell is of one of these kinds as written: it overrides nothing."""
    return type(part) in kinds and not any(callable(value) for value in vars(part).values())


def inner_loss(output: Tensor, output_weight: Tensor) -> Tensor:
    """Return L = mean_k (ω_k o_k)² [...] of readout units [..., readout]."""
    return (output_weight * output).square().mean(dim=-1)


def clip_scale(squared_norm: Tensor, max_norm: float) -> Tensor:
    """Return min(1, max_norm / n) [B] from n² [B]; finite with its gradient at n = 0."""
    active = ~(squared_norm <= max_norm**2)  # NaN stays NaN
    safe = torch.where(active, squared_norm, torch.ones_like(squared_norm))
    return torch.where(active, max_norm * torch.rsqrt(safe), torch.ones_like(squared_norm))
