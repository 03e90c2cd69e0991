"""`HebbianMemoryNetwork`: a memory network whose memory is written by a bounded Hebbian rule."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from agents.memories.layer import MemoryProbes
from agents.memories.naive import emptied
from agents.tensors import check_input, check_leaves, check_starts
from agents.tree import map_tree
from plastic_envs.checks import check_bool, check_count, check_int, check_number, shown

_LARGEST = 2**30  # numbers
_LARGEST_STATE = 2**33


class HebbianMemoryState(NamedTuple):
    """State of a `HebbianMemoryNetwork`: `M` [B, memory_size, memory_size], keys by values."""

    M: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> "HebbianMemoryState":
        """Apply a function to every tensor."""
        return map_tree(function, self)

    def detach(self) -> "HebbianMemoryState":
        """Cut the graph."""
        return self.map(torch.Tensor.detach)

    def to(self, device: torch.device | str) -> "HebbianMemoryState":
        """Move to a device."""
        return self.map(lambda leaf: leaf.to(device))


class HebbianMemoryNetwork(nn.Module):
    """The memory network of Limbacher and Legenstein ("H-Mem", NeurIPS 2020).

    Of an input x it makes features s = ReLU(W_s x + b), keys k = ReLU(W_k s) and values
    v = ReLU(W_v s), and writes them by a Hebbian rule that keeps each entry between 0 and `limit`
    as long as keys and values are small:

        M ← M + β (γ₊ (limit − M) ∘ k vᵀ − γ₋ M ∘ k² 1ᵀ)

    Then it reads, in `hops`: v₀ = 0, k_h = ReLU(W_r [s, v_{h-1}]), v_h = Mᵀ k_h, with the same
    W_r in all, and the output is y = W_o [s, v_hops] + b.

    In the paper a step either writes or reads, and the output sees what is read alone. Here the
    strength of writing, β = σ(w · s), is learned, so that the same network serves tasks in which
    nobody says which steps ask, and the output sees the features, too.

    Args:
        input_size: Entries of an input.
        output_size: Entries of an output.
        embedding: Entries of s. The paper has 80.
        memory_size: Entries of keys and of values. The paper has 100.
        hops: Reads of a step, each of which sees what the one before found. The paper has 1 to 3.
        read_before_write: Look up what the memory holds under a key before writing there:
            k ← LN(k), v ← LN(W [v, Mᵀ k]), LN being layer normalisation.
        limit: Largest entry of the memory.
        potentiation: γ₊, from 0 to 1.
        depression: γ₋, from 0 to 1.

    Raises:
        ValueError: If an argument is out of range, or the network would be too large.

    Example:
        >>> core = HebbianMemoryNetwork(21, output_size=10)
        >>> y, state = core(torch.zeros(8, 11, 21))
        >>> y.shape, state.M.shape
        (torch.Size([8, 11, 10]), torch.Size([8, 100, 100]))
    """

    training_defaults: ClassVar[dict[str, Any]] = {
        "steps": 2_000,
        "learning_rate": 3e-3,
        "schedule": "cosine",
    }

    def __init__(
        self,
        input_size: int,
        output_size: int = 32,
        *,
        embedding: int = 80,
        memory_size: int = 100,
        hops: int = 1,
        read_before_write: bool = False,
        limit: float = 1.0,
        potentiation: float = 0.1,
        depression: float = 0.1,
    ) -> None:
        super().__init__()
        self.input_size = check_int("input_size", input_size, minimum=1)
        self.output_size = check_int("output_size", output_size, minimum=1)
        width = check_int("embedding", embedding, minimum=1)
        size = self.memory_size = check_int("memory_size", memory_size, minimum=1)
        self.hops = check_int("hops", hops, minimum=1, maximum=64)
        looks_up = check_bool("read_before_write", read_before_write)
        self.limit = check_number("limit", limit, above=0)
        self.potentiation = check_number("potentiation", potentiation, minimum=0, maximum=1)
        self.depression = check_number("depression", depression, minimum=0, maximum=1)
        check_count(
            "the parameters",
            width * (self.input_size + 3 * size + self.output_size)
            + size * (3 * size + self.output_size),
            _LARGEST,
            input_size=input_size,
            embedding=width,
            memory_size=size,
        )
        self.features = nn.Sequential(nn.Linear(self.input_size, width), nn.ReLU())
        self.write = nn.Linear(width, 2 * size, bias=False)
        self.gate = nn.Linear(width, 1)
        self.read = nn.Linear(width + size, size, bias=False)
        self.readout = nn.Linear(width + size, self.output_size)
        self.join = nn.Linear(2 * size, size, bias=False) if looks_up else None
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2)) if looks_up else None
        for layer in (self.features[0], self.write, self.read):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]

    def initial_state(self, batch_size: int) -> HebbianMemoryState:
        """Return the state at the start of an episode: an empty memory.

        Raises:
            ValueError: If the batch is no size, or the state would be too large.
        """
        batch = check_int("batch_size", batch_size)
        check_count("the state", batch * self.memory_size**2, _LARGEST_STATE, batch_size=batch)
        return self._empty(batch)

    def step(
        self,
        x: Tensor,
        state: HebbianMemoryState | None = None,
        episode_starts: Tensor | None = None,
    ) -> tuple[Tensor, HebbianMemoryState]:
        """Take one step.

        Args:
            x: Input [B, input_size].
            state: State before the step; None at the start of an episode.
            episode_starts: bool [B], true where the state is reset before the step.

        Returns:
            Output [B, output_size] and the state after the step.

        Raises:
            ValueError: If an argument is no tensor, or its shape, type or device does not fit.
        """
        check_input(x, 2, self.input_size, self.readout.weight)
        state = self._fitting(state, len(x))
        if episode_starts is not None:
            check_starts(episode_starts, (len(x),), x.device)  # type: ignore[arg-type]
            state = emptied(state, episode_starts)
        s = self.features(x)
        memory = self._written(*self._pairs(s), state.M)
        outputs = self.readout(torch.cat([s, self._found(s, memory)], dim=-1))
        return outputs, HebbianMemoryState(memory)

    def forward(
        self,
        x: Tensor,
        state: HebbianMemoryState | None = None,
        episode_starts: Tensor | None = None,
    ) -> tuple[Tensor, HebbianMemoryState]:
        """Run over a sequence.

        Args:
            x: Inputs [B, T, input_size], T at least 1.
            state: State to carry on from; None at the start of an episode.
            episode_starts: bool [B, T].

        Returns:
            Outputs [B, T, output_size] and the state after the last step.

        Raises:
            ValueError: As for `step`.
        """
        outputs, state, _ = self._run(x, state, episode_starts, probe=False)
        return outputs, state

    def probe(
        self,
        x: Tensor,
        state: HebbianMemoryState | None = None,
        episode_starts: Tensor | None = None,
    ) -> tuple[Tensor, HebbianMemoryState, MemoryProbes]:
        """Run over a sequence as `forward` does, and report what the memory did at each step."""
        outputs, state, rows = self._run(x, state, episode_starts, probe=True)
        return outputs, state, MemoryProbes(*torch.stack(rows, dim=2).unbind())

    def _run(
        self,
        x: Tensor,
        state: HebbianMemoryState | None,
        starts: Tensor | None,
        *,
        probe: bool,
    ) -> tuple[Tensor, HebbianMemoryState, list[Tensor]]:
        check_input(x, 3, self.input_size, self.readout.weight)
        state = self._fitting(state, len(x))
        if starts is not None:
            check_starts(starts, (x.shape[0], x.shape[1]), x.device)
        s = self.features(x)
        keys, values, strengths = self._pairs(s)
        answers, rows = [], []
        for t in range(x.shape[1]):
            if starts is not None:
                state = emptied(state, starts[:, t])
            at = keys[:, t], values[:, t], strengths[:, t]
            memory = self._written(*at, state.M)
            if probe:
                rows.append(_row(*at, state.M, memory))
            state = HebbianMemoryState(memory)
            answers.append(self._found(s[:, t], memory))
        outputs = self.readout(torch.cat([s, torch.stack(answers, dim=1)], dim=-1))
        return outputs, state, rows

    def _pairs(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys and values [..., memory_size] and strengths [..., 1] of features."""
        keys, values = self.write(s).relu().chunk(2, dim=-1)
        return keys, values, torch.sigmoid(self.gate(s))

    def _written(self, key: Tensor, value: Tensor, strength: Tensor, memory: Tensor) -> Tensor:
        """Return the memory after a write."""
        if self.join is not None and self.norms is not None:
            of_key, of_value = self.norms
            key = of_key(key)
            value = of_value(self.join(torch.cat([value, _read(key, memory)], dim=-1)))
        pairs = key.unsqueeze(-1) * value.unsqueeze(-2)
        change = self.potentiation * (self.limit - memory) * pairs
        change = change - self.depression * memory * key.square().unsqueeze(-1)
        return memory + strength.unsqueeze(-1) * change

    def _found(self, s: Tensor, memory: Tensor) -> Tensor:
        """Return what is read in all hops, [B, memory_size]."""
        found = torch.zeros_like(memory[:, 0])
        for _ in range(self.hops):
            key = self.read(torch.cat([s, found], dim=-1)).relu()
            found = _read(key, memory)
        return found

    def _empty(self, batch: int) -> HebbianMemoryState:
        like = self.readout.weight
        return HebbianMemoryState(like.new_zeros(batch, self.memory_size, self.memory_size))

    def _fitting(self, state: HebbianMemoryState | None, batch: int) -> HebbianMemoryState:
        """Return a state, once it has been seen to be of this core; a fresh one for None."""
        if state is None:
            return self._empty(batch)
        if not isinstance(state, HebbianMemoryState):
            raise ValueError(f"state must be a HebbianMemoryState, got {shown(state)}")
        shape = (batch, self.memory_size, self.memory_size)
        check_leaves("the state holds", [state.M], [shape], self.readout.weight)
        return state


def _read(key: Tensor, memory: Tensor) -> Tensor:
    """Return Mᵀ k, [B, memory_size]."""
    return torch.einsum("bk,bkv->bv", key, memory)


@torch.no_grad()
def _row(key: Tensor, value: Tensor, strength: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Return strength, what was new of the value, and norm after the write, [3, B]."""
    new = (value - _read(key, before)).norm(dim=-1)
    return torch.stack([strength.squeeze(-1), new, after.flatten(1).norm(dim=-1)])
