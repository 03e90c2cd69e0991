"""What sources that read a user's files have in common: a place, which must be there."""

import os
from dataclasses import dataclass
from pathlib import Path

from plastic_envs.images.base import ImageSource


@dataclass(frozen=True)
class FileSource(ImageSource):
    """A source whose images lie in a folder or file of the user's.

    Attributes:
        root: The folder or file; kept as text, so that equal places make equal sources.
    """

    root: str | Path | None = None

    def __post_init__(self) -> None:
        """Check the place, but not yet whether anything is there."""
        if self.root is None:
            return
        if not isinstance(self.root, str | os.PathLike) or not os.fspath(self.root):
            raise ValueError(f"root must be a path, got {self.root!r}")
        object.__setattr__(self, "root", os.fspath(self.root))

    def find(self, content: str) -> Path:
        """Return the place of the data.

        Args:
            content: What must be there, and how to get it.

        Raises:
            ValueError: If there is no root.
            FileNotFoundError: If nothing is there.
        """
        if self.root is None:
            raise ValueError(f"where are the images? Give root=, {content}")
        path = Path(self.root).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"there is no {path.absolute()}; root must be {content}")
        return path
