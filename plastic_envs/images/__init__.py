"""Labelled images for few-shot tasks, and the places where they come from."""

from plastic_envs.images.base import SPLITS, ImageClasses, ImageSource, Split
from plastic_envs.images.sources import SOURCES, SourceName, load_images, make_source
from plastic_envs.images.sources.arrays import ArrayFile, Arrays
from plastic_envs.images.sources.folders import Folders
from plastic_envs.images.sources.glyphs import Glyphs
from plastic_envs.images.sources.omniglot import Omniglot
from plastic_envs.images.sources.photographs import CIFARFS, MiniImageNet
from plastic_envs.images.sources.rotated import Rotated

__all__ = [
    "CIFARFS",
    "SOURCES",
    "SPLITS",
    "ArrayFile",
    "Arrays",
    "Folders",
    "Glyphs",
    "ImageClasses",
    "ImageSource",
    "MiniImageNet",
    "Omniglot",
    "Rotated",
    "SourceName",
    "Split",
    "load_images",
    "make_source",
]
