"""What a run is made of, by name: its task, and core, rule and cell of its network.

A part is known by a short name, or is the user's own: `module:name`, of a module that can be
imported. Its options are the fields of its dataclass or the parameters of its function, with their
types, defaults and what their docstrings say; no program knows them by itself.
"""

import inspect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_type_hints

import docstring_parser
import gymnasium as gym

from agents.core import CORES, Option, core_options, factory_of
from agents.importing import import_module, import_named, is_import_name, told
from agents.plastic.cells import CELLS, Cell
from agents.plastic.rules import RULES, Rule
from plastic_envs import ids
from plastic_envs.checks import shown
from plastic_envs.registration import load_task
from plastic_envs.tasks import Task
from train.settings import checked, flat, near, settable

_EMPTY = inspect.Parameter.empty
_OF_PROGRAMS = ("split",)  # of a task: set by whatever uses it, as it needs


@dataclass(frozen=True)
class Part:
    """Something that a run is made of.

    Attributes:
        kind: "task", "core", "rule" or "cell".
        name: As it was given.
        factory: Makes it.
        options: What can be set, by name; each of a type that settings can hold.
        env_id: Gymnasium id of a task that has one.
    """

    kind: str
    name: str
    factory: Any
    options: Mapping[str, Option]
    env_id: str | None = None

    def complete(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings of this part, all of them, as JSON can hold them.

        Raises:
            ValueError: If there is no such setting, or one does not fit, or is missing.
        """
        where = f"{self.kind} {self.name}"
        if unknown := [name for name in settings if name not in self.options]:
            [name, *_] = unknown
            known = ", ".join(self.options) or "none"
            raise ValueError(
                f"{where} has no setting {shown(name)}{near(name, self.options)}; "
                f"its settings: {known}"
            )
        complete = {}
        for name, option in self.options.items():
            value = settings.get(name, option.default)
            if value is _EMPTY:
                raise ValueError(f"{where} needs {name} (--{name.replace('_', '-')})")
            complete[name] = checked(name, value, option.type)
        return complete

    def make(self, settings: Mapping[str, Any], **given: Any) -> Any:
        """Make the part with its settings.

        Args:
            settings: All that there are.
            **given: What the program sets, `split` of a task; it is left out where the part does
                not take it.

        Raises:
            ValueError: If it cannot be made.
        """
        given = {name: value for name, value in given.items() if self.takes(name)}
        arguments = self.arguments(settings) | given
        try:
            if self.kind == "task":
                return load_task(self.factory, **arguments)
            return self.factory(**arguments)
        except (ValueError, OSError, MemoryError, ImportError):
            raise
        except Exception as error:  # it may be the user's own: anything can happen
            raise ValueError(f"{self.kind} {self.name} cannot be made: {told(error)}") from error

    def takes(self, name: str) -> bool:
        """Say whether it is made with an argument of a name, such as the rule of a core."""
        return name in _parameters(self.factory)

    def arguments(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return complete settings as the factory takes them: texts that are paths, as paths."""
        return {
            name: Path(value) if isinstance(value, str) and self.options[name].is_path else value
            for name, value in settings.items()
        }

    @property
    def title(self) -> str:
        """A word for it, as in names of folders."""
        return self.name.rpartition(":")[2]

    @cached_property
    def help(self) -> str:
        """What it is, in the first lines of its docstring."""
        text = inspect.getdoc(self.factory) or ""
        if text.startswith(f"{getattr(self.factory, '__name__', '')}("):
            text = ""  # which `dataclass` writes where there is none
        return docstring_parser.parse(text).short_description or ""

    @cached_property
    def option_help(self) -> dict[str, str]:
        """What docstrings say of the options."""
        said: dict[str, str] = {}
        for source in _documented(self.factory):
            for name, text in option_texts(source).items():
                said.setdefault(name, text)
        return said


def find_env(name: str) -> Part | None:
    """Find the task of an environment; None where Gymnasium makes it of something else.

    Args:
        name: As for `find_task`, or any id of Gymnasium, with or without the module that registers
            it. Of an id that is not registered Gymnasium says what there is, when it is to make it.

    Raises:
        ValueError: If a module cannot be imported, or has no such thing.
    """
    module, colon, rest = name.rpartition(":")
    if colon:
        import_module("env", name, module)
    others = set(gym.registry) - set(ids())
    if any(rest in (each, each.rpartition("-v")[0]) for each in others):
        return None
    return find_task(name, "env") if colon or env_id_of(name) is not None else None


def find_task(name: str, asked: str = "task") -> Part:
    """Find a task, which need not be made for that, nor its data be there.

    Args:
        name: A short name such as "cue-reward", which stands for the newest "PlasticCueReward-v0";
            the Gymnasium id of a task; "module:id", of a module that registers it; or
            "module:Class".
        asked: What is asked for it, in errors.

    Raises:
        ValueError: If there is none.
    """
    module, colon, rest = name.rpartition(":")
    there = colon and hasattr(import_module(asked, name, module), rest) and rest not in ids()
    env_id = None if there else env_id_of(name)
    given: dict[str, Any] = {}
    if env_id is not None:
        given = dict(gym.spec(env_id).kwargs)
        place = given.pop("task")
        task = import_named(asked, place) if isinstance(place, str) else place
    elif colon:
        task = import_named(asked, name)
    else:
        raise ValueError(_unknown(asked, name, short_names()))
    if not (isinstance(task, type) and issubclass(task, Task)):
        raise ValueError(f"{asked} {name} must be a class derived from Task, but is {shown(task)}")
    return Part("task", name, task, _options(task, given, without=_OF_PROGRAMS), env_id)


def find_core(name: str) -> Part:
    """Find a core: one of `agents.core.CORES`, or "module:name" of a function or class.

    Raises:
        ValueError: If there is none, or it takes no `input_size`.
    """
    if not is_import_name(name) and name not in CORES:
        raise ValueError(_unknown("core", name, CORES))
    factory = factory_of(name)
    first = next(iter(_parameters(factory)), None)
    if first != "input_size":  # what a run folder of somebody else's names is called by no mistake
        raise ValueError(
            f"core {name} must be a function or class whose first argument is input_size"
        )
    return Part("core", name, factory, _core_options(factory))


def find_rule(name: str) -> Part:
    """Find a plasticity rule: one of `RULES`, or "module:Class".

    Raises:
        ValueError: If there is none.
    """
    return _class_part("rule", name, RULES, Rule)


def find_cell(name: str) -> Part:
    """Find a recurrent cell: one of `CELLS`, or "module:Class".

    Raises:
        ValueError: If there is none.
    """
    return _class_part("cell", name, CELLS, Cell)


def all_differences(config: Any) -> dict[str, Any]:
    """Return the settings of a run that differ from the defaults, by their dotted names.

    The settings of parts are compared with the defaults of these very parts, as far as they are
    others than by default. `train.settings.changed` makes the same of them.
    """
    places = {"network.": config.network.parts}
    if hasattr(config, "task_part"):
        places[""] = {"task": config.task_part}
    defaults = flat(type(config)())
    for place, parts in places.items():
        for kind, part in parts.items():
            if defaults[f"{place}{kind}"] != part.name:
                options = part.options.items()
                defaults |= {f"{place}{kind}_settings.{name}": o.default for name, o in options}
    return {name: value for name, value in flat(config).items() if defaults.get(name) != value}


def env_id_of(name: str) -> str | None:
    """Return the id of a task that a name stands for; None if it stands for none.

    Args:
        name: An id, with or without its version, or a short name: the newest version of that. What
            comes before a colon is the module that registers it.

    Raises:
        ValueError: If that module cannot be imported.
    """
    module, colon, rest = name.rpartition(":")
    if colon:
        import_module("task", name, module)
    known = ids()
    if rest in known:
        return rest
    named = [each for each in known if rest in (each.rpartition("-v")[0], _short(each))]
    return max(named, key=_version, default=None)


def short_names() -> list[str]:
    """Return the short names of all registered tasks."""
    return list(dict.fromkeys(map(_short, ids())))


def _class_part(kind: str, name: str, known: Mapping[Any, type], base: type) -> Part:
    if name in known:
        found: Any = known[name]
    elif is_import_name(name):
        found = import_named(kind, name)
    else:
        raise ValueError(_unknown(kind, name, known))
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(
            f"{kind} {name} must be a class derived from {base.__name__}, but is {shown(found)}"
        )
    return Part(kind, name, found, _options(found))


def _unknown(kind: str, name: object, known: Iterable[str]) -> str:
    known = list(known)
    names = ", ".join(map(repr, known))
    return f"{kind} must be one of {names}, or 'module:name', got {shown(name)}{near(name, known)}"


def _options(
    kind: type, given: Mapping[str, Any] | None = None, without: Collection[str] = ()
) -> dict[str, Option]:
    """Return the options of a class: fields of a dataclass, else parameters.

    Args:
        kind: The class.
        given: Defaults in place of its own.
        without: Names to leave out.
    """
    options = {}
    for name, (hint, default) in _declared(kind).items():
        known = _option(hint, (given or {}).get(name, default))
        if known is not None and name not in without:
            options[name] = known
    return options


@cache
def _parameters(factory: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a factory, which are looked up once."""
    return inspect.signature(factory).parameters


@cache
def _core_options(factory: Any) -> dict[str, Option]:
    """Return the options of a core's factory."""
    options = {}
    for option, (kind, default) in core_options(factory).items():
        if (known := _option(kind, default)) is not None:
            options[option] = known
    return options


@cache
def _declared(kind: type) -> dict[str, tuple[Any, Any]]:
    """Return type and default of what a class can be made with, by name."""
    found: dict[str, tuple[Any, Any]] = {}
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        for each in fields(kind):
            default = each.default
            if each.default_factory is not MISSING:
                default = each.default_factory()
            if each.init:
                found[each.name] = (hints[each.name], _EMPTY if default is MISSING else default)
    else:
        many = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        for name, parameter in inspect.signature(kind, eval_str=True).parameters.items():
            if parameter.kind not in many:
                found[name] = (parameter.annotation, parameter.default)
    return found


def _option(hint: Any, default: Any) -> Option | None:
    """Return an option; None if it is of a type that settings cannot hold: it keeps its default."""
    if hint in (Any, _EMPTY):
        hint = type(default)
    hint = settable(hint)
    if hint is None:
        return None
    if default is not _EMPTY:
        try:
            default = checked("it", default, hint)
        except ValueError:
            return None
    return Option(hint, default)


def _documented(factory: Any) -> Iterator[Any]:
    """Yield what may document the options of a factory, the nearest first."""
    if isinstance(factory, type):
        yield from (kind for kind in factory.__mro__ if kind is not object)
        return
    yield factory
    made = getattr(factory, "__annotations__", {}).get("return")
    if isinstance(made, type):  # such as the network that a function makes
        yield made


def option_texts(source: Any) -> dict[str, str]:
    """Return what a docstring, and those of attributes, say of parameters."""
    try:
        parsed = docstring_parser.parse_from_object(source)
    except (OSError, SyntaxError, TypeError):  # without source
        parsed = docstring_parser.parse(inspect.getdoc(source) or "")
    told = {each.arg_name: each.description or "" for each in parsed.params}
    return {name: " ".join(text.split()) for name, text in told.items() if text}


def _short(env_id: str) -> str:
    """Return a short name: "cue-reward" for "PlasticCueReward-v0"."""
    name = env_id.rpartition("-v")[0] or env_id
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name.removeprefix("Plastic")).lower()


def _version(env_id: str) -> int:
    version = env_id.rpartition("-v")[2]
    return int(version) if version.isdecimal() else -1
