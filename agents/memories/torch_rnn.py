"""`TorchCore`: `torch.nn.LSTM`, `GRU` and `RNN` as cores."""

import itertools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.tree import map_tree
from plastic_envs.checks import check_choice, check_count, check_int, shown

Indices = NDArray[np.int64]

_LARGEST = 2**30  # weights of a layer
_PADDING = 128  # steps whose computation takes about as long as a call (LSTM 64 and 128, CPU)


def lstm(input_size: int, hidden_size: int = 128, num_layers: int = 1) -> "TorchCore":
    """Make a core of `torch.nn.LSTM`."""
    return _made(nn.LSTM, input_size, hidden_size, num_layers)


def gru(input_size: int, hidden_size: int = 128, num_layers: int = 1) -> "TorchCore":
    """Make a core of `torch.nn.GRU`."""
    return _made(nn.GRU, input_size, hidden_size, num_layers)


def rnn(
    input_size: int,
    hidden_size: int = 128,
    num_layers: int = 1,
    nonlinearity: Literal["tanh", "relu"] = "tanh",
) -> "TorchCore":
    """Make a core of `torch.nn.RNN`."""
    check_choice("nonlinearity", nonlinearity, ("tanh", "relu"))
    return _made(nn.RNN, input_size, hidden_size, num_layers, nonlinearity=nonlinearity)


def _made(
    kind: Callable[..., nn.RNNBase], input_size: int, hidden_size: int, num_layers: int, **more: Any
) -> "TorchCore":
    given = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
    sizes = {name: check_int(name, size, minimum=1) for name, size in given.items()}
    count = 4 * sizes["hidden_size"] * (sizes["input_size"] + sizes["hidden_size"])  # at most
    check_count("the weights", count * sizes["num_layers"], _LARGEST, **sizes)
    return TorchCore(kind(**sizes, batch_first=True, **more))


class HiddenState(NamedTuple):
    """State of a GRU or RNN: `h` [B, layers, hidden]."""

    h: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> "HiddenState":
        """Apply a function to every tensor."""
        return map_tree(function, self)

    def detach(self) -> "HiddenState":
        """Cut the graph."""
        return self.map(torch.Tensor.detach)

    def to(self, device: torch.device | str) -> "HiddenState":
        """Move to a device."""
        return self.map(lambda leaf: leaf.to(device))


class HiddenCellState(NamedTuple):
    """State of an LSTM: output `h` and cell `c`, each [B, layers, hidden]."""

    h: Tensor
    c: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> "HiddenCellState":
        """Apply a function to every tensor."""
        return map_tree(function, self)

    def detach(self) -> "HiddenCellState":
        """Cut the graph."""
        return self.map(torch.Tensor.detach)

    def to(self, device: torch.device | str) -> "HiddenCellState":
        """Move to a device."""
        return self.map(lambda leaf: leaf.to(device))


TorchState = HiddenState | HiddenCellState


class TorchCore(nn.Module):
    """`torch.nn.LSTM`, `GRU` or `RNN` as a core.

    Where episodes start inside a sequence, every sequence is cut there, and the pieces, which do
    not depend on each other, are run side by side: those of similar length together, padded. That
    takes few calls of the module however many episodes start. PyTorch's own packed sequences would
    take three times as long for an LSTM on the CPU.

    Args:
        module: The recurrent module, in one direction and without dropout (an agent that learns
            must give the same probability to an action as when it took it).

    Raises:
        ValueError: If the module is none of these.

    Example:
        >>> core = TorchCore(nn.LSTM(3, 8))
        >>> starts = torch.zeros(2, 5, dtype=torch.bool)
        >>> starts[1, 3] = True
        >>> y, state = core(torch.zeros(2, 5, 3), core.initial_state(2), starts)
        >>> y.shape, state.h.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 1, 8]))
    """

    def __init__(self, module: nn.RNNBase) -> None:
        super().__init__()
        if not isinstance(module, nn.RNNBase):
            raise ValueError(f"module must be a torch.nn.LSTM, GRU or RNN, got {shown(module)}")
        if module.bidirectional:
            raise ValueError("module must not be bidirectional: an agent does not see the future")
        if module.dropout:
            raise ValueError(f"module must have dropout=0, got {module.dropout}")
        self.module = module

    @property
    def output_size(self) -> int:
        """Entries of an output."""
        return self.module.proj_size or self.module.hidden_size

    def initial_state(self, batch_size: int) -> TorchState:
        """Return zeros."""
        module = self.module
        like = next(module.parameters())
        h = like.new_zeros(batch_size, module.num_layers, self.output_size)
        if not isinstance(module, nn.LSTM):
            return HiddenState(h)
        return HiddenCellState(h, like.new_zeros(batch_size, module.num_layers, module.hidden_size))

    def step(
        self, x: Tensor, state: TorchState | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, TorchState]:
        """Take one step, as `Core.step` says."""
        starts = None if episode_starts is None else episode_starts.unsqueeze(1)
        output, state = self(x.unsqueeze(1), state, starts)
        return output.squeeze(1), state

    def forward(
        self, x: Tensor, state: TorchState | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, TorchState]:
        """Run over sequences [B, T, input_size].

        Args:
            x: Inputs.
            state: State to carry on from; None at the start of an episode.
            episode_starts: bool [B, T].

        Returns:
            Outputs [B, T, output_size] and the state after the last step.
        """
        return self._run(x, state, episode_starts, final=True)

    def outputs(
        self, x: Tensor, state: TorchState | None = None, episode_starts: Tensor | None = None
    ) -> Tensor:
        """Return the outputs of `forward` alone, which takes fewer calls of the module."""
        output, _ = self._run(x, state, episode_starts, final=False)
        return output

    def _run(
        self, x: Tensor, state: TorchState | None, starts: Tensor | None, *, final: bool
    ) -> tuple[Tensor, TorchState]:
        """Run over sequences; without `final`, the state returned means nothing."""
        if state is None:
            state = self.initial_state(len(x))
        if starts is None:
            return self._whole(x, state)
        state = _reset(state, starts[:, 0])
        if x.shape[1] == 1 or not starts[:, 1:].any():
            return self._whole(x, state)
        return self._pieces(x, state, starts, final=final)

    def _whole(self, x: Tensor, state: TorchState) -> tuple[Tensor, TorchState]:
        """Run over sequences [B, T, in] in which no episode starts."""
        batch_first = self.module.batch_first
        if not batch_first:
            x = x.transpose(0, 1)
        output, final = self.module(x, self._for_module(state))
        return output if batch_first else output.transpose(0, 1), self._from_module(final)

    def _pieces(
        self, x: Tensor, state: TorchState, starts: Tensor, *, final: bool
    ) -> tuple[Tensor, TorchState]:
        """Run over sequences [B, T, in], cut into pieces where an episode starts."""
        batch, steps = starts.shape
        begins = starts.cpu().numpy().copy()
        begins[:, 0] = True
        first = np.flatnonzero(begins)  # position in [B · T] of each piece's first step
        lengths = np.diff(first, append=batch * steps)
        is_last = (first + lengths) % steps == 0
        alone = ~is_last if final else np.ones_like(is_last)

        parts = self._groups_of_pieces(x, state, first[alone], lengths[alone])
        if final:
            more, state = self._last_pieces(x, state, first[is_last] % steps)
            parts += more
        where = np.concatenate([places.ravel() for places, _ in parts])
        rows = np.flatnonzero(where >= 0)
        row_of = np.empty(batch * steps, np.int64)
        row_of[where[rows]] = rows
        outputs = torch.cat([output.flatten(0, 1) for _, output in parts])
        outputs = outputs.index_select(0, torch.from_numpy(row_of).to(x.device))
        return outputs.view(batch, steps, -1), state

    def _groups_of_pieces(
        self, x: Tensor, state: TorchState, first: Indices, lengths: Indices
    ) -> list[tuple[Indices, Tensor]]:
        """Run over pieces whose final states nobody needs, those of similar length together.

        Returns:
            Positions in [B · T], -1 for padding, and the outputs.
        """
        steps, flat = x.shape[1], x.flatten(0, 1)
        results = []
        for group in _groups(lengths):
            begin, length = first[group], lengths[group]
            offsets = np.arange(length.max())
            grid = np.minimum(begin[:, None] + offsets, len(flat) - 1)
            inputs = flat.index_select(0, torch.from_numpy(grid.ravel()).to(x.device))
            initial = _select(state, begin // steps, begin % steps == 0)
            output, _ = self._whole(inputs.view(*grid.shape, -1), initial)
            results.append((np.where(offsets < length[:, None], grid, -1), output))
        return results

    def _last_pieces(
        self, x: Tensor, state: TorchState, times: Indices
    ) -> tuple[list[tuple[Indices, Tensor]], TorchState]:
        """Run over the pieces with which the sequences end, begun at `times` [B].

        They end together, with the state that is wanted: whenever another begins, it joins in.
        """
        steps = x.shape[1]
        order = np.argsort(times, kind="stable")
        kept = times[order] == 0  # others begin at zero
        running, results, joined = _select(state, order[:0], kept[:0]), [], 0
        for now, until in itertools.pairwise([*np.unique(times).tolist(), steps]):
            count = int((times <= now).sum())
            fresh = _select(state, order[joined:count], kept[joined:count])
            pairs = zip(running, fresh, strict=True)
            running = type(state)(*(torch.cat(pair) for pair in pairs))
            samples, joined = order[:count], count
            inputs = x[torch.from_numpy(samples).to(x.device), now:until]
            output, running = self._whole(inputs, running)
            results.append((samples[:, None] * steps + np.arange(now, until), output))
        back = torch.from_numpy(np.argsort(order)).to(x.device)
        return results, map_tree(lambda leaf: leaf[back], running)

    @staticmethod
    def _for_module(state: TorchState) -> Any:
        parts = tuple(leaf.transpose(0, 1).contiguous() for leaf in state)
        return parts if len(parts) > 1 else parts[0]

    @staticmethod
    def _from_module(state: Any) -> TorchState:
        if isinstance(state, tuple):
            return HiddenCellState(*(leaf.transpose(0, 1) for leaf in state))
        return HiddenState(state.transpose(0, 1))


def _reset(state: TorchState, starts: Tensor) -> TorchState:
    return map_tree(lambda leaf: leaf.masked_fill(starts[:, None, None], 0), state)


def _select(state: TorchState, samples: Indices, kept: NDArray[np.bool_]) -> TorchState:
    """Return the states of some samples, zeros where they are not to be kept."""
    index, drop = torch.from_numpy(samples), torch.from_numpy(~kept)[:, None, None]

    def select(leaf: Tensor) -> Tensor:
        return leaf[index.to(leaf.device)].masked_fill(drop.to(leaf.device), 0)

    return map_tree(select, state)


def _groups(lengths: Indices) -> list[Indices]:
    """Group pieces so that a group's padding costs no more than a further call of the module."""
    order = np.argsort(-lengths, kind="stable")
    groups, begin, padding = [], 0, 0
    for k, length in enumerate(lengths[order].tolist()):
        padding += int(lengths[order[begin]]) - length
        if padding > _PADDING:
            groups.append(order[begin:k])
            begin, padding = k, 0
    return [*groups, order[begin:]] if len(order) else []
