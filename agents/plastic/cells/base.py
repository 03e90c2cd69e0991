"""What a recurrent cell is: what happens between its two linear layers and its hidden state.

A cell has no parameters. Its layers `cell_input` and `cell_hidden` belong to the network, which
hands over what each of them gives, [B, gates · hidden].
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from agents.plastic.state import Hidden


class CellStep(NamedTuple):
    """What one step of a cell leaves behind.

    Attributes:
        hidden: The new hidden state.
        input_activity: Post-synaptic activity of `cell_input` [B, gates · hidden].
        hidden_activity: Post-synaptic activity of `cell_hidden` [B, gates · hidden]; in most cells
            the same, since both layers act on the same units.
        previous: The hidden state before the step.
        kept: What else `Cell.backward` needs.
    """

    hidden: Hidden
    input_activity: Tensor
    hidden_activity: Tensor
    previous: Hidden
    kept: tuple[Tensor, ...] = ()


class Cell(ABC):
    """A recurrent nonlinearity.

    Attributes:
        gates: Width of what each of the two layers gives, in units of the hidden size.
    """

    gates: ClassVar[int]

    @abstractmethod
    def initial_hidden(self, zeros: Tensor) -> Hidden:
        """Return the hidden state at the start of an episode, like `zeros` [B, hidden].

        It is a named tuple of tensors [B, …] with `h` [B, hidden] among them (see
        `agents.plastic.state.Hidden`), the same for every sample.
        """

    @abstractmethod
    def forward(self, from_input: Tensor, from_hidden: Tensor, hidden: Hidden) -> CellStep:
        """Take one step.

        Args:
            from_input: What `cell_input` makes of the encoded input, [B, gates · hidden].
            from_hidden: What `cell_hidden` makes of `hidden.h`, [B, gates · hidden].
            hidden: Hidden state before the step.
        """

    @abstractmethod
    def backward(self, grad_h: Tensor, step: CellStep) -> tuple[Tensor, Tensor]:
        """Return the gradients for what the two layers gave, within the step.

        The hidden state before the step counts as a constant. The result is differentiable
        itself.

        Args:
            grad_h: Gradient [B, hidden] for the new `h`.
            step: What `forward` returned.

        Returns:
            Gradients [B, gates · hidden] for `from_input` and for `from_hidden`.
        """
