"""Cores: whatever remembers, inside a network or a policy.

Anything that has the methods of `Core` will do, and is used through them alone, by every program.
`make_core` makes one by its name, by `module:name`, or by a function of the user's own.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, get_args

import torch
from torch import Tensor, nn

from agents.importing import import_named, is_import_name, told
from agents.memories.associative import memory_factory
from agents.memories.feedforward import Feedforward
from agents.memories.hebbian_network import HebbianMemoryNetwork
from agents.memories.torch_rnn import TorchCore, gru, lstm, rnn
from agents.plastic.cells import Cell
from agents.plastic.network import FormName, PlasticNetwork
from agents.plastic.rules import Rule
from agents.tensors import add_time_axis, check_generator, described
from agents.tree import leaves
from agents.vision.label_memory import label_memory_factory
from agents.vision.prototypes import prototypical
from plastic_envs.checks import check_bool, check_instance, check_int, shown

State = TypeVar("State")
Factory = Callable[..., nn.Module]
"""Makes a core: a function, or a class, of the input's size and of options.

It may have an attribute `training_defaults`: settings of a supervised run by their names, such as
`{"learning_rate": 3e-3}`, which suit its cores, and with which `plastic train` begins.
"""

PARTS = ("rule", "cell")
"""Parameters of a factory that are parts with settings of their own."""

_GIVEN = ("output_size", "encoder", "generator")  # by the programs, not by the user
_METHODS = ("output_size", "initial_state", "step", "forward")


class Core(Protocol[State]):
    """A module with a memory.

    A state is a tree (see `agents.tree`) of tensors [B, …]: the batch comes first in every
    leaf. Nothing may be kept between calls but what the state holds, a state that was handed in
    stays as it is, nothing may depend on the other samples of a batch, and `step` by `step` gives
    what `forward` does. All tensors are of the type and on the device of the parameters.

    Two more methods are used where they are there, with the arguments of `forward`:

    - `outputs` returns the outputs alone; learning needs no more.
    - `probe` returns what `forward` does, and a named tuple of detached tensors [B, T], which
      tell what went on at each step: programs log their means.

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
            x: Input [B, input_size], or what an encoder takes, without the time axis.
            state: State before the step; None at the start of an episode.
            episode_starts: bool [B], true where the state is reset before the step.

        Returns:
            Output [B, output_size] and the state after the step.
        """

    def forward(
        self, x: Tensor, state: State | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run over sequences [B, T, input_size]; `episode_starts` is bool [B, T]."""


class Option(NamedTuple):
    """An option of a factory.

    Attributes:
        type: Its annotation; that of the default where there is none.
        default: `inspect.Parameter.empty` if it has to be given.
    """

    type: Any
    default: Any

    @property
    def is_path(self) -> bool:
        """Whether it takes a path, and no text."""
        return Path in (self.type, *get_args(self.type)) and str not in get_args(self.type)


def plastic(
    input_size: int,
    hidden_size: int = 128,
    *,
    rule: str | Rule = "gradient",
    cell: str | Cell = "rnn",
    extra_dim: int = 4,
    teaching_size: int = 0,
    form: FormName = "auto",
    freeze_slow_weights: bool = False,
    output_size: int = 32,
    encoder: nn.Module | None = None,
    generator: torch.Generator | None = None,
) -> PlasticNetwork:
    """Make a `PlasticNetwork`, whose readout is plastic, too; see there for the arguments.

    With `freeze_slow_weights`, slow weights and biases stay as they are drawn.

    Raises:
        ValueError: If an argument is unknown or out of range, the chosen form cannot compute this
            network, or nothing would be left to learn.
    """
    freeze = check_bool("freeze_slow_weights", freeze_slow_weights)
    network = PlasticNetwork(
        input_size,
        output_size,
        hidden_size,
        cell,
        rule,
        extra_dim=extra_dim,
        teaching_size=teaching_size,
        encoder=encoder,
        form=form,
        generator=generator,
    )
    able = network.supported_forms()
    if network.form not in ("auto", *able):
        raise ValueError(f"form {network.form!r} cannot compute this network: {able} can")
    if freeze and not network.rule.plastic:
        raise ValueError(
            "freeze_slow_weights leaves a network without plastic weights nothing to learn"
        )
    if freeze:
        network.freeze_slow_weights()
    return network


CORES: dict[str, Factory] = {
    "plastic": plastic,
    "lstm": lstm,
    "gru": gru,
    "rnn": rnn,
    "mlp": Feedforward,
    "hebbian-memory": memory_factory("hebbian"),
    "delta": memory_factory("delta"),
    "gated-delta": memory_factory("gated-delta"),
    "mesa": memory_factory("mesa"),
    "attention": memory_factory("attention"),
    "h-mem": HebbianMemoryNetwork,
    "prototypical": prototypical,
    "label-hebbian": label_memory_factory("hebbian"),
    "label-delta": label_memory_factory("delta"),
    "label-mesa": label_memory_factory("mesa", ridge=1.0),
    "label-attention": label_memory_factory("attention", kappa=0.5),
}
"""Factories by name; from `prototypical` on they need an encoder of images."""


def factory_of(core: str | Factory) -> Factory:
    """Return the factory that a name of `CORES` or `module:name` stands for, or that is one.

    Raises:
        ValueError: If it stands for none.
    """
    found: Any = core
    if is_import_name(core):
        found = import_named("core", core)  # type: ignore[arg-type]
    elif isinstance(core, str) and core in CORES:
        found = CORES[core]
    if callable(found) and not isinstance(found, nn.Module):
        return found  # type: ignore[no-any-return]
    known = ", ".join(map(repr, CORES))
    raise ValueError(
        f"core must be one of {known}, module:name, or a function that makes a core; got "
        f"{shown(core)}"
    )


def core_options(core: str | Factory) -> dict[str, Option]:
    """Return the options of a factory, by its signature: what a user sets.

    These are its parameters after the first one, but for `rule` and `cell`, which are parts with
    settings of their own, and for `output_size`, `encoder` and `generator`, which it is given.

    Raises:
        ValueError: If there is no such factory, or it does not say what it takes.
    """
    options = {}
    for name, parameter in _parameters(core).items():
        if name in (*_GIVEN, *PARTS) or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        kind, default = parameter.annotation, parameter.default
        if kind is inspect.Parameter.empty:
            kind = Any if default in (None, inspect.Parameter.empty) else type(default)
        options[name] = Option(kind, default)
    return options


def core_takes(core: str | Factory, name: str) -> bool:
    """Say whether a factory has a parameter, such as `rule` or `encoder`."""
    return name in _parameters(core)


def make_core(
    core: str | Factory,
    input_size: int,
    *,
    output_size: int | None = None,
    encoder: nn.Module | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Any:
    """Make a core.

    Args:
        core: A name of `CORES`; `module:name` of a factory; or a factory: a function, or a class,
            of `input_size` and of options, which makes a `Core` or a recurrent module of torch's.
        input_size: Entries of an input; with an encoder, of what that makes of one.
        output_size: Entries of an output. A factory with a parameter of this name makes them;
            another gets a linear readout. None leaves the outputs as they are.
        encoder: Turns inputs [B, T, …] into [B, T, input_size]. Handed to a factory with a
            parameter of this name; else it stands before the core.
        generator: Source of initial parameters; None for torch's own. A factory without a parameter
            of this name draws from torch's, seeded from it.
        **options: Passed on to the factory.

    Returns:
        A module that is a `Core`.

    Raises:
        ValueError: If an argument is unknown or does not fit, or what was made is no core.
    """
    factory, parameters = factory_of(core), _parameters(core)
    name = core if isinstance(core, str) else getattr(core, "__qualname__", shown(core))
    input_size = check_int("input_size", input_size, minimum=1)
    check_generator(generator)
    if output_size is not None:
        output_size = check_int("output_size", output_size, minimum=1)
    if encoder is not None:
        check_instance("encoder", encoder, nn.Module, "a torch.nn.Module or None")
    given = {"output_size": output_size, "encoder": encoder, "generator": generator}
    passed = {k: value for k, value in given.items() if value is not None and k in parameters}
    _check_options(name, parameters, options, {*options, *passed})
    seeded = "generator" not in parameters and generator is not None
    with _seeded_from(generator) if seeded and generator is not None else nullcontext():
        try:
            made = factory(input_size, **passed, **options)
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"core {name} cannot be made: {told(error)}") from error
    made = _checked(name, made)
    if encoder is not None and "encoder" not in parameters:
        made = Encoded(encoder, made)
    if output_size is None or (made.output_size == output_size and "output_size" in parameters):
        return made
    if "output_size" in parameters:
        raise ValueError(
            f"core {name} was to make {output_size} outputs, but made {made.output_size}"
        )
    return Readout(made, output_size, generator=generator)


class _Around(nn.Module):
    """Stands around a core; it has a probe if the core has."""

    core: Any

    def __init__(self, core: Any) -> None:
        super().__init__()
        self.core = check_instance("core", core, nn.Module, "a module that is a Core")

    def initial_state(self, batch_size: int) -> Any:
        """Return the core's state at the start of an episode."""
        return self.core.initial_state(batch_size)

    def step(
        self, x: Any, state: Any = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Take one step, as `Core.step` says."""
        output, state = self.core.step(self._before_step(x), state, episode_starts)
        return self._after(output), state

    def forward(
        self, x: Any, state: Any = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Run over sequences, as `Core.forward` says."""
        outputs, state = self.core(self._before(x), state, episode_starts)
        return self._after(outputs), state

    def outputs(self, x: Any, state: Any = None, episode_starts: Tensor | None = None) -> Tensor:
        """Return the outputs of `forward` alone."""
        return self._after(outputs_of(self.core, self._before(x), state, episode_starts))

    @property
    def probe(self) -> Callable[..., tuple[Tensor, Any, Any]]:
        """Run over sequences as `forward` does, and report what the core's `probe` does."""
        inner = self.core.probe

        def probe(
            x: Any, state: Any = None, episode_starts: Tensor | None = None
        ) -> tuple[Tensor, Any, Any]:
            outputs, state, probes = inner(self._before(x), state, episode_starts)
            return self._after(outputs), state, probes

        return probe

    def _before(self, x: Any) -> Any:
        return x

    def _before_step(self, x: Any) -> Any:
        return x

    def _after(self, outputs: Tensor) -> Tensor:
        return outputs


class Readout(_Around):
    """A core with a linear readout on its outputs.

    Args:
        core: The core.
        output_size: Entries of an output.
        generator: Source of the readout's initial parameters; None for torch's own.

    Raises:
        ValueError: If an argument is of the wrong kind.
    """

    def __init__(
        self, core: Any, output_size: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(core)
        self.output_size = check_int("output_size", output_size, minimum=1)
        check_generator(generator)
        with nullcontext() if generator is None else _seeded_from(generator):
            self.readout = nn.Linear(core.output_size, self.output_size)

    def _after(self, outputs: Tensor) -> Tensor:
        read: Tensor = self.readout(outputs)
        return read


class Encoded(_Around):
    """A core behind an encoder.

    Args:
        encoder: Turns inputs [B, T, …] into what the core takes, [B, T, input_size].
        core: The core.

    Raises:
        ValueError: If an argument is of the wrong kind.
    """

    def __init__(self, encoder: nn.Module, core: Any) -> None:
        super().__init__(core)
        self.encoder = check_instance("encoder", encoder, nn.Module, "a torch.nn.Module")

    @property
    def output_size(self) -> int:
        """Entries of an output."""
        return int(self.core.output_size)

    def _before(self, x: Any) -> Any:
        return self.encoder(x)

    def _before_step(self, x: Any) -> Any:
        return self.encoder(add_time_axis(x, "x")).squeeze(1)


def outputs_of(
    core: Any, x: Any, state: Any = None, episode_starts: Tensor | None = None
) -> Tensor:
    """Return the outputs [B, T, output_size] of a core, without the state if it can do without."""
    if hasattr(core, "outputs"):
        return core.outputs(x, state, episode_starts)  # type: ignore[no-any-return]
    outputs, _ = core(x, state, episode_starts)
    return outputs  # type: ignore[no-any-return]


def encoder_in(core: Any) -> nn.Module | None:
    """Return the encoder of a core, wherever it stands; None if it has none."""
    while not isinstance(found := getattr(core, "encoder", None), nn.Module):
        core = getattr(core, "core", None)
        if core is None:
            return None
    return found


def _parameters(core: str | Factory) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a factory but for its first, the input's size."""
    factory = factory_of(core)
    try:
        signature = inspect.signature(factory, eval_str=True)
    except NameError:  # an annotation of something that is imported for type checkers only
        signature = inspect.signature(factory)
    except (TypeError, ValueError) as error:
        raise ValueError(f"core {shown(core)} does not say what it takes") from error
    return dict(list(signature.parameters.items())[1:])


def _check_options(
    name: str,
    parameters: Mapping[str, inspect.Parameter],
    options: Mapping[str, Any],
    given: Collection[str],
) -> None:
    known = [key for key, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if len(known) == len(parameters):  # without **kwargs
        for key in options:
            if key not in known or key in _GIVEN:
                takes = ", ".join(k for k in known if k not in _GIVEN) or "none"
                raise ValueError(f"core {name} has no option {key!r}; its options: {takes}")
    many = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    for key, parameter in parameters.items():
        needed = parameter.kind not in many and parameter.default is inspect.Parameter.empty
        if needed and key not in given:
            raise ValueError(f"core {name} needs {key}")


def _checked(name: str, made: Any) -> Any:
    """Return a core, once it has been seen to be one, in a wrapper if it is a module of torch's."""
    if isinstance(made, nn.RNNBase):
        return TorchCore(made)
    if not isinstance(made, nn.Module):
        raise ValueError(f"core {name} must make a torch.nn.Module, but made {shown(made)}")
    missing = [method for method in _METHODS if not hasattr(made, method)]
    if missing or type(made).forward is nn.Module.forward:
        without = ", ".join(missing or ["forward"])
        raise ValueError(
            f"core {name} must make a Core, but made a {type(made).__name__} without {without}"
        )
    check_int(f"output_size of what core {name} makes", made.output_size, minimum=1)
    for leaf in leaves(made.initial_state(2)):  # type: ignore[operator]
        if not isinstance(leaf, Tensor) or leaf.dim() < 1 or len(leaf) != 2:
            raise ValueError(
                f"core {name}: initial_state(2) must hold tensors of 2 samples, the batch first, "
                f"but holds {described(leaf)}"
            )
    return made


@contextmanager
def _seeded_from(generator: torch.Generator) -> Iterator[None]:
    """Let torch's own generator, for a while, be seeded by a number that another one draws."""
    seed = torch.randint(2**62, (), generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        yield
