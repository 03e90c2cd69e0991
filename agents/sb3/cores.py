"""Recurrent cores: what remembers, inside a policy.

Anything that has the methods of `RecurrentCore` will do. `agents.PlasticNetwork` is one with every
rule and cell; `TorchCore` makes one of `torch.nn.LSTM`, `GRU` and `RNN`; `Feedforward` is what
remembers nothing.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar, get_args

import torch
from torch import Tensor, nn

from agents.memories.torch_rnn import TorchCore
from agents.plastic.cells import Cell
from agents.plastic.network import CellName, PlasticNetwork, RuleName
from agents.plastic.rules import Rule
from plastic_envs.checks import check_bool, check_choice, check_count, check_int, shown

CoreName = Literal["plastic", "lstm", "gru", "rnn", "mlp"]
CoreFactory = Callable[[int, int], nn.Module]

State = TypeVar("State")

_MODULES: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class RecurrentCore(Protocol[State]):
    """A module with a memory.

    A state is a tree (see `agents.tree`) of tensors [B, …]: the batch comes first in every
    leaf. Nothing may be kept between calls but what the state holds, a state that was handed in
    stays as it is, and nothing may depend on the other samples of a batch. A core may also have a
    method `outputs`, which returns what `forward` does but for the state; learning needs no more.

    Attributes:
        output_size: Entries of an output.
    """

    @property
    def output_size(self) -> int:
        """Entries of an output."""

    def initial_state(self, batch_size: int) -> State:
        """Return the state at the start of an episode."""

    def step(
        self, x: Tensor, state: State | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Take one step.

        Args:
            x: Input [B, input_size].
            state: State before the step; None at the start of an episode.
            episode_starts: bool [B], true where the state is reset before the step.

        Returns:
            Output [B, output_size] and the state after the step.
        """

    def forward(
        self, x: Tensor, state: State | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run over sequences [B, T, input_size]; `episode_starts` is bool [B, T]."""


def make_core(
    core: CoreName | CoreFactory,
    input_size: int,
    hidden_size: int,
    *,
    rule: RuleName | Rule | None = None,
    cell: CellName | Cell | None = None,
    output_size: int | None = None,
    encoded: bool = False,
    **kwargs: Any,
) -> Any:
    """Make a recurrent core.

    Args:
        core: `"plastic"` for a `PlasticNetwork`; `"lstm"`, `"gru"` or `"rnn"` for torch's; `"mlp"`
            for a `Feedforward` core; or a function of `input_size` and `hidden_size` that makes a
            core, or a module of torch's.
        input_size: Entries of an input.
        hidden_size: Units.
        rule: Plasticity rule of a `PlasticNetwork`; `"gradient"` if it is None.
        cell: Cell of a `PlasticNetwork`; `"rnn"` if it is None.
        output_size: Outputs of a `PlasticNetwork`; 32 if it is None.
        encoded: Whether inputs have `hidden_size` entries and go straight into the cell of a
            `PlasticNetwork`, which then has no plastic encoder.
        **kwargs: Passed on to what is made.

    Returns:
        A module that is a `RecurrentCore`.

    Raises:
        ValueError: If an argument is unknown, or does not belong to this core.
    """
    if isinstance(core, nn.Module):
        raise ValueError(f"core must be a function that makes a module, got a {type(core)}")
    if not callable(core):
        core = check_choice("core", core, get_args(CoreName))
    input_size = check_int("input_size", input_size, minimum=1)
    hidden_size = check_int("hidden_size", hidden_size, minimum=1)
    encoded = check_bool("encoded", encoded)
    if core == "plastic":
        if encoded:
            kwargs = {"encoder": nn.Identity(), **kwargs}
        return PlasticNetwork(
            input_size,
            32 if output_size is None else check_int("output_size", output_size, minimum=1),
            hidden_size,
            "rnn" if cell is None else cell,
            "gradient" if rule is None else rule,
            **kwargs,
        )
    for name, value in {"rule": rule, "cell": cell, "output_size": output_size}.items():
        if value is not None:
            raise ValueError(f"{name} belongs to core='plastic', not to core={shown(core)}")
    if callable(core):
        made = core(input_size, hidden_size, **kwargs)
        if isinstance(made, nn.RNNBase):
            return TorchCore(made)
        missing = [
            name
            for name in ("output_size", "initial_state", "step", "forward")
            if not hasattr(made, name)
        ]
        if missing or not isinstance(made, nn.Module):
            what = f"without {', '.join(missing)}" if missing else "that is no torch module"
            raise ValueError(f"core must make a RecurrentCore, but made a {type(made)} {what}")
        return made
    count = 4 * hidden_size * (input_size + hidden_size)  # at most, in a layer
    check_count("the weights", count, 2**30, input_size=input_size, hidden_size=hidden_size)
    if core == "mlp":
        return Feedforward(input_size, hidden_size, **kwargs)
    return TorchCore(_MODULES[core](input_size, hidden_size, **{"batch_first": True, **kwargs}))


class Feedforward(nn.Module):
    """A layer with tanh that remembers nothing: what a memory is to be compared with.

    Args:
        input_size: Entries of an input.
        hidden_size: Units.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(
            check_int("input_size", input_size, minimum=1),
            check_int("hidden_size", hidden_size, minimum=1),
        )

    @property
    def output_size(self) -> int:
        """Entries of an output."""
        return self.layer.out_features

    def initial_state(self, batch_size: int) -> tuple[()]:
        """Return nothing: there is no state."""
        return ()

    def step(
        self, x: Tensor, state: tuple[()] = (), episode_starts: Tensor | None = None
    ) -> tuple[Tensor, tuple[()]]:
        """Compute the layer for inputs [B, input_size]."""
        return torch.tanh(self.layer(x)), ()

    def forward(
        self, x: Tensor, state: tuple[()] = (), episode_starts: Tensor | None = None
    ) -> tuple[Tensor, tuple[()]]:
        """Compute the layer for inputs [B, T, input_size], step by step."""
        return self.step(x)
