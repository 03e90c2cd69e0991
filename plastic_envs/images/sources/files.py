"""What sources that read a user's files have in common: a place, which must be there."""

from dataclasses import dataclass
from pathlib import Path

from plastic_envs.images.base import ImageSource
from plastic_envs.images.reading import check_root, expanded


@dataclass(frozen=True)
class FileSource(ImageSource):
    """A source whose images lie in a folder or file of the user's.

    Attributes:
        root: The folder or file; kept as text, so that equal places make equal sources.
    """

    root: str | Path | None = None

    def __post_init__(self) -> None:
        """Check the place, but not yet whether anything is there."""
        object.__setattr__(self, "root", check_root(self.root))

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
        path = expanded(str(self.root))
        if not path.exists():
            raise FileNotFoundError(f"there is no {path.absolute()}; root must be {content}")
        return path
