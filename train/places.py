"""Where files go that a user names: home directories, and the formats that endings say."""

from collections.abc import Collection
from pathlib import Path


def expanded(text: str) -> Path:
    """Return the path that was typed, `~` and `~user` in place of home directories.

    Raises:
        FileNotFoundError: If it is empty, or nobody knows that home directory. (tyro would take a
            ValueError for another type's turn.)
    """
    if not text:
        raise FileNotFoundError("a path must not be empty, got ''")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(f"{text}: {error}") from error


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
