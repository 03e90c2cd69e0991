"""`PlasticNetwork`: encoder, recurrent cell and readout whose weights change during an episode."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from agents.cells import Cell, LSTMCell, RNNCell
from agents.ops import closed, compiled, naive
from agents.ops.interface import Form, LayerParameters, NetworkParameters, Probes
from agents.rules import Gradient, Hebbian, NonPlastic, Rule
from agents.state import FastWeights, PlasticState

CellName = Literal["rnn", "lstm"]
RuleName = Literal["gradient", "hebbian", "none"]
FormName = Literal["auto", "compiled", "closed", "naive"]

_T = TypeVar("_T")

CELLS: dict[CellName, type[Cell]] = {"rnn": RNNCell, "lstm": LSTMCell}
RULES: dict[RuleName, type[Rule]] = {
    "gradient": Gradient,
    "hebbian": Hebbian,
    "none": NonPlastic,
}
FORMS: dict[FormName, Form] = {
    "compiled": compiled.run,
    "closed": closed.run,
    "naive": naive.run,
}


class PlasticLinear(nn.Module):
    """Slow parameters of one layer, q = p (W + w̃) + b + b̃, and their plasticity α.

    Attributes:
        weight: W [in, out], initially U(-k, k) with k = 1/√fan_out.
        bias: b [out], likewise.
        weight_alpha: α of W [in, out], or None if it is 1 and not learned.
        bias_alpha: α of b [out], or None if it is 1 and not learned, or b is not plastic.
    """

    weight_alpha: nn.Parameter | None
    bias_alpha: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, fan_out: int, rule: Rule) -> None:
        super().__init__()
        self._bound = fan_out**-0.5
        self._rule = rule
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        learned = rule.plastic and rule.alpha != "off"
        self.weight_alpha = nn.Parameter(torch.empty_like(self.weight)) if learned else None
        has_bias_alpha = learned and rule.writes_bias
        self.bias_alpha = nn.Parameter(torch.empty_like(self.bias)) if has_bias_alpha else None

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw all parameters anew."""
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -self._bound, self._bound, generator=generator)
        for alpha in (self.weight_alpha, self.bias_alpha):
            if alpha is None:
                continue
            if self._rule.alpha == "random":
                nn.init.uniform_(alpha, -1, 1, generator=generator)
            else:
                nn.init.constant_(alpha, 1 if self._rule.alpha == "ones" else -1)

    def extra_repr(self) -> str:
        """Show the layer's size."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


class PlasticNetwork(nn.Module):
    """A recurrent network whose fast weights change at every step of an episode.

    Encoder e_t = ReLU(enc(x_t)), a recurrent cell, and a readout o_t = [y_t, ỹ_t, η̃_t] of the
    output, `extra_dim` free units and one modulation unit. After each step the rule writes into the
    fast weights of all layers, from what that step left behind; outputs use the fast weights of the
    step before. Nothing depends on the other samples of a batch. Source: arXiv 2302.03235; unlike
    its published code, the inner loss is a mean over one sample's units and not over the batch.

    Under `torch.autocast` an encoder module is cast as usual; encoder layer, cell, readout and fast
    weights stay in the precision of their parameters, since small writes would be lost in bfloat16.

    Args:
        input_size: Entries of an input.
        output_size: Entries of an output.
        hidden_size: Units of the cell and of the encoder. The paper takes 128 for an LSTM, 256 for
            an RNN, and 1.5 times as many without plasticity.
        cell: `"rnn"`, `"lstm"` or a `Cell`.
        rule: `"gradient"`, `"hebbian"`, `"none"`, or a `Rule` with settings of your own.
        extra_dim: Free readout units, the network's own target for the gradient rule.
        encoder: Replaces the plastic encoder: a module that maps inputs [B, T, …] to
            [B, T, hidden_size]; `input_size` is then only a record.
        form: How sequences are computed: `"compiled"` (in C, on the CPU), `"closed"` (in PyTorch,
            write directions by hand), `"naive"` (the literal equations, for tests) or `"auto"`, the
            fastest that can. All agree; the attribute `form` can be changed at any time.
        generator: Source of the initial parameters; None for torch's own.

    Raises:
        ValueError: If an argument is unknown or not positive.

    Example:
        >>> net = PlasticNetwork(input_size=16, output_size=1, hidden_size=32)
        >>> y, state = net(torch.zeros(8, 20, 16))
        >>> y.shape
        torch.Size([8, 20, 1])
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int,
        cell: CellName | Cell = "rnn",
        rule: RuleName | Rule = "gradient",
        *,
        extra_dim: int = 4,
        encoder: nn.Module | None = None,
        form: FormName = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = {"input_size": input_size, "output_size": output_size, "hidden_size": hidden_size}
        for name, size in sizes.items():
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {size!r}")
        if not isinstance(extra_dim, int) or extra_dim < 0:
            raise ValueError(f"extra_dim must be an integer of at least 0, got {extra_dim!r}")
        self.input_size, self.output_size, self.hidden_size = input_size, output_size, hidden_size
        self.extra_dim = extra_dim
        self.cell: Cell = cell if isinstance(cell, Cell) else _choice("cell", cell, CELLS)()
        self.rule: Rule = rule if isinstance(rule, Rule) else _choice("rule", rule, RULES)()
        self.form = form

        gates = self.cell.gates * hidden_size
        readout = output_size + extra_dim + int(self.rule.modulation)
        sizes_of = {
            "cell_input": (hidden_size, gates, hidden_size),
            "cell_hidden": (hidden_size, gates, hidden_size),
            "readout": (hidden_size, readout, readout),
        }
        self.encoder = encoder
        if encoder is None:
            sizes_of = {"encoder": (input_size, hidden_size, hidden_size), **sizes_of}
        # The same modules twice: registered, and as a plain dictionary that is quick to go through.
        self._layers = {name: PlasticLinear(*size, self.rule) for name, size in sizes_of.items()}
        self.layers = nn.ModuleDict(self._layers)
        self.output_weight = nn.Parameter(
            torch.ones(readout), requires_grad=self.rule.trains_output_weight
        )
        for layer in self._layers.values():
            layer.reset_parameters(generator)

    @property
    def form(self) -> FormName:
        """How sequences are computed."""
        return self._form

    @form.setter
    def form(self, form: FormName) -> None:
        _choice("form", form, {"auto": None, **FORMS})
        self._form: FormName = form

    def freeze_slow_weights(self) -> None:
        """Keep slow weights and biases of all layers as they are: only α and ω go on learning.

        An encoder module is left alone.
        """
        for layer in self._layers.values():
            layer.weight.requires_grad_(False)
            layer.bias.requires_grad_(False)

    def supported_forms(self) -> list[FormName]:
        """Return the forms that can compute this network as it is now, the fastest first.

        `"compiled"` needs parameters on the CPU in float32 or float64, a rule and a cell of this
        package without `weight_clip`, and a build of its kernel; `"naive"` needs a rule of this
        package; `"closed"` can always be used.
        """
        able = {
            "compiled": compiled.supports(self.rule, self.cell, self.output_weight),
            "naive": naive.supports(self.rule),
        }
        return [name for name in FORMS if able.get(name, True)]

    def initial_state(self, batch_size: int) -> PlasticState:
        """Return the state at the start of an episode: everything zero.

        Args:
            batch_size: Number B of samples.
        """
        like = self.output_weight
        zeros = like.new_zeros(batch_size, self.hidden_size)
        fast = {}
        if self.rule.plastic:
            fast = {
                name: FastWeights(
                    like.new_zeros(batch_size, *layer.weight.shape),
                    like.new_zeros(batch_size, *layer.bias.shape),
                )
                for name, layer in self._layers.items()
            }
        return PlasticState(self.cell.initial_hidden(zeros), fast)

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
            ValueError: If shapes do not fit.
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
            ValueError: If shapes do not fit.
        """
        starts = None if episode_starts is None else episode_starts.unsqueeze(1)
        output, state = self(add_time_axis(x), state, starts)
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
        if state is None:
            state = self.initial_state(batch)
        else:
            self._check_state(state, batch)
        if episode_starts is not None and (
            episode_starts.dtype != torch.bool or episode_starts.shape != (batch, steps)
        ):
            raise ValueError(
                f"episode_starts must be bool [{batch}, {steps}], got "
                f"{type(episode_starts).__name__} {episode_starts.dtype} "
                f"{list(episode_starts.shape)}"
            )
        run = FORMS[self.supported_forms()[0] if self.form == "auto" else self.form]
        parameters = self._parameters_tree()
        with torch.autocast(x.device.type, enabled=False):
            return run(parameters, self.rule, self.cell, x, state, episode_starts, probe=probe)

    def _encoded(self, x: Tensor) -> Tensor:
        """Check the input, or what the encoder module makes of it, [B, T, features]."""
        if self.encoder is None and not isinstance(x, Tensor):
            raise ValueError(f"x must be a torch.Tensor, got {type(x).__name__}")
        if self.encoder is None:
            what, size = "x must have shape", self.input_size
        else:
            what, size, x = "encoder must return", self.hidden_size, self.encoder(x)
        if x.dim() != 3 or x.shape[2] != size or x.shape[1] < 1:
            raise ValueError(f"{what} [batch, time, {size}], got {list(x.shape)}")
        like = self.output_weight
        if torch.is_autocast_enabled(x.device.type):
            return x.to(like.dtype)
        if x.dtype != like.dtype or x.device != like.device:
            raise ValueError(
                f"the network is {like.dtype} on {like.device}, but its input is "
                f"{x.dtype} on {x.device}"
            )
        return x

    def _check_state(self, state: PlasticState, batch: int) -> None:
        if state.batch_size != batch:
            raise ValueError(f"x has {batch} samples, but the state has {state.batch_size}")
        layers = self._layers if self.rule.plastic else {}
        if state.fast.keys() != layers.keys():
            raise ValueError(f"the state has fast weights of {sorted(state.fast)}: not this net's")
        like = self.output_weight
        hidden = self.cell.initial_hidden(like.new_empty(batch, self.hidden_size))
        if type(state.hidden) is not type(hidden):
            raise ValueError(
                f"the state holds a {type(state.hidden).__name__} where the cell needs a "
                f"{type(hidden).__name__}"
            )
        expected: list[tuple[Tensor, tuple[int, ...]]] = [
            (leaf, (batch, self.hidden_size)) for leaf in state.hidden
        ]
        for name, layer in layers.items():
            expected.append((state.fast[name].weight, (batch, *layer.weight.shape)))
            expected.append((state.fast[name].bias, (batch, *layer.bias.shape)))
        for leaf, shape in expected:
            if leaf.shape != shape or leaf.dtype != like.dtype or leaf.device != like.device:
                raise ValueError(
                    f"the state holds {leaf.dtype} {list(leaf.shape)} on {leaf.device} where "
                    f"{like.dtype} {list(shape)} on {like.device} is needed"
                )

    def _parameters_tree(self) -> NetworkParameters:
        layers = {
            name: LayerParameters(layer.weight, layer.bias, layer.weight_alpha, layer.bias_alpha)
            for name, layer in self._layers.items()
        }
        return NetworkParameters(layers, self.output_weight)


def add_time_axis(inputs: Any) -> Any:
    """Make a sequence of one step: [B, …] to [B, 1, …], in every tensor of a mapping."""
    if isinstance(inputs, Mapping):
        return {name: part.unsqueeze(1) for name, part in inputs.items()}
    return inputs.unsqueeze(1)


def _choice(what: str, name: str, choices: Mapping[Any, _T]) -> _T:
    if name not in choices:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, choices))}, got {name!r}")
    return choices[name]
