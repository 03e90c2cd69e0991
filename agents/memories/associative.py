"""`AssociativeMemory`: a core whose memory is one of `agents.memories.updates`."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from agents.memories.layer import FormName, MemoryLayer, MemoryProbes
from agents.memories.torch_rnn import gru
from agents.memories.updates import UPDATES, Update
from agents.plastic.network import PlasticNetwork
from agents.tensors import autocasts, check_input, check_leaves, check_starts
from agents.tree import leaves, map_tree
from plastic_envs.checks import check_choice, check_count, check_int, shown

Features = Literal["linear", "relu", "tanh", "gru", "plastic"]

_TRAINING = {"steps": 2_000, "learning_rate": 3e-3, "schedule": "cosine"}
_LARGEST = 2**30  # numbers
_LARGEST_STATE = 2**33


class MemoryState(NamedTuple):
    """State of an `AssociativeMemory`.

    Attributes:
        features: State of the recurrent network in front; () if there is none.
        layers: State of each layer's memory, tensors [B, H, …].
    """

    features: Any
    layers: tuple[Any, ...]

    def map(self, function: Callable[[Tensor], Tensor]) -> "MemoryState":
        """Apply a function to every tensor."""
        return map_tree(function, self)

    def detach(self) -> "MemoryState":
        """Cut the graph."""
        return self.map(torch.Tensor.detach)

    def to(self, device: torch.device | str) -> "MemoryState":
        """Move to a device."""
        return self.map(lambda leaf: leaf.to(device))


class AssociativeMemory(nn.Module):
    """Features, memories of key-value pairs, and an output that sees what is read.

    z = features(x). Each layer maps its z linearly to keys k, queries q, values v and write
    strengths β of `heads` memories, writes, and reads o. From layer to layer
    z ← z + W [norm(z), o]; after the last one, y = A [z, o] + B ReLU(C [z, o]).

    Features that are linear, or see the value through weights that can learn not to, keep the value
    out of the keys; a recurrent network in front, whose state mixes inputs, is for tasks whose keys
    are moments.

    Under `torch.autocast` all of it stays in the precision of its parameters.

    Args:
        input_size: Entries of an input.
        update: Name of the memory in `UPDATES`, or a class that derives from `Update`.
        output_size: Entries of an output.
        embedding: Entries of z, and hidden units of the output.
        features: What makes z of x: a linear map, alone or with `"relu"` or `"tanh"`; or a
            recurrent network, `"gru"` or `"plastic"`, with `embedding` units.
        key_size: Entries dk of keys and queries of a head.
        value_size: Entries dv of values of a head.
        heads: Memories side by side in a layer.
        layers: Layers one after the other.
        **settings: Of the memory.

    Raises:
        ValueError: If an argument is unknown or out of range, or the core would be too large.

    Example:
        >>> core = AssociativeMemory(14, "mesa", output_size=1)
        >>> y, state = core(torch.zeros(8, 40, 14))
        >>> y.shape, state.layers[0].H.shape
        (torch.Size([8, 40, 1]), torch.Size([8, 1, 24, 24]))
    """

    def __init__(
        self,
        input_size: int,
        update: str | type[Update] = "mesa",
        *,
        output_size: int = 32,
        embedding: int = 64,
        features: Features = "linear",
        key_size: int = 24,
        value_size: int = 8,
        heads: int = 1,
        layers: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.input_size = check_int("input_size", input_size, minimum=1)
        self.output_size = check_int("output_size", output_size, minimum=1)
        width = check_int("embedding", embedding, minimum=1, maximum=2**20)
        check_choice("features", features, get_args(Features))
        count = check_int("layers", layers, minimum=1, maximum=256)
        kind = _update(update, settings)
        sizes = {"key_size": key_size, "value_size": value_size, "heads": heads}
        first = kind(**sizes, **settings)
        check_count(
            "the parameters",
            width * (self.input_size + 4 * width + self.output_size)
            + count * width * first.heads * 2 * (first.key_size + first.value_size),
            _LARGEST,
            **{"input_size": input_size, "embedding": embedding, "layers": layers, **sizes},
        )
        self.recurrent = features in ("gru", "plastic")
        self.features: nn.Module = _features(features, self.input_size, width)
        updates = [first, *(kind(**sizes, **settings) for _ in range(count - 1))]
        self.layers = nn.ModuleList(MemoryLayer(width, each) for each in updates)
        both = width + first.heads * first.value_size
        norms = count if count > 1 else 0
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(norms))
        self.mixes = nn.ModuleList(nn.Linear(both, width) for _ in range(count - 1))
        self.head = nn.Linear(both, self.output_size + width)
        self.readout = nn.Linear(width, self.output_size, bias=False)
        template = self._initial_state(1)
        self._kind = _kinds(template)
        self._shapes = [tuple(leaf.shape[1:]) for leaf in leaves(template)]

    @property
    def form(self) -> FormName:
        """How the memories are computed.

        `"compiled"`, in C, where `agents.memories.cpu` can; `"chunked"`, in PyTorch, anywhere; or
        `"auto"`, compiled where it can be and is likely to be faster. They agree up to rounding.
        """
        form: FormName = self.layers[0].form  # type: ignore[assignment]
        return form

    @form.setter
    def form(self, form: FormName) -> None:
        for layer in self.layers:
            layer.form = check_choice("form", form, get_args(FormName))

    def initial_state(self, batch_size: int) -> MemoryState:
        """Return the state at the start of an episode: empty memories.

        Raises:
            ValueError: If the batch is no size, or the state would be too large.
        """
        batch = check_int("batch_size", batch_size)
        size = sum(leaf.numel() for leaf in leaves(self._initial_state(1)))
        check_count("the state", batch * size, _LARGEST_STATE, batch_size=batch)
        return self._initial_state(batch)

    def step(
        self,
        x: Tensor,
        state: MemoryState | None = None,
        episode_starts: Tensor | None = None,
    ) -> tuple[Tensor, MemoryState]:
        """Take one step, for acting.

        Args:
            x: Input [B, input_size].
            state: State before the step; None at the start of an episode.
            episode_starts: bool [B], true where the state is reset before the step.

        Returns:
            Output [B, output_size] and the state after the step.

        Raises:
            ValueError: If an argument is no tensor, or its shape, type or device does not fit.
        """
        x = self._checked(x, 2)
        if autocasts(x):
            with torch.autocast(x.device.type, enabled=False):
                return self.step(x, state, episode_starts)
        state = self._initial_state(len(x)) if state is None else self._fitting(state, len(x))
        memories, front = state.layers, state.features
        if episode_starts is not None:
            check_starts(episode_starts, (len(x),), x.device)  # type: ignore[arg-type]
        if self.recurrent:
            z, front = self.features.step(x, front, episode_starts)  # type: ignore[operator]
        else:
            z = self.features(x)
        after = []
        for index, layer in enumerate(self.layers):
            normed = self._normed(index, z)
            read, memory = layer.step(normed, memories[index], episode_starts)  # type: ignore[operator]
            after.append(memory)
            z = self._mixed(index, z, normed, read)
        return self._output(z, read), MemoryState(front, tuple(after))

    def forward(
        self,
        x: Tensor,
        state: MemoryState | None = None,
        episode_starts: Tensor | None = None,
    ) -> tuple[Tensor, MemoryState]:
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
        state: MemoryState | None = None,
        episode_starts: Tensor | None = None,
    ) -> tuple[Tensor, MemoryState, MemoryProbes]:
        """Run over a sequence as `forward` does, and report what the memories did at each step."""
        outputs, state, probes = self._run(x, state, episode_starts, probe=True)
        means = (torch.stack(part).mean(0) for part in zip(*probes, strict=True))
        return outputs, state, MemoryProbes(*means)

    def _run(
        self, x: Tensor, state: MemoryState | None, starts: Tensor | None, *, probe: bool
    ) -> tuple[Tensor, MemoryState, list[MemoryProbes]]:
        x = self._checked(x, 3)
        if autocasts(x):
            with torch.autocast(x.device.type, enabled=False):
                return self._run(x, state, starts, probe=probe)
        if state is not None:
            state = self._fitting(state, len(x))
        if starts is not None:
            check_starts(starts, (x.shape[0], x.shape[1]), x.device)
        front = () if state is None else state.features
        if self.recurrent:
            z, front = self.features(x, None if state is None else front, starts)
        else:
            z = self.features(x)
        after, probes = [], []
        for index, layer in enumerate(self.layers):
            normed, before = self._normed(index, z), None if state is None else state.layers[index]
            read, memory = layer(normed, before, starts)
            after.append(memory)
            if probe:
                probes.append(layer.probe(normed, before, starts))  # type: ignore[operator]
            z = self._mixed(index, z, normed, read)
        return self._output(z, read), MemoryState(front, tuple(after)), probes

    def _normed(self, index: int, z: Tensor) -> Tensor:
        return self.norms[index](z) if self.norms else z

    def _mixed(self, index: int, z: Tensor, normed: Tensor, read: Tensor) -> Tensor:
        """Return what the layer after this one sees; after the last one, z as it is."""
        if index == len(self.mixes):
            return z
        return z + self.mixes[index](torch.cat([normed, read], dim=-1))  # type: ignore[no-any-return]

    def _output(self, z: Tensor, read: Tensor) -> Tensor:
        both = torch.cat([z, read], dim=-1)
        direct, hidden = self.head(both).split([self.output_size, self.readout.in_features], dim=-1)
        outputs: Tensor = direct + self.readout(hidden.relu())
        return outputs

    def _initial_state(self, batch: int) -> MemoryState:
        front = self.features.initial_state(batch) if self.recurrent else ()  # type: ignore[operator]
        like = self.head.weight
        memories = (layer.update.initial_state(batch, like) for layer in self.layers)  # type: ignore[union-attr,operator]
        return MemoryState(front, tuple(memories))

    def _checked(self, x: Tensor, dims: int) -> Tensor:
        """Return an input that fits, of the type of the parameters where autocast is at work."""
        like = self.head.weight
        if isinstance(x, Tensor) and x.is_floating_point() and autocasts(x):
            x = x.to(like.dtype)
        check_input(x, dims, self.input_size, like)
        return x

    def _fitting(self, state: MemoryState, batch: int) -> MemoryState:
        """Return a state, once it has been seen to be of this core."""
        if not _same_kind(state, self._kind):
            raise ValueError(
                f"state must be that of this core, a MemoryState of "
                f"{shown(self._kind)}; got {shown(_kinds(state))}"
            )
        shapes = [(batch, *shape) for shape in self._shapes]
        check_leaves("the state holds", list(leaves(state)), shapes, self.head.weight)
        return state


def memory_factory(update: str) -> Callable[..., AssociativeMemory]:
    """Return a factory of cores with the memory of a name, whose settings are options, too."""

    def factory(input_size: int, **options: Any) -> AssociativeMemory:
        return AssociativeMemory(input_size, update, **options)

    own = inspect.signature(AssociativeMemory).parameters.values()
    declare(factory, update, [p for p in own if p.name != "update"], {})
    factory.training_defaults = _TRAINING  # type: ignore[attr-defined]
    return factory


def declare(
    factory: Callable[..., Any],
    update: str,
    own: Iterable[inspect.Parameter],
    defaults: Mapping[str, Any],
) -> None:
    """Let the signature of a factory say what it takes, the settings of its update among it.

    Args:
        factory: Makes cores with the update, to whose settings it passes on what is not its own.
        update: A name in `UPDATES`.
        own: Parameters of the factory.
        defaults: Of settings, in place of the update's.
    """
    kept = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
    settings = _settings(UPDATES[update]).values()
    more = [p.replace(default=defaults.get(p.name, p.default)) for p in settings]
    made = inspect.signature(factory).return_annotation
    signature = inspect.Signature([*kept, *more], return_annotation=made)
    factory.__signature__ = signature  # type: ignore[attr-defined]
    factory.__name__ = factory.__qualname__ = update
    factory.__doc__ = UPDATES[update].__doc__


def _settings(kind: type[Update]) -> dict[str, inspect.Parameter]:
    """Return the keyword arguments of an update: its settings."""
    parameters = inspect.signature(kind).parameters
    return {n: p for n, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _update(update: str | type[Update], settings: dict[str, Any]) -> type[Update]:
    """Return the class of a memory, once it has been seen that it has these settings."""
    kind: Any = UPDATES.get(update) if isinstance(update, str) else update
    if not (isinstance(kind, type) and issubclass(kind, Update)):
        known = ", ".join(map(repr, UPDATES))
        raise ValueError(
            f"update must be one of {known}, or a class that derives from Update; got "
            f"{shown(update)}"
        )
    for name in settings:
        if name not in (has := _settings(kind)):
            raise ValueError(
                f"{kind.__name__} has no setting {shown(name)}; its settings: {', '.join(has)}"
            )
    return kind


def _features(features: Features, input_size: int, width: int) -> nn.Module:
    if features == "gru":
        return gru(input_size, width)
    if features == "plastic":
        return PlasticNetwork(input_size, width, width)
    linear = nn.Linear(input_size, width)
    after = {"relu": nn.ReLU, "tanh": nn.Tanh}.get(features)
    return linear if after is None else nn.Sequential(linear, after())


def _kinds(tree: Any) -> Any:
    """Return a tree, its leaves replaced by None: what can be compared."""
    return map_tree(lambda _: None, tree)


def _same_kind(tree: Any, kind: Any) -> bool:
    """Say whether trees are of the same containers, whatever their leaves."""
    if kind is None:
        return True
    if isinstance(kind, dict):
        return (
            isinstance(tree, dict)
            and tree.keys() == kind.keys()
            and all(_same_kind(tree[name], part) for name, part in kind.items())
        )
    return type(tree) is type(kind) and len(tree) == len(kind) and all(map(_same_kind, tree, kind))
