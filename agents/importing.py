"""Things of the user's own, named `module:name`."""

import importlib
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
    if not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
        raise ValueError(f"{what} must be named module:name, got {shown(name)}")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # the module is the user's own: anything can happen
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{what} {name}: {module} cannot be imported ({said[:300]})") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{what} {name}: {module} has no {path}")
        found = getattr(found, part)
    return found
