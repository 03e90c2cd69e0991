"""Plasticity rules: what is written into the fast weights, and how fast.

Source: Duan et al., "Hebbian and Gradient-based Plasticity Enables Robust Memory and Rapid Learning
in RNNs", ICLR 2023, arXiv 2302.03235.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from agents.plastic.cells import Cell, CellStep
from plastic_envs.checks import check_bool, check_choice, check_number

AlphaInit = Literal["random", "ones", "minus_ones", "off"]

_LARGE = 1e30  # what float32 can hold, and one over it


class StepRecord(NamedTuple):
    """What a rule may look at after one step of the network.

    Attributes:
        cell: The cell that took the step.
        cell_step: What it left behind.
        encoded: Output e_t [B, hidden] of a plastic encoder, or None without one.
        output: All readout units o_t [B, readout].
        output_weight: Weight ω [readout] of each readout unit in the inner loss.
        backward: Takes a layer's name and a gradient [B, out] for its pre-activation; returns the
            gradient [B, in] for its input, through slow and fast weights.
    """

    cell: Cell
    cell_step: CellStep
    encoded: Tensor | None
    output: Tensor
    output_weight: Tensor
    backward: Callable[[str, Tensor], Tensor]


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
            "base_eta": check_number("base_eta", self.base_eta, minimum=0, maximum=_LARGE),
            "base_decay": check_number("base_decay", self.base_decay, minimum=0, maximum=0.5),
            "max_norm": check_number("max_norm", self.max_norm, minimum=1 / _LARGE, maximum=_LARGE),
            "modulation": check_bool("modulation", self.modulation),
            "alpha": check_choice("alpha", self.alpha, get_args(AlphaInit)),
        }
        if self.weight_clip is not None:
            checked["weight_clip"] = check_number(
                "weight_clip", self.weight_clip, minimum=1 / _LARGE, maximum=_LARGE
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

    A rule is made of the settings of `RuleSettings` and says what δ is.

    Attributes:
        plastic: Whether the rule writes at all.
        writes_bias: Whether biases change too.
        trains_output_weight: Whether the posts depend on ω, the weights of the inner loss.
    """

    plastic: ClassVar[bool] = True
    writes_bias: ClassVar[bool] = True
    trains_output_weight: ClassVar[bool] = False

    @abstractmethod
    def posts(self, step: StepRecord) -> dict[str, Tensor]:
        """Return the post-synaptic factor [B, out] of the write, by layer; left out, it is zero.

        The direction is δ_W = pre ⊗ post and, if the rule `writes_bias`, δ_b = post.
        """

    def rates(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return η_t before the norm bound, and λ_t, from readout units [..., readout]."""
        if self.modulation:
            m = 2 * torch.sigmoid(output[..., -1])
        else:
            m = torch.ones_like(output[..., -1])
        return self.base_eta * m, self.base_decay * m


@dataclass(frozen=True, kw_only=True)
class Hebbian(Rule):
    """δ_W = p ⊗ activity: what fires together wires together; biases do not change.

    The activity is the encoder's ReLU output, the RNN's h_t or the LSTM's four gates (for both
    cell layers), and the linear readout.
    """

    writes_bias: ClassVar[bool] = False

    def posts(self, step: StepRecord) -> dict[str, Tensor]:
        activity = step.cell_step.activity
        posts = {"cell_input": activity, "cell_hidden": activity, "readout": step.output}
        if step.encoded is not None:
            posts["encoder"] = step.encoded
        return posts


@dataclass(frozen=True, kw_only=True)
class Gradient(Rule):
    """δ = gradient of the inner loss L_t = mean_k (ω_k o_{t,k})² within the current step.

    h_{t-1} and c_{t-1} are constants for this gradient (not for the outer one). The sign is plus:
    α carries it. Written out by hand, so that no autograd runs inside the step.
    """

    trains_output_weight: ClassVar[bool] = True

    def posts(self, step: StepRecord) -> dict[str, Tensor]:
        omega, output = step.output_weight, step.output
        grad_output = (2 / output.shape[-1]) * omega * omega * output
        grad_h = step.backward("readout", grad_output)
        grad_q = step.cell.backward(grad_h, step.cell_step)
        posts = {"cell_input": grad_q, "cell_hidden": grad_q, "readout": grad_output}
        if step.encoded is not None:
            grad_encoded = step.backward("cell_input", grad_q)
            posts["encoder"] = torch.where(step.encoded > 0, grad_encoded, 0)
        return posts


@dataclass(frozen=True, kw_only=True)
class NonPlastic(Rule):
    """Write nothing: the ordinary recurrent network. Its rates can still be looked at."""

    plastic: ClassVar[bool] = False
    writes_bias: ClassVar[bool] = False

    def posts(self, step: StepRecord) -> dict[str, Tensor]:
        return {}


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
