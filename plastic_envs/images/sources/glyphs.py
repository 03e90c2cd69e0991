"""Glyphs: letters of many scripts, drawn anew from the fonts that Matplotlib brings."""

import unicodedata
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plastic_envs.images.base import ImageArray, ImageClasses, ImageSource, Split, check_split
from plastic_envs.images.cache import cached, fingerprint

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

# Matplotlib and Pillow are imported where they draw: most processes only read the cache.

FloatArray = NDArray[np.float32]

SCRIPTS: dict[Split, tuple[str, ...]] = {
    "train": ("LATIN", "GREEK", "COPTIC", "CYRILLIC", "OLD ITALIC", "LISU", "CANADIAN SYLLABICS"),
    "validation": ("ARMENIAN", "ARABIC", "OGHAM", "LAO"),
    "test": ("GEORGIAN", "HEBREW", "TIFINAGH", "NKO"),
}
"""Scripts of each split. Those that share letters (Latin A, Greek Α, Cyrillic А) are together."""

DRAWINGS = 20
"""Drawings of each character."""

SIZE = 28
"""Height and width of a drawing."""

_VERSION = 1  # raise it with every change to the drawings
_FACES = tuple(
    f"DejaVu{family}{style}.ttf"
    for family, slanted in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)

_EM = 96  # size at which glyphs are rendered before they are distorted, px
_OVERSAMPLING = 2
_FILL = 0.68  # larger side of an undistorted letter, in sizes of the drawing
_ROTATION = np.deg2rad(20)
_SCALE = (0.75, 1.2)  # of width and height, each for itself
_SHEAR = 0.3
_SHIFT = 0.08  # in sizes of the drawing, like the next
_ELASTIC = 0.07  # of each node of a grid, smooth between them
_GRID = 5
_THRESHOLD = (0.2, 0.5)  # of what is ink in the blurred letter: the weight of the stroke
_LOOK = 24  # side of the image by which letters are compared
_LOOKALIKE = 0.9  # correlation above which two letters are taken for the same


@dataclass(frozen=True)
class Glyphs(ImageSource):
    """Letters of 15 scripts from the DejaVu fonts, drawn 20 times each, 28×28, light on dark.

    Every drawing has a face of its own (up to 12: sans, mono, serif; bold, oblique), rotation
    (±20°), width and height (0.75 to 1.2), shear (±0.3), shift (±8 %), elastic distortion (nodes of
    a 5×5 grid moved by ±7 %) and weight of the stroke. Letters that are another letter with an
    accent are left out, and so are those that look like an earlier one: Greek Α beside Latin A.
    The splits are of whole scripts: 808 classes of 7 scripts to train, 172 of 4 to validate, 178 of
    4 to test.

    The drawings are made once (in seconds) and kept in the user's cache folder. They are the same
    on every machine with the same versions of Matplotlib's fonts and of Pillow.

    Example:
        >>> Glyphs().load("test").image_shape
        (28, 28, 1)
    """

    def load(self, split: Split) -> ImageClasses:
        """Return the drawings of a split; they are made when first asked for."""
        import PIL

        check_split(split)
        digests = [sha256(path.read_bytes()).hexdigest() for path in _font_files()]
        state = fingerprint(_VERSION, digests, PIL.__version__)
        return cached(f"glyphs-{split}-{state}", lambda: draw(letters(split)))


def draw(characters: str) -> ImageClasses:
    """Draw each character 20 times; the drawings of a character do not depend on the others."""
    images = np.concatenate([_distort(_render(c), _random(c)) for c in characters])
    offsets = np.arange(0, len(images) + 1, DRAWINGS, dtype=np.int64)
    return ImageClasses(images[..., None], offsets, tuple(map(unicodedata.name, characters)))


def letters(split: Split) -> str:
    """Return the letters of a split, without those that look like an earlier one of any split."""
    return _letters()[split]


@cache
def _letters() -> dict[Split, str]:
    kept: dict[Split, str] = {}
    seen = np.empty((0, _LOOK * _LOOK), np.float32)
    for split, scripts in SCRIPTS.items():
        kept[split] = ""
        for character in _candidates(scripts):
            look = _look(character)
            if (seen @ look).max(initial=0) < _LOOKALIKE:
                seen = np.vstack([seen, look])
                kept[split] += character
    return kept


def _candidates(scripts: tuple[str, ...]) -> str:
    """Return the letters of some scripts that a face has, in the order of scripts and codes."""
    found = []
    for code in sorted(set().union(*(face.codes for face in _faces()))):
        character = chr(code)
        name = unicodedata.name(character, "")
        script = next((i for i, s in enumerate(scripts) if name.startswith(f"{s} ")), None)
        if (
            script is not None
            and unicodedata.category(character) in ("Lu", "Ll", "Lo")
            and not unicodedata.decomposition(character)
        ):
            found.append((script, character))
    return "".join(character for _, character in sorted(found))


class _Face(NamedTuple):
    font: "FreeTypeFont"
    codes: frozenset[int]


def _font_files() -> list[Path]:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = [folder / name for name in _FACES]
    if missing := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(
            f"glyphs are drawn from the DejaVu fonts that Matplotlib ships, but there is no "
            f"{missing[0]}: install Matplotlib anew, from a build that has them"
        )
    return files


@cache
def _faces() -> list[_Face]:
    from matplotlib.ft2font import FT2Font
    from PIL import ImageFont

    layout = ImageFont.Layout.BASIC
    return [
        _Face(
            ImageFont.truetype(str(path), _EM, layout_engine=layout),
            frozenset(FT2Font(str(path)).get_charmap()),
        )
        for path in _font_files()
    ]


def _render(character: str, limit: int = len(_FACES)) -> list[FloatArray]:
    """Render a character, cut to its ink, in each face that has it."""
    from PIL import Image, ImageDraw

    bitmaps: list[FloatArray] = []
    for face in _faces():
        if ord(character) in face.codes and len(bitmaps) < limit:
            left, top, right, bottom = map(int, face.font.getbbox(character))
            image = Image.new("L", (right - left + 4, bottom - top + 4))
            ImageDraw.Draw(image).text((2 - left, 2 - top), character, 255, face.font)
            box = image.getbbox()
            if box:
                bitmaps.append(np.asarray(image.crop(box), np.float32) / np.float32(255))
    return bitmaps


def _look(character: str) -> FloatArray:
    """Return a letter as a vector of length 1, its inner products being correlations."""
    [bitmap] = _render(character, 1)
    steps = (np.arange(_LOOK, dtype=np.float32) - (_LOOK - 1) / 2) / (_LOOK - 4)
    y, x = np.broadcast_arrays(steps[:, None], steps)
    image = _blur(_sample([bitmap], np.zeros(1, np.int64), x[None], y[None]))[0]
    image -= image.mean()
    return np.asarray(image / np.linalg.norm(image)).ravel()


def _sample(
    bitmaps: list[FloatArray], choice: NDArray[np.int64], x: FloatArray, y: FloatArray
) -> FloatArray:
    """Read bitmaps between their pixels.

    Args:
        bitmaps: Letters, each cut to its ink.
        choice: [N], which bitmap an image is made of.
        x: [N, height, width], where each pixel is read, in larger sides of the bitmap from its
            centre.
        y: Likewise.

    Returns:
        [N, height, width].
    """
    sides = np.array([max(bitmap.shape) for bitmap in bitmaps])
    canvas = np.zeros((len(bitmaps), sides.max() + 4, sides.max() + 4), np.float32)
    shift = np.zeros((len(bitmaps), 2), np.float32)
    for page, bitmap, offset in zip(canvas, bitmaps, shift, strict=True):
        start = (np.array(canvas.shape[1:]) - bitmap.shape) // 2
        page[start[0] : start[0] + bitmap.shape[0], start[1] : start[1] + bitmap.shape[1]] = bitmap
        offset[:] = start + (np.array(bitmap.shape) - 1) / 2
    scale = sides[choice].astype(np.float32)[:, None, None]
    limit = np.float32(canvas.shape[1] - 1.001)
    centre = shift[choice][..., None, None]
    row = np.clip(y * scale + centre[:, 0], 0, limit)
    column = np.clip(x * scale + centre[:, 1], 0, limit)
    top, left = row.astype(np.intp), column.astype(np.intp)
    down, right = row - top, column - left
    width = canvas.shape[1]
    index = (choice[:, None, None] * width + top) * width + left
    flat = canvas.ravel()
    upper = flat[index] * (1 - right) + flat[index + 1] * right
    index += width
    lower = flat[index] * (1 - right) + flat[index + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)


def _blur(images: FloatArray) -> FloatArray:
    """Blur images by the binomial filter of size 3."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return np.asarray((rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16)


def _random(character: str) -> np.random.Generator:
    return np.random.default_rng([_VERSION, ord(character)])


def _distort(bitmaps: list[FloatArray], rng: np.random.Generator) -> ImageArray:
    """Draw a letter, given in several faces, 20 times; uint8 [20, 28, 28]."""

    def uniform(low: float, high: float, *shape: int) -> FloatArray:
        return (low + (high - low) * rng.random((DRAWINGS, *shape))).astype(np.float32)

    faces = np.argsort(rng.random(len(bitmaps)))[np.arange(DRAWINGS) % len(bitmaps)]
    angle = uniform(-_ROTATION, _ROTATION)
    scale = _FILL * np.exp(uniform(*np.log(_SCALE), 2))
    shear = uniform(-_SHEAR, _SHEAR)
    shift = uniform(-_SHIFT, _SHIFT, 2)
    grid = uniform(-_ELASTIC, _ELASTIC, 2, _GRID, _GRID)
    threshold = uniform(*_THRESHOLD, 1, 1)

    n = SIZE * _OVERSAMPLING
    steps = ((np.arange(n) + 0.5) / n - 0.5).astype(np.float32)
    near = 1 - np.abs((steps[:, None] + 0.5) * (_GRID - 1) - np.arange(_GRID, dtype=np.float32))
    near = np.clip(near, 0, 1)
    weights = near * near * (3 - 2 * near)
    bend = weights @ grid @ weights.T  # [drawings, 2, n, n]

    x = steps + bend[:, 0] - shift[:, :1, None]
    y = steps[:, None] + bend[:, 1] - shift[:, 1:, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    x, y = cos * x - sin * y, sin * x + cos * y
    x = (x + shear[:, None, None] * y) / scale[:, :1, None]
    y = y / scale[:, 1:, None]
    image = _blur(_sample(bitmaps, faces, x, y))
    image = np.clip(0.5 + 3 * (image - threshold), 0, 1)
    image = image.reshape(DRAWINGS, SIZE, _OVERSAMPLING, SIZE, _OVERSAMPLING).mean((2, 4))
    drawings: ImageArray = np.rint(255 * image).astype(np.uint8)
    return drawings
