"""Whether the package `agents` is this project's, and whole.

Others install a package of that name, too, such as `openai-agents`. In one environment each
overwrites files of the other: what is imported then is a matter of which came last.
"""

import importlib.util
from pathlib import Path

_NAMES = "builds core importing memories plastic sb3 tensors tree vision"

AGENTS = frozenset(_NAMES.split())
"""What the package holds."""

REMEDY = (
    "Another project, such as openai-agents, installs a package of the same name, and in one "
    "environment each overwrites files of the other: keep one of them in an environment of its "
    "own. To mend this one, pip uninstall openai-agents (or whatever else brought it), then "
    "install plastic-envs again, with pip's --force-reinstall --no-deps."
)


def check_agents() -> None:
    """Look at the package `agents` without importing it.

    Raises:
        ImportError: If it is another project's, or missing.
    """
    spec = importlib.util.find_spec("agents")
    if spec is None or spec.loader is None or spec.origin is None:
        raise ImportError(f"the package agents of plastic-envs is missing or not whole. {REMEDY}")
    get_source = getattr(spec.loader, "get_source", None)
    source = None if get_source is None else get_source("agents")
    if source is not None and "PlasticNetwork" not in source:
        raise ImportError(f"{spec.origin} is not of plastic-envs. {REMEDY}")


def foreign_files(folder: Path) -> list[str]:
    """Return what lies in the folder of `agents` and is another project's.

    In a copy of the repository there is nothing of the kind: no other project is installed there.
    """
    if (folder.parent / "pyproject.toml").is_file():
        return []
    packages = [path.parent.name for path in folder.glob("*/__init__.py")]
    modules = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    return sorted({*packages, *modules} - AGENTS)
