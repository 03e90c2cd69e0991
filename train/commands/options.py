"""The options of the parts that a command line chooses, beside those that every run has.

`--task`, `--env`, `--core`, `--rule` and `--cell` are read first. What they name says which other
options there are: these are typed, with the defaults and docstrings of the part, and `--help` tells
them in a group of their own. An option that is called as another one is written with its part, as
in `--core.steps`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, field, fields, make_dataclass, replace
from inspect import Parameter
from itertools import zip_longest
from typing import Annotated, Any, get_type_hints

import tyro

from agents.core import CORES
from agents.plastic.cells import CELLS
from agents.plastic.rules import RULES
from train.commands.training import Command
from train.network import NetworkConfig
from train.parts import (
    Part,
    find_cell,
    find_core,
    find_env,
    find_rule,
    find_task,
    option_texts,
    short_names,
)
from train.reinforcement.config import RLConfig
from train.settings import changed
from train.supervised.config import TrainConfig, check_gives_episodes

Config = TrainConfig | RLConfig
Fields = list[tuple[str, Any, Any]]
"""Name, type and default of fields, as `make_dataclass` takes them."""

_SETTINGS = ("task_settings", "test_settings", "core_settings", "rule_settings", "cell_settings")
_CHOICES = ("task", "env", "core", "rule", "cell")


def for_parts(
    run: Callable[[Command[Any]], None], config: Config, words: Sequence[str]
) -> Callable[..., None]:
    """Return a function for tyro, with the options of the parts that words choose.

    Args:
        run: What is called with the command that options ask for.
        config: Settings that are the defaults, but for those that a core brings with it.
        words: Of the command line.

    Raises:
        ValueError: If there is no such part, or it does not go with the others.
    """
    parts = _chosen(config, words)
    if isinstance(config, TrainConfig):
        config = changed(config, getattr(parts["core"].factory, "training_defaults", {}))
    named = {kind: part.name for kind, part in parts.items()}
    without = [kind for kind in ("rule", "cell") if kind not in parts]
    known = [
        *_copied(Command, without=["config"]),
        *_copied(type(config), config, without=["network", "ppo", *_SETTINGS], named=named),
        *_copied(NetworkConfig, config.network, without=[*without, *_SETTINGS], named=named),
    ]
    if isinstance(config, RLConfig):
        known += _copied(type(config.ppo), config.ppo)
    taken = Counter(["help", *(name for name, _, _ in known)])
    taken.update(name for part in parts.values() for name in part.options)
    groups = [
        _group(kind, part, _defaults(kind, part, config), taken)
        for kind, part in parts.items()
        if part.options
    ]
    return _called(run, [*known, *groups], lambda found: _command(config, found, parts))


def for_task(
    run: Callable[[Any], None], command: type, task: Part, settings: Mapping[str, Any]
) -> Callable[..., None]:
    """Return a function for tyro, with the options of a task that was chosen before.

    Args:
        run: What is called with a command.
        command: Its dataclass, whose `task_settings` are those that differ from the defaults.
        task: The task.
        settings: Its settings that are the defaults.
    """
    known = _copied(command, without=_SETTINGS)
    taken = Counter(["help", *(name for name, _, _ in known), *task.options])

    def made(options: Any) -> Any:
        given = {name: getattr(options, name) for name, _, _ in known}
        found = vars(options.task_options).items()
        differs = {name: value for name, value in found if value != settings[name]}
        return command(**given, task_settings=differs)

    return _called(run, [*known, _group("task", task, settings, taken)], made)


def _called(
    run: Callable[[Any], None], options: Fields, made: Callable[[Any], Any]
) -> Callable[..., None]:
    """Return a function for tyro that runs the command made of options."""
    kind = make_dataclass("Options", options, frozen=True, kw_only=True)

    def call(options: Any) -> None:
        run(made(options))

    call.__doc__ = run.__doc__
    call.__annotations__ = {"options": Annotated[kind, tyro.conf.arg(name="")], "return": None}
    return call


def _chosen(config: Config, words: Sequence[str]) -> dict[str, Part]:
    """Return the parts that words choose, or that are the defaults, by kind."""
    given = {name: found for name in _CHOICES if (found := _value_of(name, words)) is not None}
    parts: dict[str, Part] = {}
    if isinstance(config, TrainConfig):
        parts["task"] = check_gives_episodes(find_task(given.get("task", config.task)))
    elif (task := find_env(given.get("env", config.env))) is not None:
        parts["env"] = task
    parts["core"] = core = find_core(given.get("core", config.network.core))
    for kind, find in (("rule", find_rule), ("cell", find_cell)):
        if core.takes(kind):
            parts[kind] = find(given.get(kind, getattr(config.network, kind)))
        elif kind in given:
            raise ValueError(f"core {core.name} is made without a {kind}: leave out --{kind}")
    return parts


def _value_of(name: str, words: Sequence[str]) -> str | None:
    """Return what a command line says of an option, the last time that it does."""
    value = None
    for word, after in zip_longest(words, words[1:]):
        option, equals, told = word.partition("=")
        if option == f"--{name}":
            value = told if equals else after
    return value


def _copied(
    kind: type,
    made: Any = None,
    *,
    without: Iterable[str] = (),
    named: Mapping[str, str] | None = None,
) -> Fields:
    """Return the fields of a dataclass, with their docstrings.

    Args:
        kind: The dataclass.
        made: One whose values are the defaults.
        without: Names to leave out.
        named: Defaults in place of its own.
    """
    hints, help_texts = get_type_hints(kind, include_extras=True), option_texts(kind)
    copied: Fields = []
    for each in fields(kind):
        if each.name in without:
            continue
        default = (named or {}).get(each.name, each.default if made is None else MISSING)
        if default is MISSING and made is not None:
            default = getattr(made, each.name)
        told = help_texts.get(each.name, "")
        hint = hints[each.name]
        if each.name in (named or {}):
            hint, told = str, f"{told} {_known(each.name)}".strip()
        argument = tyro.conf.arg(help=told)
        kept = field() if default is MISSING else _default(default)
        copied.append((each.name, Annotated[hint, argument], kept))
    return copied


def _known(kind: str) -> str:
    """Say which parts there are."""
    if kind == "env":
        return ""
    known: dict[str, Iterable[str]] = {"core": CORES, "rule": RULES, "cell": CELLS}
    return f"Known: {', '.join(known[kind] if kind in known else _with_episodes())}."


def _with_episodes() -> list[str]:
    """Return the short names of tasks that can be learned from episodes."""
    found = []
    for name in short_names():
        try:
            check_gives_episodes(find_task(name))
        except ValueError:
            continue
        found.append(name)
    return found


def _group(
    kind: str, part: Part, defaults: Mapping[str, Any], taken: Mapping[str, int]
) -> tuple[str, Any, Any]:
    """Return a field for all options of a part."""
    inner: Fields = []
    for name, option in part.options.items():
        argument = tyro.conf.arg(
            name=f"{kind}.{name}".replace("_", "-") if taken[name] > 1 else None,
            help=part.option_help.get(name, ""),
        )
        default = field() if (v := defaults[name]) is Parameter.empty else _default(v)
        inner.append((name, Annotated[option.type, argument], default))
    about = {"__doc__": part.help or f"Options of {kind} {part.name}."}
    options = make_dataclass("Options", inner, frozen=True, kw_only=True, namespace=about)
    argument = tyro.conf.arg(name=f"{kind} {part.name}", prefix_name=False)
    hint: Any = Annotated[options, argument, tyro.conf.OmitArgPrefixes]
    return f"{kind}_options", hint, field()


def _defaults(kind: str, part: Part, config: Config) -> dict[str, Any]:
    """Return the defaults of a part; what the settings have changed of theirs holds for others."""
    defaults = {name: option.default for name, option in part.options.items()}
    if kind == "core":
        own = find_core(config.network.core).options
        for name, value in config.network.core_settings.items():
            if name in defaults and value != own[name].default:
                defaults[name] = value
    return defaults


def _default(value: Any) -> Any:
    """Return a field with a default."""
    if isinstance(value, list | dict | set):
        return field(default_factory=lambda: value)
    return field(default=value)


def _command(config: Config, options: Any, parts: Mapping[str, Part]) -> Command[Any]:
    """Return the command that options ask for."""

    def taken(kind: type, **others: Any) -> Any:
        given = {each.name for each in fields(kind)} & {each.name for each in fields(options)}
        return kind(**{name: getattr(options, name) for name in given}, **others)

    settings = {kind: vars(getattr(options, f"{kind}_options", _Nothing())) for kind in parts}
    network = taken(
        NetworkConfig,
        **{
            f"{kind}_settings": found
            for kind, found in settings.items()
            if kind not in ("task", "env")
        },
        **{kind: None for kind in ("rule", "cell") if kind not in parts},
    )
    if isinstance(config, TrainConfig):
        made = taken(TrainConfig, network=network, task_settings=settings["task"])
    else:
        made = taken(RLConfig, network=network, ppo=taken(type(config.ppo)))
        if "env" in parts:
            usual = parts["env"].options
            changed = {k: v for k, v in settings["env"].items() if v != usual[k].default}
            made = replace(made, env_kwargs={**made.env_kwargs, **changed})
    asked: Command[Any] = taken(Command, config=made)
    return asked


class _Nothing:
    """Has no options."""
