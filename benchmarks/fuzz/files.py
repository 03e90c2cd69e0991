"""Damaged and hostile files for every reader of images.

Valid files are made once; a case damages one of them at random, or puts a hostile one in its place.
Whatever is read must be images, whatever is refused must name file or folder, and what pickles ask
for must not happen. A damaged cache must be made anew, and give the true images.
"""

import io
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.fuzz.case import Case, WrongError
from benchmarks.fuzz.damage import damaged
from benchmarks.fuzz.hostile import HOSTILE
from plastic_envs.images import (
    CIFARFS,
    SPLITS,
    ArrayFile,
    Folders,
    ImageClasses,
    ImageSource,
    MiniImageNet,
    Omniglot,
    Split,
)
from plastic_envs.images.cache import FOLDER_VARIABLE
from plastic_envs.images.sources.cifar100 import SPLIT_CLASSES


def prepare(folder: Path) -> Callable[[np.random.Generator, Path], Case]:
    """Write valid files of all forms; return what makes cases of them."""
    sources = _write_all(folder)
    os.environ[FOLDER_VARIABLE] = str(folder / "cache")
    truth = {(form, split): s.load(split) for form, s in sources.items() for split in SPLITS}

    def make(rng: np.random.Generator, place: Path) -> Case:
        form, split = str(rng.choice(list(sources))), SPLITS[rng.integers(len(SPLITS))]
        if rng.random() < 0.25:  # damage what the cache keeps of it
            loaded: Any = truth[form, split]
            suffix = str(rng.choice([".npy", ".json"]))
            for kept in (folder / "cache").glob(f"{Path(loaded.images.filename).stem}.*"):
                shutil.copy(kept, _made(place / "cache"))
            [path] = (place / "cache").glob(f"*{suffix}")
            text = f"cache of {form}, load({split!r}), {suffix}: {_damage(path, rng)}"
            return Case(text, lambda: _load(sources[form], split, place, loaded), (), ())
        root = place / "data"
        shutil.copytree(folder / form, root)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        path = files[rng.integers(len(files))]
        text = f"{form}, load({split!r}), {path.relative_to(root)}: {_damage(path, rng)}"
        kind: Any = type(sources[form])
        source = kind(path if path.suffix == ".npz" else root)
        names = (path.name, str(root), path.parent.name)
        return Case(text, lambda: _load(source, split, place), names, (ValueError, OSError))

    return make


def _load(
    source: ImageSource, split: Split, place: Path, truth: ImageClasses | None = None
) -> None:
    """Load images, and see to it that they are some, and that nothing else was written."""
    os.environ[FOLDER_VARIABLE] = str(_made(place / "cache"))
    os.chdir(place)
    before = set(place.iterdir())
    try:
        classes = source.load(split)
    finally:
        if new := set(place.iterdir()) - before:
            raise WrongError(f"{new} were written")
    images, names = classes.images, classes.names
    if images.dtype != np.uint8 or images.ndim != 4 or len(names) != classes.num_classes:
        raise WrongError(f"images {images.dtype} {images.shape}, {len(names)} names")
    int(images[-1].sum())  # which takes a look at the file behind it
    if truth and not (np.array_equal(images, truth.images) and names == truth.names):
        raise WrongError("a damaged cache gives other images")


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _damage(path: Path, rng: np.random.Generator) -> str:
    """Change a file somehow and say how."""
    kinds = {path.suffix[1:]} | ({"zip"} if path.suffix == ".npz" else set())
    if path.suffix in (".pickle", ".pkl", ""):
        kinds = {"pickle"}
    hostile = [name for name in HOSTILE if name.split()[0] in kinds]
    if hostile and rng.random() < 0.4:
        name = str(rng.choice(hostile))
        path.write_bytes(HOSTILE[name](path.read_bytes()))
        return f"hostile, {name}"
    content, how = damaged(path.read_bytes(), rng)
    path.write_bytes(content)
    return how


def _write_all(folder: Path) -> dict[str, ImageSource]:
    """Write a folder of valid files of each form, and return the sources that read them."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 4, 4, 3), np.uint8), np.repeat(np.arange(6), 2)
    for name in (
        "arrays",
        "grey-arrays",
        "cifar",
        "cifar-tar",
        "mini",
        "mini-cache",
        "omniglot-zip",
    ):
        (folder / name).mkdir()
    np.savez(folder / "arrays/images.npz", images=images, labels=labels)
    grey, texts = images[..., 0], labels.astype(str)
    np.savez_compressed(folder / "grey-arrays/images.npz", images=grey, labels=texts)
    for k, part in enumerate(("train", "val", "test")):
        phase = "train_phase_train" if part == "train" else part
        content: dict[Any, Any] = {"data": images, "labels": (labels + 6 * k).tolist()}
        _pickle(folder / f"cifar/CIFAR_FS_{part}.pickle", content, 2)
        _pickle(folder / f"mini/miniImageNet_category_split_{phase}.pickle", content, 4)
        places = {f"n{6 * k + c}": [2 * c, 2 * c + 1] for c in range(6)}
        content = {"image_data": images, "class_dict": places}
        _pickle(folder / f"mini-cache/mini-imagenet-cache-{part}.pkl", content, 3)
    unpacked = folder / "cifar-files/cifar-100-python"
    unpacked.mkdir(parents=True)
    for name in ("train", "test"):
        pixels = rng.integers(0, 256, (100, 3072), np.uint8)
        _pickle(unpacked / name, {b"data": pixels, b"fine_labels": [*range(100)]}, 2)
    names = [name for members in SPLIT_CLASSES.values() for name in members]
    _pickle(unpacked / "meta", {b"fine_label_names": names}, 2)
    with tarfile.open(folder / "cifar-tar/cifar-100-python.tar.gz", "w:gz") as archive:
        archive.add(unpacked, unpacked.name)
    small = "images_background_small1"
    with zipfile.ZipFile(folder / f"omniglot-zip/{small}.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for alphabet in ("Greek", "Korean", "Early_Aramaic", "Sanskrit"):
            for c in (1, 2):
                path = folder / f"omniglot/{small}/{alphabet}/character{c:02}/0001_01.png"
                _image(path, rng.integers(0, 2, (105, 105)) * 255)
                packed.write(path, path.relative_to(folder / "omniglot"))
    for c, suffix in enumerate(("png", "jpg", "bmp", "gif", "webp", "png", "jpg")):
        _image(folder / f"folders/class{c}/1.{suffix}", rng.integers(0, 256, (8, 8, 3)))
    return {
        **{name: ArrayFile(folder / name / "images.npz") for name in ("arrays", "grey-arrays")},
        **{name: CIFARFS(folder / name) for name in ("cifar", "cifar-files", "cifar-tar")},
        **{name: MiniImageNet(folder / name) for name in ("mini", "mini-cache")},
        **{name: Omniglot(folder / name) for name in ("omniglot", "omniglot-zip")},
        "folders": Folders(folder / "folders"),
    }


def _pickle(path: Path, content: Any, protocol: int) -> None:
    path.write_bytes(pickle.dumps(content, protocol))


def _image(path: Path, pixels: Any) -> None:
    content = io.BytesIO()
    form = {".jpg": "jpeg"}.get(path.suffix, path.suffix[1:])
    Image.fromarray(np.asarray(pixels, np.uint8)).save(content, form)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
