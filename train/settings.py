"""Settings as data: checking them by their types, reading them from JSON, changing some of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from plastic_envs.checks import check_bool, check_choice, check_int, check_number, shown

_T = TypeVar("_T")

FORMAT = "plastic-run-2"
"""What settings of runs are called in their files."""

RUN_LIMITS: dict[str, dict[str, Any]] = {
    "steps": {"minimum": 0},
    "seed": {"minimum": 0, "maximum": 2**63 - 1},
    "threads": {"minimum": 1, "maximum": 1024},
}
"""Bounds of what every run is told."""

_ANY_INTEGER = {"minimum": 1 - 2**63, "maximum": 2**63 - 1}


def check_settings(settings: Any, **limits: dict[str, Any]) -> None:
    """Check that settings are of the types that they are declared with, and within bounds.

    NumPy's numbers become Python's. Integers are at least 0, unless their limits say otherwise.

    Args:
        settings: A frozen dataclass.
        **limits: Arguments of `check_int` or `check_number` for a setting, by its name.

    Raises:
        ValueError: If one is not.
    """
    for name, hint in _hints(type(settings)).items():  # type: ignore[arg-type]
        value = getattr(settings, name)
        if not is_dataclass(hint):
            value = checked(name, value, hint, limits.get(name, {}))
        elif not isinstance(value, hint):  # type: ignore[arg-type]
            raise ValueError(f"{name} must be {_written(hint)}, got {shown(value)}")
        object.__setattr__(settings, name, value)


def checked(name: str, value: Any, hint: Any, limits: Mapping[str, Any] = _ANY_INTEGER) -> Any:
    """Return a value as its type has it: plain, so that JSON brings it back as it is.

    Args:
        name: Of the setting.
        value: A number, text, None, or a container of such; a list will do for a tuple.
        hint: Its type, one of those that `settable` returns.
        limits: Arguments of `check_int`, or of `check_number`, whichever it takes.

    Raises:
        ValueError: If it is of another type, or out of bounds.
    """
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _checked_option(name, value, hint, limits)
    if origin is Literal:
        return check_choice(name, value, options)
    if hint is int:
        return check_int(name, value, **limits)
    if hint is float:
        return check_number(name, value, **({} if limits is _ANY_INTEGER else limits))
    if hint is bool:
        return check_bool(name, value)
    if hint is Any or (hint is NoneType and value is None):
        return value
    if isinstance(value, str if hint is str else str | Path) and hint in (str, Path):
        return str(value)
    if origin is dict and isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {key: checked(f"{name}[{key!r}]", v, options[1]) for key, v in value.items()}
    if origin in (list, tuple) and isinstance(value, list | tuple):
        hints = [options[0]] * len(value) if origin is list or ... in options else list(options)
        if len(hints) == len(value):
            parts = enumerate(zip(value, hints, strict=True))
            return origin(checked(f"{name}[{i}]", part, each) for i, (part, each) in parts)
    raise ValueError(f"{name} must be {_written(hint)}, got {shown(value)}")


def settable(hint: Any) -> Any:
    """Return what of a type settings can hold, and a command line can say; None if that is nothing.

    That is numbers, texts, paths, choices, None, and lists, tuples and dictionaries of them.
    """
    origin, options = get_origin(hint), get_args(hint)
    if hint in (int, float, bool, str, Path, NoneType):
        return hint
    if origin is Literal:
        return hint if all(isinstance(o, int | str | bool | None) for o in options) else None
    if origin in (Union, UnionType):
        kept = [known for option in options if (known := settable(option)) is not None]
        return Union[tuple(kept)] if set(kept) - {NoneType} else None  # noqa: UP007 (of a list)
    if origin in (list, tuple) or (origin is dict and options[0] is str):
        inner = [option for option in options if option is not ...]
        return hint if inner and all(settable(option) == option for option in inner) else None
    return None


def read_settings(text: str) -> Any:
    """Read JSON, in which there are neither infinite numbers nor such that are none.

    Raises:
        ValueError: If it is not JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number of JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class OtherFormatError(ValueError):
    """Settings were written by a version that had them in another form."""


def read_run(text: str) -> dict[str, Any]:
    """Read the settings of a run, which say what their form is.

    Raises:
        ValueError: If it is not JSON, or no object, or its form is another one.
    """
    data = read_settings(text)
    if not isinstance(data, dict):
        raise ValueError(f"settings must be an object, got {shown(data)}")
    if (found := data.pop("format", None)) != FORMAT:
        raise OtherFormatError(
            f"these are not settings of this version of plastic-envs, whose format is {FORMAT!r}, "
            f"but {'of none' if found is None else shown(found)}: use the version that wrote them, "
            "or train anew"
        )
    return data


def from_dict(cls: type[_T], data: Any, place: str = "") -> _T:
    """Make a dataclass, with those in it, from what `dataclasses.asdict` returned.

    Args:
        cls: The dataclass, which checks its settings.
        data: The settings by their names.
        place: What they are a part of, for errors.

    Raises:
        ValueError: If there is no such setting, or one does not fit.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{place}settings of {cls.__name__} must be an object, got {shown(data)}")
    made = {}
    hints = get_type_hints(cls)
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    for name, value in data.items():
        if name not in known:
            raise ValueError(
                f"{place}{cls.__name__} has no setting {shown(name)}{near(name, known)}"
            )
        nested = is_dataclass(hints[name])
        made[name] = from_dict(hints[name], value, f"{name}: ") if nested else value
    return cls(**made)


def changed(settings: _T, changes: Mapping[str, Any]) -> _T:
    """Return settings with some changed, given by their dotted names.

    Where a part gets another name, as in `{"core": "gru"}`, its own settings begin from the
    defaults: those that the changes name are all that are given.

    Args:
        settings: A dataclass, in which there may be others, and dictionaries.
        changes: Values by names such as `"network.core_settings.hidden_size"`.

    Raises:
        ValueError: If there is no such setting, or one does not fit.
    """
    known = [f.name for f in fields(settings)]  # type: ignore[arg-type]
    whole: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        if head not in known:
            what = type(settings).__name__
            raise ValueError(f"{what} has no setting {shown(head)}{near(head, known)}")
        if rest:
            inner.setdefault(head, {})[rest] = value
        else:
            whole[head] = value
    for head, value in list(whole.items()):
        own = f"{head}_settings"
        if own in known and value != getattr(settings, head):
            whole.setdefault(own, {})
    for head, values in inner.items():
        before = whole.get(head, getattr(settings, head))
        whole[head] = {**before, **values} if isinstance(before, dict) else changed(before, values)
    return replace(settings, **whole)  # type: ignore[type-var]


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Return all settings of a dataclass by their dotted names."""
    data = settings if isinstance(settings, Mapping) else asdict(settings)
    found: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def near(name: object, known: Any) -> str:
    """Return, for the end of an error message, which of some names may have been meant."""
    matches = get_close_matches(str(name), list(known), 1)
    return f" (did you mean {matches[0]}?)" if matches else ""


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields, which are looked up once."""
    return get_type_hints(kind)


def _checked_option(name: str, value: Any, hint: Any, limits: Mapping[str, Any]) -> Any:
    options = [option for option in get_args(hint) if option is not NoneType]
    if value is None and len(options) < len(get_args(hint)):
        return None
    if len(options) == 1:
        return checked(name, value, options[0], limits)
    for option in options:
        try:
            return checked(name, value, option, limits)
        except ValueError:
            continue
    raise ValueError(f"{name} must be {_written(hint)}, got {shown(value)}")


def _written(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
