"""`PlasticNetwork`: encoder, recurrent cell and readout whose weights change during an episode."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from operator import is_
from typing import Any, Literal

import torch
from torch import Tensor, nn

from agents.plastic.cells import CELLS, Cell
from agents.plastic.known import Known, KnownParameters, KnownState, leaves_like, looks
from agents.plastic.linear import PlasticLinear
from agents.plastic.ops import closed, naive
from agents.plastic.ops.cpu import form as compiled
from agents.plastic.ops.interface import (
    Form,
    LayerParameters,
    NetworkParameters,
    Probes,
    own_state,
)
from agents.plastic.rules import RULES, Rule
from agents.plastic.state import FastWeights, Hidden, PlasticState
from agents.tensors import (
    add_time_axis,
    autocasts,
    check_generator,
    check_leaves,
    check_starts,
    described,
)
from agents.tree import leaves
from plastic_envs.checks import (
    check_bool,
    check_choice,
    check_count,
    check_instance,
    check_int,
    shown,
)

FormName = Literal["auto", "compiled", "closed", "naive"]

FORMS: dict[FormName, Form] = {"compiled": compiled, "closed": closed, "naive": naive}

_LARGEST_SIZE = 2**24  # units
_LARGEST_NETWORK = 2**30  # numbers: 4 GiB in float32
_LARGEST_STATE = 2**33


class PlasticNetwork(nn.Module):
    """A recurrent network whose fast weights change at every step of an episode.

    Encoder e_t = ReLU(enc(x_t)), a recurrent cell, and a readout o_t = [y_t, ỹ_t, η̃_t] of the
    output, `extra_dim` free units and one modulation unit. After each step the rule writes into the
    fast weights of all layers, from what that step left behind; outputs use the fast weights of the
    step before. Nothing depends on the other samples of a batch: a sample gets the same numbers
    alone and in any batch, to the bit in the compiled form and up to rounding in the others.
    Source: arXiv 2302.03235; unlike its published code, the inner loss is a mean over one sample's
    units and not over the batch.

    Under `torch.autocast` an encoder module is cast as usual; encoder layer, cell, readout and fast
    weights stay in the precision of their parameters, since small writes would be lost in bfloat16.

    Args:
        input_size: Entries of an input.
        output_size: Entries of an output.
        hidden_size: Units of the cell and of the encoder. The paper takes 128 for an LSTM, 256 for
            an RNN, and 1.5 times as many without plasticity.
        cell: A name in `agents.plastic.cells.CELLS` (`"rnn"`, `"lstm"`, `"gru"`), or a `Cell`.
        rule: A name in `agents.plastic.rules.RULES` (`"gradient"`, `"hebbian"`, `"oja"`,
            `"backpropamine"`, `"none"`), or a `Rule` with settings of your own.
        extra_dim: Free readout units, the network's own target for the gradient rule.
        teaching_size: Entries v at the end of an input (with an `encoder`, of what it returns)
            that tell what should have come out, such as a value, a label or a reward. They pass
            encoder and cell by and join the readout's units as the rule sees them, o_t + v_t T with
            learned T: post-synaptic activity, error and rates. Activities of all layers, the keys
            of what is written, and the outputs of the same step do not see them. Needs a rule that
            writes.
        encoder: Replaces the plastic encoder: a module that maps inputs [B, T, …] to
            [B, T, hidden_size]; `input_size` is then only a record.
        form: How sequences are computed: `"compiled"` (in C, on the CPU), `"closed"` (in PyTorch,
            write directions by hand), `"naive"` (the literal equations, for tests) or `"auto"`, at
            each call the fastest that can. All agree; the attribute `form` can be changed at any
            time.
        freeze_slow_weights: Whether to call `freeze_slow_weights` at once.
        generator: Source of the initial parameters; None for torch's own.

    Attributes:
        output_weight: ω [readout] of the inner loss: a parameter if the rule trains it, else a
            buffer of ones.
        teaching_weight: T [teaching_size, readout], initially zero, since of a wrong sign a network
            learns at first to write nothing, and stays so; None if there is no teaching.

    Raises:
        ValueError: If an argument is unknown, out of range, or of the wrong kind, the network
            would be too large, or `form="compiled"` is to be somewhere else than on the CPU: also
            when the network is moved.

    Example:
        >>> net = PlasticNetwork(input_size=16, output_size=1, hidden_size=32)
        >>> y, state = net(torch.zeros(8, 20, 16))
        >>> y.shape
        torch.Size([8, 20, 1])
    """

    output_weight: Tensor
    teaching_weight: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int,
        cell: str | Cell = "rnn",
        rule: str | Rule = "gradient",
        *,
        extra_dim: int = 4,
        teaching_size: int = 0,
        encoder: nn.Module | None = None,
        form: FormName = "auto",
        freeze_slow_weights: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.input_size = check_int("input_size", input_size, minimum=1, maximum=_LARGEST_SIZE)
        self.output_size = check_int("output_size", output_size, minimum=1, maximum=_LARGEST_SIZE)
        self.hidden_size = check_int("hidden_size", hidden_size, minimum=1, maximum=_LARGEST_SIZE)
        self.extra_dim = check_int("extra_dim", extra_dim, maximum=_LARGEST_SIZE)
        self.cell: Cell = _made("cell", cell, Cell, CELLS)
        self.rule: Rule = _made("rule", rule, Rule, RULES)
        self.form = form
        check_generator(generator)
        if encoder is not None:
            check_instance("encoder", encoder, nn.Module, "a torch.nn.Module or None")
        self.encoder = encoder

        hidden = self.hidden_size
        gates = hidden * check_int("cell.gates", getattr(self.cell, "gates", None), minimum=1)
        readout = self.output_size + self.extra_dim + int(self.rule.modulation)
        stimulus = self._stimulus_size(teaching_size)
        sizes = {
            "cell_input": (hidden if encoder is None else stimulus, gates),
            "cell_hidden": (hidden, gates),
            "readout": (hidden, readout),
        }
        if encoder is None:
            sizes = {"encoder": (stimulus, hidden), **sizes}
        self._sizes = sizes
        self._plastic_sizes = {
            name: size
            for name, size in sizes.items()
            if self.rule.plastic and self.rule.writes_into(name)
        }
        learned = 2 if self.rule.plastic and self.rule.alpha != "off" else 1
        check_count(
            "the parameters",
            learned * _weights(sizes),
            _LARGEST_NETWORK,
            input_size=self.input_size,
            output_size=self.output_size,
            hidden_size=hidden,
            extra_dim=self.extra_dim,
        )
        _check_hidden(self.cell.initial_hidden(torch.zeros(1, hidden)), hidden)
        self._own = self._own_tensors()
        self._known = Known()
        # Both layers of a cell by the hidden size and not by the gates, as torch's cells.
        fan_outs = {name: readout if name == "readout" else hidden for name in sizes}
        self.layers = nn.ModuleDict(
            {
                name: PlasticLinear(
                    *sizes[name], fan_outs[name], self.rule, name in self._plastic_sizes
                )
                for name in sizes
            }
        )
        if self.rule.trains_output_weight:
            self.output_weight = nn.Parameter(torch.ones(readout))
        else:
            self.register_buffer("output_weight", torch.ones(readout))
        for _, layer in self._plastic_layers():
            layer.reset_parameters(generator)
        self.teaching_weight = None
        if self.teaching_size > 0:
            self.teaching_weight = nn.Parameter(torch.zeros(self.teaching_size, readout))
        if check_bool("freeze_slow_weights", freeze_slow_weights):
            self.freeze_slow_weights()

    def _stimulus_size(self, teaching_size: int) -> int:
        """Check the size of the teaching; return how many entries of an input go through layers."""
        whole = self.input_size if self.encoder is None else self.hidden_size
        self.teaching_size = check_int("teaching_size", teaching_size, maximum=whole - 1)
        if self.teaching_size > 0 and not self.rule.plastic:
            raise ValueError(
                f"teaching_size must be 0 for a rule that writes nothing, got {teaching_size}: "
                "nothing would see the last entries of inputs"
            )
        return whole - self.teaching_size

    def _own_tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the rule's own tensors of one sample, as an example of their shapes and types."""
        if not self.rule.plastic:
            return {}
        zero = torch.zeros(())
        fast = {
            name: FastWeights(zero.expand(1, *size), zero.expand(1, size[1]))
            for name, size in self._plastic_sizes.items()
        }
        own = own_state(self.rule, fast)
        for tensors in own.values():
            if not isinstance(tensors, Mapping) or not all(
                isinstance(name, str) and isinstance(leaf, Tensor) and leaf.shape[:1] == (1,)
                for name, leaf in tensors.items()
            ):
                raise ValueError(
                    "rule must start with named tensors of a layer, the batch first in each; "
                    f"got {shown(tensors)}"
                )
        return own

    def _plastic_layers(self) -> Iterable[tuple[str, PlasticLinear]]:
        return self.layers.items()  # type: ignore[return-value]

    @property
    def _taught(self) -> bool:
        return self.teaching_weight is not None

    @property
    def form(self) -> FormName:
        """How sequences are computed."""
        return self._form

    @form.setter
    def form(self, form: FormName) -> None:
        form = check_choice("form", form, ("auto", *FORMS))
        if form == "compiled":  # before there are parameters, where they are going to be
            _check_on_cpu(getattr(self, "output_weight", torch.empty(0)))
        self._form: FormName = form

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PlasticNetwork":
        """Move or change all tensors, unless the form that was chosen could not compute there."""
        if self.form == "compiled":
            _check_on_cpu(fn(self.output_weight.detach()[:0]))
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call,no-any-return]

    def freeze_slow_weights(self) -> None:
        """Keep slow weights and biases of all layers as they are: only α and ω go on learning.

        An encoder module is left alone.
        """
        for _, layer in self._plastic_layers():
            layer.weight.requires_grad_(False)
            layer.bias.requires_grad_(False)
        if self.teaching_weight is not None:
            self.teaching_weight.requires_grad_(False)

    def supported_forms(self) -> list[FormName]:
        """Return the forms that can compute this network as it is now, the fastest first.

        `"compiled"` needs parameters on the CPU in float32 or float64, a rule and a cell that it
        was written for (no subclass) without `weight_clip`, no teaching, a build of its kernel, and
        that nothing but first-order autograd follows the calls of torch (see docs/fast-engine.md);
        `"naive"` needs a rule whose very class has a literal form, and no compiler or transform of
        torch around the call; `"closed"` can always be used.
        """
        tensors = [self.output_weight, *self.parameters()]
        return [
            name
            for name, form in FORMS.items()
            if form.obstacle(self.rule, self.cell, tensors, taught=self._taught) is None
        ]

    def initial_state(self, batch_size: int) -> PlasticState:
        """Return the state at the start of an episode: the cell's, and all fast weights zero.

        Args:
            batch_size: Number B of samples.

        Raises:
            ValueError: If it is no size, or the state would be too large.
        """
        batch = check_int("batch_size", batch_size)
        numbers = _weights(self._plastic_sizes) + sum(leaf.numel() for leaf in leaves(self._own))
        check_count("the state", batch * numbers, _LARGEST_STATE, batch_size=batch)
        return self._initial_state(batch)

    def _initial_state(self, batch: int) -> PlasticState:
        like = self.output_weight
        fast = {
            name: FastWeights(like.new_zeros(batch, *size), like.new_zeros(batch, size[1]))
            for name, size in self._plastic_sizes.items()
        }
        zeros = like.new_zeros(batch, self.hidden_size)
        own = own_state(self.rule, fast) if self._own else {}
        return PlasticState(self.cell.initial_hidden(zeros), fast, own)

    def forward(
        self, x: Tensor, state: PlasticState | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, PlasticState]:
        """Run over a sequence.

        Args:
            x: Inputs [B, T, input_size], T at least 1.
            state: State to carry on from; None at the start of an episode.
            episode_starts: bool [B, T], true where a new episode starts: the state is reset before
                that step.

        Returns:
            Outputs [B, T, output_size] and the state after the last step.

        Raises:
            ValueError: If an argument is no tensor, or its shape, type or device does not fit; or
                the form that was chosen cannot compute this here.
        """
        units, state, _ = self._run(x, state, episode_starts, probe=False)
        return units[..., : self.output_size], state

    def step(
        self, x: Tensor, state: PlasticState | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, PlasticState]:
        """Take one step, for acting.

        Args:
            x: Input [B, input_size], or what an encoder module takes, without the time axis.
            state: State before the step; None at the start of an episode.
            episode_starts: bool [B], as in `forward`.

        Returns:
            Output [B, output_size] and the state after the step.

        Raises:
            ValueError: As for `forward`.
        """
        if episode_starts is not None:
            if not isinstance(episode_starts, Tensor) or episode_starts.dim() != 1:
                raise ValueError(
                    f"episode_starts must be bool [B], got {described(episode_starts)}"
                )
            episode_starts = episode_starts.unsqueeze(1)
        output, state = self(add_time_axis(x, "x"), state, episode_starts)
        return output.squeeze(1), state

    def probe(
        self, x: Tensor, state: PlasticState | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, PlasticState, Probes]:
        """Run over a sequence as `forward` does, and report what plasticity did at each step."""
        units, state, probes = self._run(x, state, episode_starts, probe=True)
        assert probes is not None
        return units[..., : self.output_size], state, probes

    def readout_units(self, x: Tensor, state: PlasticState | None = None) -> Tensor:
        """Return all units [B, T, readout] of the readout: output, free units, modulation."""
        return self._run(x, state, None, probe=False)[0]

    def _run(
        self,
        x: Tensor,
        state: PlasticState | None,
        episode_starts: Tensor | None,
        *,
        probe: bool,
    ) -> tuple[Tensor, PlasticState, Probes | None]:
        x = self._encoded(x)
        batch, steps = x.shape[:2]
        parameters, tensors = self._parameters_tree()
        if state is None:
            state = self._initial_state(batch)
            found = list(leaves(state))
        else:
            state, found = self._fitting(state, batch)
        tensors = [*tensors, x, *found]
        if episode_starts is not None:
            check_starts(episode_starts, (batch, steps), x.device)
            tensors.append(episode_starts)
        form = FORMS["compiled" if self.form == "auto" else self.form]
        obstacle = form.obstacle(self.rule, self.cell, tensors, taught=self._taught)
        if obstacle is not None:
            if self.form != "auto":
                raise ValueError(
                    f"form={self.form!r} cannot be used: {obstacle}; form='auto' or 'closed' can"
                )
            form = closed
        without = torch.autocast(x.device.type, enabled=False) if autocasts(x) else nullcontext()
        with without:
            return form.run(parameters, self.rule, self.cell, x, state, episode_starts, probe=probe)

    def _encoded(self, x: Tensor) -> Tensor:
        """Check the input, or what the encoder module makes of it, [B, T, features]."""
        verb, size = "x must be", self.input_size
        if self.encoder is not None:
            verb, size, x = "encoder must return", self.hidden_size, self.encoder(x)
        if not isinstance(x, Tensor) or x.layout is not torch.strided or x.is_nested:
            raise ValueError(f"{verb} a dense torch.Tensor, got {described(x)}")
        if x.dim() != 3 or x.shape[2] != size or x.shape[1] < 1:
            what = "x must have shape" if self.encoder is None else verb
            raise ValueError(f"{what} [batch, time, {size}], got {list(x.shape)}")
        like = self.output_weight
        if autocasts(x) and x.is_floating_point():
            x = x.to(like.dtype)
        if x.dtype != like.dtype or x.device != like.device:
            raise ValueError(
                f"the network is {like.dtype} on {like.device}, but its input is "
                f"{x.dtype} on {x.device}"
            )
        return x

    def _fitting(self, state: PlasticState, batch: int) -> tuple[PlasticState, list[Tensor]]:
        """Return a state that is this network's, and its leaves.

        Its hidden state is of the kind that the cell has. One that looks like the last one is not
        checked in full again.
        """
        like, caches = self.output_weight, not (self._own or torch.compiler.is_compiling())
        place = (self.cell, batch, like.dtype, like.device)
        if caches and (known := self._known.state) is not None and known.place == place:
            found = leaves_like(state, known)
            if found is not None:
                return state, found
        state = self._checked_state(state, batch)
        found = list(leaves(state))
        if caches:
            kinds = (type(state), type(state.hidden), type(state.fast), type(state.rule))
            self._known.state = KnownState(place, kinds, list(state.fast), looks(found))
        return state, found

    def _checked_state(self, state: PlasticState, batch: int) -> PlasticState:
        if not isinstance(state, PlasticState):
            raise ValueError(f"state must be a PlasticState or None, got {shown(state)}")
        layers = self._plastic_sizes
        if not isinstance(state.fast, Mapping) or state.fast.keys() != layers.keys():
            raise ValueError(f"the state has fast weights of {shown(state.fast)}: not this net's")
        like = self.output_weight
        hidden = self.cell.initial_hidden(like.new_empty(batch, self.hidden_size))
        given = state.hidden
        if type(given) is not type(hidden):
            if getattr(given, "_fields", None) != _fields(hidden):
                raise ValueError(
                    f"the state holds a {type(given).__name__} where the cell needs a "
                    f"{type(hidden).__name__}"
                )
            state = state._replace(hidden=type(hidden)(*given))
        if state.batch_size != batch:
            raise ValueError(f"x has {batch} samples, but the state has {state.batch_size}")
        found: list[Tensor] = []
        shapes: list[Sequence[int]] = []
        for leaf, first in zip(state.hidden, hidden, strict=True):
            if first.dtype == like.dtype:
                found.append(leaf)
                shapes.append(first.shape)
            else:  # a counter, say, of a cell of the user's own
                check_leaves("the state holds", [leaf], [first.shape], first)
        for name, size in layers.items():
            fast = check_instance(
                f"state.fast[{shown(name)}]", state.fast[name], FastWeights, "FastWeights"
            )
            found += fast
            shapes += (batch, *size), (batch, size[1])
        check_leaves("the state holds", found, shapes, like)
        self._check_own(state.rule, batch)
        return state

    def _check_own(self, own: Mapping[str, Mapping[str, Tensor]], batch: int) -> None:
        """Refuse tensors of a rule that are not such as this network's rule begins with."""
        names = {layer: list(tensors) for layer, tensors in self._own.items()}
        if not isinstance(own, Mapping) or names != {
            layer: list(tensors) if isinstance(tensors, Mapping) else None
            for layer, tensors in own.items()
        }:
            raise ValueError(
                f"the state holds {shown(own)} of a rule where this network's needs {shown(names)}"
            )
        for layer, tensors in self._own.items():
            for name, example in tensors.items():
                like = self.output_weight
                if not example.is_floating_point():
                    like = torch.empty((), dtype=example.dtype, device=like.device)
                shape = (batch, *example.shape[1:])
                check_leaves("the state holds", [own[layer][name]], [shape], like)

    def _parameters_tree(self) -> tuple[NetworkParameters, list[Tensor]]:
        """Return the parameters, as a tree and as a list, whose shapes compiled code may trust.

        While they are the same objects and look the same, nothing is checked again.
        """
        if torch.compiler.is_compiling():
            return self._checked_parameters()
        layers = self.layers._modules
        parts: list[object] = [self.output_weight, self.teaching_weight, *layers]
        for layer in layers.values():
            parts.append(type(layer))
            if layer is not None:
                parts += layer._parameters.values()
        known = self._known.parameters
        if (
            known is not None
            and len(parts) == len(known.parts)
            and all(map(is_, parts, known.parts))
            and looks(known.tensors) == known.looks
        ):
            return known.tree, known.tensors
        tree, tensors = self._checked_parameters()
        # What is parametrised, or made by a hook, may be another tensor each time.
        if all(type(layer) is PlasticLinear and layer.is_plain for layer in layers.values()):
            self._known.parameters = KnownParameters(parts, tree, tensors, looks(tensors))
        return tree, tensors

    def _checked_parameters(self) -> tuple[NetworkParameters, list[Tensor]]:
        if self.layers.keys() != self._sizes.keys():
            raise ValueError(f"layers must be {list(self._sizes)}, got {list(self.layers)}")
        layers, found = {}, [self.output_weight]
        shapes: list[Sequence[int]] = [(self._sizes["readout"][1],)]
        for name, size in self._sizes.items():
            layer = check_instance(
                f"layers[{name!r}]", self.layers[name], PlasticLinear, "a PlasticLinear"
            )
            parts = LayerParameters(layer.weight, layer.bias, layer.weight_alpha, layer.bias_alpha)
            given = [part is not None for part in parts]
            found += [part for part in parts if part is not None]
            shapes += [s for s, there in zip(2 * (size, size[1:]), given, strict=True) if there]
            layers[name] = parts
        if self.teaching_weight is not None:
            found.append(self.teaching_weight)
            shapes.append((self.teaching_size, self._sizes["readout"][1]))
        check_leaves("the network holds", found, shapes, self.output_weight)
        return NetworkParameters(layers, self.output_weight, self.teaching_weight), found


def _weights(sizes: Mapping[str, tuple[int, int]]) -> int:
    """Return the number of weights and biases of layers."""
    return sum((rows + 1) * columns for rows, columns in sizes.values())


def _check_on_cpu(tensor: Tensor) -> None:
    """Refuse a device on which the compiled form cannot compute."""
    if not tensor.is_cpu:
        raise ValueError(
            f"form='compiled' computes on the CPU alone, and not on {tensor.device.type}: choose "
            "form='auto' or 'closed' (--form), or stay on the CPU (--device cpu)"
        )


def _made(name: str, value: Any, kind: Any, choices: Mapping[Any, type[Any]]) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, str) or value not in choices:
        known = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {known}, or a {kind.__name__}; got {shown(value)}")
    return choices[value]()


def _fields(hidden: Any) -> Any:
    return getattr(hidden, "_fields", None)


def _check_hidden(hidden: Hidden, size: int) -> None:
    """Check what a cell of the user's own starts with."""
    h = getattr(hidden, "h", None)
    if _fields(hidden) is None or not isinstance(h, Tensor) or h.shape != (1, size):
        raise ValueError(
            "cell must start with a named tuple of tensors, among them h [B, hidden]; "
            f"got {shown(hidden)}"
        )
