"""Things of the user's own, named `module:name`."""

import difflib
import importlib
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from plastic_envs.checks import check_text, shown


def is_import_name(name: object) -> bool:
    """Say whether a name has the form `module:name`."""
    return isinstance(name, str) and ":" in name


def import_named(what: str, name: str) -> Any:
    """Import what a name `module:name` stands for; the name may have dots.

    Args:
        what: What it is to be, for error messages.
        name: Where it is. Programs also find modules of the working directory.

    Raises:
        ValueError: If there is no such thing, or its module cannot be imported.
    """
    module, _, path = check_text(what, name).partition(":")
    found: Any = import_module(what, name, module)
    for part in path.split("."):
        if not hasattr(found, part):
            file = getattr(found, "__file__", None)
            there = "" if file is None else f" ({file})"
            meant = difflib.get_close_matches(part, [n for n in dir(found) if n[0] != "_"], 1)
            hint = f" (did you mean {meant[0]}?)" if meant else ""
            raise ValueError(f"{what} {name}: {module}{there} has no {shown(path)}{hint}")
        found = getattr(found, part)
    return found


def import_module(what: str, name: str, module: str) -> ModuleType:
    """Import the module of a name `module:name`.

    Raises:
        ValueError: If it cannot be imported: which module is missing, or where an error arose.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"{what} must be named module:name, got {shown(name)}")
    importlib.invalidate_caches()  # it may have been written a moment ago
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # the module is the user's own: anything can happen
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module}.".startswith(f"{missing}."):
            raise ValueError(
                f"{what} {name}: there is no module {missing}, neither in the working directory, "
                f"{Path.cwd()}, nor among those that are installed"
            ) from error
        raise ValueError(f"{what} {name}: {module} cannot be imported ({told(error)})") from error


def told(error: BaseException) -> str:
    """Say an error of the user's own code in a line: what it is, and where it arose."""
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if isinstance(error, SyntaxError):
        return said  # which tells its place
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.lineno]
    own = [frame for frame in frames if not frame.filename.startswith("<frozen")]
    return f"{said}, at {own[-1].filename}:{own[-1].lineno}" if own else said
