"""Omniglot: characters of fifty alphabets, each drawn by twenty people."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plastic_envs.checks import check_bool, shown
from plastic_envs.images.base import ImageArray, ImageClasses, Split, check_split
from plastic_envs.images.cache import cached, file_stamp, fingerprint
from plastic_envs.images.reading import open_file, open_zip, read_member, reading
from plastic_envs.images.sources.files import FileSource
from plastic_envs.images.sources.folders import check_room, check_size, files_stamp, open_image
from plastic_envs.images.sources.rotated import with_rotations

FULL_VALIDATION = ("Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)")
"""Alphabets of the full background set that are for validation (as in Torchmeta)."""

SMALL_VALIDATION = ("Early_Aramaic", "Tagalog")
SMALL_TEST = ("Balinese", "Sanskrit")
"""Alphabets of the two small background sets; one of each kind is in either set."""

_VERSION = 1  # raise it with every change to the images
_BACKGROUND, _EVALUATION = "images_background", "images_evaluation"
_SMALL = ("images_background_small1", "images_background_small2")
_MEMBER = re.compile(r"([^/.][^/]*)/(character\d+)/([^/.][^/]*\.png)")
_SIDE = 105  # of a drawing as it is published, px
_MOST_PACKED = 2**26  # bytes of an archive; the largest that is published has 10 MB
_MOST_EACH, _MOST_ALL = 2**17, 2**28  # bytes of a drawing, of all drawings: 300 and 6 MB there
_CONTENT = (
    f"the folder with {_BACKGROUND}.zip and {_EVALUATION}.zip, with {_SMALL[0]}.zip or "
    f"{_SMALL[1]}.zip, or with what is in them unpacked. They are published in the folder `python` "
    "of github.com/brendenlake/omniglot"
)


@dataclass(frozen=True)
class Omniglot(FileSource):
    """Characters of many alphabets, 20 drawings of each: bright ink (255) on black.

    A class is a character. Splits are made of whole alphabets. With the full set, test is the
    evaluation set (20 alphabets, 659 characters), validation the five alphabets
    `FULL_VALIDATION` of the background set and train its other 25. Without it, the alphabets of the
    small background sets are taken (eight in both together; Greek and Latin are in either):
    `SMALL_TEST`, `SMALL_VALIDATION`, and train Greek, Japanese (katakana), Korean and Latin. Both
    small sets give 137 / 39 / 66 characters; either alone has an alphabet for validation and one
    for test.

    Data: Lake, Salakhutdinov and Tenenbaum, 2015, "Human-level concept learning through
    probabilistic program induction", Science 350. Further classes by rotation: Santoro et al., 2016
    (arXiv 1605.06065).

    Attributes:
        root: Folder with the archives, or with what is in them.
        size: Height and width to which the drawings (105) are resized, by averages over areas.
        rotations: Whether the training characters turned by 90, 180 and 270 degrees are classes as
            well. Those of validation and test are never turned.
    """

    size: int = 28
    rotations: bool = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        object.__setattr__(self, "size", check_size(self.size))
        object.__setattr__(self, "rotations", check_bool("rotations", self.rotations))

    def load(self, split: Split) -> ImageClasses:
        """Read the characters of a split."""
        check_split(split)
        places = _find_sets(self.find(_CONTENT), split)
        rotated = self.rotations and split == "train"
        stamps = [
            file_stamp(place) if place.is_file() else files_stamp(place, _drawings(place).values())
            for place in places
        ]
        state = fingerprint(_VERSION, self.size, rotated, split, stamps)

        def read() -> ImageClasses:
            with reading(", ".join(map(str, places)), "cannot be read"):
                return _read_characters(places, split, self.size, rotated)

        return cached(f"omniglot-{split}-{state}", read)


def _find_sets(root: Path, split: Split) -> list[Path]:
    """Return the archives or folders that hold the characters of a split."""
    full = {name: _find(root, name) for name in (_BACKGROUND, _EVALUATION)}
    if any(full.values()):
        needed = _EVALUATION if split == "test" else _BACKGROUND
        place = full[needed]
        if place is None:
            raise FileNotFoundError(
                f"{root} has no {needed}.zip for the split {split!r}; root must be {_CONTENT}"
            )
        return [place]
    small = [place for name in _SMALL if (place := _find(root, name))]
    if not small:
        raise FileNotFoundError(f"{root} has nothing of Omniglot; root must be {_CONTENT}")
    return small


def _find(root: Path, name: str) -> Path | None:
    archive, folder = root / f"{name}.zip", root / name
    return archive if archive.is_file() else folder if folder.is_dir() else None


def _in_split(place: Path, alphabet: str, split: Split) -> bool:
    if place.stem == _EVALUATION:
        return True
    if place.stem == _BACKGROUND:
        return (alphabet in FULL_VALIDATION) == (split == "validation")
    if split == "train":
        return alphabet not in SMALL_VALIDATION + SMALL_TEST
    return alphabet in (SMALL_TEST if split == "test" else SMALL_VALIDATION)


def _drawings(folder: Path) -> dict[str, Path]:
    """Return the drawings in a folder by their names, such as `Greek/character01/0394_01.png`."""
    paths = sorted(folder.glob("*/character*/*.png"))
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path for name, path in named.items() if _MEMBER.fullmatch(name)}


def _read_set(place: Path, split: Split) -> Iterator[tuple[str, io.BytesIO]]:
    """Yield name and content of each drawing of a split in an archive or folder."""
    if place.is_dir():
        for name, path in _drawings(place).items():
            if _in_split(place, name.split("/")[0], split):
                with open_file(path, "cannot be read as an image", _MOST_EACH) as file:
                    yield name, io.BytesIO(file.read())
        return
    left = _MOST_ALL
    with open_zip(place, "is damaged", _MOST_PACKED) as (archive, _):
        for member in sorted(set(archive.namelist())):
            name = member.removeprefix(f"{place.stem}/")
            if _MEMBER.fullmatch(name) and _in_split(place, name.split("/")[0], split):
                content = read_member(archive, member, min(_MOST_EACH, left))
                left -= len(content)
                yield name, io.BytesIO(content.tobytes())


def _read_characters(places: list[Path], split: Split, size: int, rotated: bool) -> ImageClasses:
    characters: dict[str, list[ImageArray]] = {}
    seen: set[str] = set()  # alphabets of earlier sets: the small ones share two
    count = 0
    for place in places:
        alphabets = set()
        for name, content in _read_set(place, split):
            alphabet, character, _ = name.split("/")
            if alphabet not in seen:
                alphabets.add(alphabet)
                drawing = _read_drawing(content, f"{place}: {name}", size)
                characters.setdefault(f"{alphabet}/{character}", []).append(drawing)
                count += 1
                check_room(count * (4 if rotated else 1), size, size, 1)
        seen |= alphabets
    if not characters:
        raise ValueError(f"it has no drawings for the split {split!r}; root must be {_CONTENT}")
    counts = {name: len(drawings) for name, drawings in characters.items()}
    if len(set(counts.values())) > 1:
        few = min(counts, key=counts.__getitem__)
        raise ValueError(f"it is not whole: {shown(few)} has only {counts[few]} drawings")
    names = sorted(characters)
    images = np.concatenate([np.stack(characters[name]) for name in names])
    offsets = np.arange(0, len(images) + 1, counts[names[0]], dtype=np.int64)
    classes = ImageClasses(images, offsets, tuple(names))
    return with_rotations(classes) if rotated else classes


def _read_drawing(content: io.BytesIO, name: str, size: int) -> ImageArray:
    """Return a drawing [size, size, 1]: its ink is black when published, and bright here."""
    from PIL import Image, ImageOps

    image = open_image(content, name, (_SIDE, _SIDE))
    bright = ImageOps.invert(image.convert("L"))
    return np.asarray(bright.resize((size, size), Image.Resampling.BOX), np.uint8)[..., None]
