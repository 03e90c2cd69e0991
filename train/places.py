"""Where files and modules are that a user names: home and working directory, and formats."""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from plastic_envs.images.reading import expanded

DEFAULT_OUT = Path("runs/reproduce")
"""Folder of experiments."""


def typed_path(text: str) -> Path:
    """Return the path that was typed, `~` and `~user` in place of home directories.

    Raises:
        FileNotFoundError: If it is empty, or nobody knows that home directory. (tyro would take a
            ValueError for another type's turn.)
    """
    if not text:
        raise FileNotFoundError("a path must not be empty, got ''")
    try:
        return expanded(text)
    except ValueError as error:
        raise FileNotFoundError(str(error)) from error


def picture_path(path: Path, endings: Collection[str], default: str | None = None) -> Path:
    """Return where a picture goes, checked before there is one.

    Args:
        path: What was asked for.
        endings: Those that can be written, as in `.png`.
        default: Added to a name without any ending.

    Raises:
        IsADirectoryError: If it is a folder.
        ValueError: If its ending is none of those.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it, as {path / 'picture.png'}")
    if not path.suffix and default is not None:
        return picture_path(path.with_name(path.name + default), endings)
    if path.suffix.lower() not in endings:
        known = ", ".join(sorted(endings))
        raise ValueError(f"{path} must end in one of {known}, and not in {path.suffix!r}")
    return path


@contextmanager
def seeing_working_directory() -> Iterator[None]:
    """Let modules of the working directory be imported, after all others.

    So nothing there stands in the way of what is installed, whatever it is called and however it
    is found: a place on `sys.path` would come before packages that are installed as editable.
    """
    finder = _Finder(str(Path.cwd()))
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds modules in one folder."""

    def __init__(self, place: str) -> None:
        self._place = place

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module at the top; those below a package are found where it is."""
        if path is not None:
            return None
        return PathFinder.find_spec(fullname, [self._place], target)

    def invalidate_caches(self) -> None:
        """Let files be seen that are new."""
        PathFinder.invalidate_caches()
