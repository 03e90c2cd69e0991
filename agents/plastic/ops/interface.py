"""What the forms take and return."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from agents.plastic.cells import Cell
from agents.plastic.rules import Rule, Write
from agents.plastic.state import FastWeights, PlasticState
from agents.tree import map_tree
from plastic_envs.checks import shown


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
        teaching: T [teaching, readout], by which the last entries of an input join the readout
            units that the rule sees; None if there are no such entries.
    """

    layers: dict[str, LayerParameters]
    output_weight: Tensor
    teaching: Tensor | None = None


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
    """A way to run a network over a sequence: a module with these two functions."""

    def obstacle(
        self, rule: Rule, cell: Cell, tensors: Sequence[Tensor], *, taught: bool = False
    ) -> str | None:
        """Name what keeps this form from computing a problem, here and now; None if it can.

        What it can is stated by the exact type of rule and cell: a subclass may compute something
        else than what the form was written for.

        Args:
            rule: Plasticity rule.
            cell: Recurrent cell.
            tensors: Parameters, and input and state if they are known.
            taught: Whether the last entries of inputs join the readout.
        """

    def run(
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
            x: Inputs [B, T, in]; encoded ones if there is no `encoder` layer. What is taught comes
                last in each.
            state: State before the first step.
            episode_starts: bool [B, T], true where the state is reset before the step; or None.
            probe: Whether to return probes.

        Returns:
            All readout units o [B, T, readout], without what is taught, the state after the last
            write, and the probes.
        """


def episode_start(rule: Rule, cell: Cell, like: PlasticState) -> PlasticState:
    """Return what `PlasticState.reset` sets back to, for states of these shapes."""
    hidden = cell.initial_hidden(torch.zeros_like(like.hidden.h))
    own = own_state(rule, map_tree(torch.zeros_like, like.fast)) if like.rule else {}
    return PlasticState(hidden, {}, own)


def own_state(rule: Rule, fast: Mapping[str, FastWeights]) -> dict[str, dict[str, Tensor]]:
    """Return a rule's own tensors at the start of an episode, of the layers that have some."""
    made = {name: rule.initial_state(name, layer) for name, layer in fast.items()}
    return {name: own for name, own in made.items() if own}


def check_writes(rule: Rule, writes: Mapping[str, Write], state: PlasticState) -> None:
    """Refuse what a rule of the user's own must not return.

    Raises:
        ValueError: If it writes into a layer that is not there, or its own tensors are not those
            that it started with.
    """
    if not writes.keys() <= state.fast.keys():
        raise ValueError(
            f"{type(rule).__name__}.writes must name layers among {', '.join(state.fast)}, "
            f"got {shown(list(writes))}"
        )
    for name, write in writes.items():
        before = state.rule.get(name, {})
        if write.state is not None and write.state.keys() != before.keys():
            raise ValueError(
                f"{type(rule).__name__}.writes must return the state of {name} as "
                f"{shown(list(before))}, as it began, got {shown(list(write.state))}"
            )


def own_after(state: PlasticState, writes: Mapping[str, Write]) -> dict[str, Mapping[str, Tensor]]:
    """Return the rule's own tensors after a step: what it returned, or what they were."""
    after = {}
    for name, own in state.rule.items():
        made = writes[name].state if name in writes else None
        after[name] = own if made is None else made
    return after


def stimulus_and_teaching(parameters: NetworkParameters, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Take inputs [..., in] apart: what goes through the layers, and v T [..., readout]."""
    if parameters.teaching is None:
        return x, None
    size = x.shape[-1] - len(parameters.teaching)
    return x[..., :size], x[..., size:] @ parameters.teaching
