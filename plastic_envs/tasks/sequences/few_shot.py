"""Few-shot image classification: learn new classes from a few labelled images of each."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.checks import check_bool, check_path
from plastic_envs.images import (
    SOURCES,
    SPLITS,
    ImageClasses,
    ImageSource,
    Split,
    load_images,
    make_source,
)
from plastic_envs.images.augment import DRAWS, augment
from plastic_envs.images.distort import distort
from plastic_envs.rendering.few_shot import Album, few_shot_picture, few_shot_text
from plastic_envs.rendering.view import View
from plastic_envs.spaces import BoolArray, FloatArray, Observations, at
from plastic_envs.tasks.base import Seed
from plastic_envs.tasks.draws import integers, shuffled, split
from plastic_envs.tasks.sequence import Episodes, SequenceTask

QuerySampling = Literal["balanced", "independent"]
LabelMode = Literal["with_image", "delayed"]


class IndexedEpisodes(NamedTuple):
    """Episodes whose images are named instead of shown.

    Attributes:
        indices: int64 [B, T], places in `FewShot.images.images`.
        labels: float32 [B, T, n_way], the labels as they are shown: one-hot, or zeros.
        targets: int64 [B, T], the label of the image of each step.
        scored: bool [B, T], true at queries.
    """

    indices: NDArray[np.int64]
    labels: FloatArray
    targets: NDArray[np.int64]
    scored: BoolArray


@dataclass(frozen=True)
class FewShot(SequenceTask):
    """Learn classes of images from a few labelled examples, then name further images of them.

    ## Description
    N-way K-shot classification as in Duan et al. (arXiv 2302.03235; the protocol is that of
    Vinyals et al. 2016). Every episode draws `n_way` classes of the split and gives them the labels
    0 … n_way - 1 at random. First come `k_shot` images of each, in random order, with their label;
    then `n_query` other images of the same classes, whose label must be told. Classes of different
    splits are disjoint, so a network that is tested has never seen the classes.

    ## Observation space
    `Dict` of `"image"`: `Box(0, 255)`, uint8 `[height, width, channels]`, and `"label"`:
    `Box(0, 1)`, float32 `[n_way]`: one-hot for a support image, zeros for a query. With
    `label_mode="delayed"` the label comes a step later, beside the next image. With `flat=True`
    one `Box(0, 1)`, float32 `[height * width * channels + n_way]`: pixels / 255, then the label.

    ## Action space
    `Discrete(n_way)`: the label of this image.

    ## Reward
    At queries 1 for the right label, otherwise 0.

    ## Starting state
    Classes, their labels, their images and all orders are drawn uniformly, anew for each episode.
    With `query_sampling="balanced"` (the paper's) the queries hold each class equally often (as
    nearly as `n_query` allows) and no image twice, so that the last ones can be guessed by
    exclusion; with `"independent"` each query is drawn for itself among the images that were not
    shown as support.

    ## Episode end
    Terminates after `n_way * k_shot + n_query` steps.

    ## Scores
    Accuracy over all queries, and over the first query alone, which is what the paper reports and
    which nothing but the support can tell. Without memory and for random answers: 1 / n_way.

    ## Version history
    - v0: first version.

    Attributes:
        n_way: Number of classes of an episode, at least 2.
        k_shot: Labelled images of each class, at least 1.
        n_query: Queries, at least 1. The paper has 5.
        query_sampling: `"balanced"` or `"independent"`.
        source: Where the images come from: `"glyphs"` (the default; needs no data), `"omniglot"`,
            `"cifar-fs"`, `"mini-imagenet"`, `"arrays"`, `"folders"`, or an `ImageSource`.
        root: Folder or file of the data, for a source that is named and needs it.
        image_size: Height and width to which the images of `"omniglot"` and `"folders"` are
            resized; folders with images of different sizes need it. Default: 28 for Omniglot, and
            as they are for folders.
        rotations: Whether the training classes turned by 90, 180 and 270 degrees are classes as
            well, of a source that is named. Default: of `"omniglot"` alone. (`Rotated` does it for
            an `ImageSource`.)
        split: `"train"`, `"validation"` or `"test"`.
        label_mode: `"with_image"` or `"delayed"`.
        augment: Change every image at random (`plastic_envs.images.augment`): for photographs.
        distort: Rotate, scale, shear and shift every image at random, by little
            (`plastic_envs.images.distort`): for drawings.
        flat: Give observations as one vector, for libraries that know no dictionaries.
    """

    n_way: int = 5
    k_shot: int = 1
    n_query: int = 5
    query_sampling: QuerySampling = "balanced"
    source: str | ImageSource = "glyphs"
    root: str | Path | None = None
    split: Split = "train"
    label_mode: LabelMode = "with_image"
    augment: bool = False
    flat: bool = False
    image_size: int | None = None
    rotations: bool | None = None
    distort: bool = False

    score_name: ClassVar[str] = "accuracy, all queries"
    oracle_name: ClassVar[str] = "nearest neighbour on pixels"

    def __post_init__(self) -> None:
        """Check the arguments, those of the source among them; reads the images."""
        self.check_integers(n_way=2, k_shot=1, n_query=1)
        self.check_choices(
            query_sampling=get_args(QuerySampling), split=SPLITS, label_mode=get_args(LabelMode)
        )
        if isinstance(self.source, str):
            self.check_choices(source=SOURCES)
        for name in ("augment", "distort", "flat"):
            object.__setattr__(self, name, check_bool(name, getattr(self, name)))
        if self.root is not None:  # equal places make equal tasks
            object.__setattr__(self, "root", check_path("root", self.root))
        classes, counts = self.images.num_classes, self.images.counts
        if self.n_way > classes:
            raise ValueError(
                f"n_way={self.n_way}, but there are {classes} classes in the {self.split} split"
            )
        if self._images_per_class > counts.min():
            name = self.images.names[counts.argmin()]
            raise ValueError(
                f"k_shot={self.k_shot} with n_query={self.n_query} takes {self._images_per_class} "
                f"images of a class, but {name!r} of the {self.split} split has {counts.min()}"
            )
        self.check_size()

    @property
    def images(self) -> ImageClasses:
        """The classes of the split; all tasks of a process share one copy."""
        source = make_source(self.source, self.root, self.image_size, self.rotations)
        return load_images(source, self.split)

    @property
    def num_support(self) -> int:
        """Number of labelled images of an episode."""
        return self.n_way * self.k_shot

    @property
    def num_steps(self) -> int:
        return self.num_support + self.n_query

    @property
    def observation_space(self) -> spaces.Space[Any]:
        shape = self.images.image_shape
        if self.flat:
            return spaces.Box(0, 1, (int(np.prod(shape)) + self.n_way,), np.float32)
        return spaces.Dict(
            image=spaces.Box(0, 255, shape, np.uint8),
            label=spaces.Box(0, 1, (self.n_way,), np.float32),
        )

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(self.n_way)

    @property
    def chance_score(self) -> float:
        return 1 / self.n_way

    @property
    def random_score(self) -> float:
        return 1 / self.n_way

    def for_split(self, split: Split) -> Self:
        train = split == "train"
        return replace(
            self, split=split, augment=self.augment and train, distort=self.distort and train
        )

    def oracle(self, observations: Observations) -> NDArray[np.int64]:
        """Name the class of the nearest support image: a baseline, far below a trained network."""
        images, labels = self.images_and_labels(observations)
        support = slice(self.num_support)
        shown = labels[:, support].argmax(axis=-1)
        pixels = images.reshape(*images.shape[:2], -1).astype(np.float32)
        products = pixels @ pixels[:, support].swapaxes(1, 2)
        squares = np.einsum("bsp,bsp->bs", pixels[:, support], pixels[:, support])
        distances = squares[:, None] - 2 * products  # up to a number that is the same for all
        late = 1 if self.label_mode == "delayed" else 0
        known = np.arange(self.num_steps)[:, None] >= np.arange(self.num_support) + late
        nearest = np.where(known, distances, np.inf).argmin(axis=-1)
        answers = np.take_along_axis(shown, nearest, axis=1)
        return np.where(known.any(axis=-1), answers, 0)

    def images_and_labels(
        self, observations: Observations
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Take observations apart.

        Args:
            observations: Whole episodes, or one, in the form of the observation space.

        Returns:
            Images uint8 [..., T, height, width, channels], and for each the label [..., T, n_way]
            that belongs to it, zeros for queries: those of `label_mode="delayed"` are put back to
            their image.
        """
        if self.flat:
            pixels, labels = np.split(observations, [-self.n_way], axis=-1)
            shape = *pixels.shape[:-1], *self.images.image_shape
            images = np.rint(pixels * 255).astype(np.uint8).reshape(shape)
        else:
            images, labels = observations["image"], observations["label"]
        if self.label_mode == "delayed":
            labels = np.concatenate([labels[..., 1:, :], np.zeros_like(labels[..., :1, :])], -2)
        return images, labels

    def measures(
        self, rewards: NDArray[np.float64], scored: BoolArray
    ) -> dict[str, NDArray[np.float64]]:
        first = rewards[np.arange(len(rewards)), scored.argmax(axis=1)]
        return super().measures(rewards, scored) | {"first_query": first}

    def picture(self, view: View) -> NDArray[np.uint8]:
        return few_shot_picture(view.progress, self._album(view))

    def text(self, view: View) -> str:
        return few_shot_text(view.progress, self._album(view))

    def sample_indices(self, num_episodes: int, seed: Seed = None) -> IndexedEpisodes:
        """Draw the episodes of `sample_episodes`, with the images named instead of shown.

        For training on embeddings of the images that were computed once.

        Raises:
            ValueError: If `num_episodes` is less than 1, or images are augmented, since then they
                are no longer those of the source.
        """
        if self.augment or self.distort:
            raise ValueError("augmented images have no place in the source: use sample_episodes")
        return self._indexed(self._draw(num_episodes, seed))

    def _album(self, view: View) -> Album:
        observations, targets, scored = (at(part, 0) for part in view.start)
        images, labels = self.images_and_labels(observations)
        return Album(images, labels, targets, scored, view.actions)

    @property
    def _queries_per_class(self) -> int:
        """Images of each class that are set aside for queries."""
        return -(-self.n_query // self.n_way) if self.query_sampling == "balanced" else 0

    @property
    def _images_per_class(self) -> int:
        return self.k_shot + max(1, self._queries_per_class)

    @property
    def draws_per_episode(self) -> int:
        balanced = self.query_sampling == "balanced"
        drawings = self.n_way * (self.k_shot + self._queries_per_class)
        queries = self.n_way + self.n_query if balanced else 2 * self.n_query
        changes = DRAWS * self.num_steps * (self.augment + self.distort)
        return self.n_way + drawings + self.num_support + queries + changes

    def begin(self, draws: FloatArray) -> Episodes:
        indices, labels, targets, scored = self._indexed(draws)
        images = self.images.images[indices]
        for change in (augment,) * self.augment + (distort,) * self.distort:
            draws, uniforms = np.split(draws, [-DRAWS * self.num_steps], axis=1)
            flat = images.reshape(-1, *images.shape[2:])
            images = change(flat, uniforms.reshape(-1, DRAWS)).reshape(images.shape)
        if not self.flat:
            return Episodes({"image": images, "label": labels}, targets, scored)
        pixels = images.reshape(*indices.shape, -1) / np.float32(255)
        return Episodes(np.concatenate([pixels, labels], axis=-1), targets, scored)

    def _indexed(self, draws: FloatArray) -> IndexedEpisodes:
        batch, n_way, k_shot, source = len(draws), self.n_way, self.k_shot, self.images
        picks = k_shot + self._queries_per_class
        class_draws, drawing_draws, order_draws, query_draws = split(
            draws, n_way, n_way * picks, self.num_support
        )
        # The place of a class among those chosen is its label: a random permutation.
        classes = shuffled(class_draws, source.num_classes, n_way)[:, :n_way]
        drawings = shuffled(
            drawing_draws.reshape(batch, n_way, picks), source.counts[classes], picks
        )
        support_labels = np.repeat(np.arange(n_way), k_shot)
        order = np.argsort(order_draws, axis=1, kind="stable")
        rows = np.arange(batch)[:, None]
        targets = np.empty((batch, self.num_steps), np.int64)
        chosen = np.empty_like(targets)
        targets[:, : self.num_support] = support_labels[order]
        chosen[:, : self.num_support] = drawings[rows, support_labels[order], order % k_shot]
        query_labels, places = self._queries(query_draws, source.counts[classes])
        targets[:, self.num_support :] = query_labels
        chosen[:, self.num_support :] = drawings[rows, query_labels, places]

        indices = source.offsets[classes[rows, targets]] + chosen
        shown = np.zeros((batch, self.num_steps, n_way), np.float32)
        shown[rows, np.arange(self.num_support), targets[:, : self.num_support]] = 1
        if self.label_mode == "delayed":
            shown = np.concatenate([np.zeros_like(shown[:, :1]), shown[:, :-1]], axis=1)
        scored = np.zeros((batch, self.num_steps), np.bool_)
        scored[:, self.num_support :] = True
        return IndexedEpisodes(indices, shown, targets, scored)

    def _queries(
        self, draws: FloatArray, counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the label of each query [B, n_query] and its place in the deck of its class."""
        if self.query_sampling == "balanced":
            class_draws, order_draws, _ = split(draws, self.n_way, self.n_query)
            turns = np.arange(self.n_query)
            # Which classes get one query more than others is random as well.
            ranks = np.argsort(class_draws, axis=1, kind="stable")
            labels, places = ranks[:, turns % self.n_way], self.k_shot + turns // self.n_way
            order = np.argsort(order_draws, axis=1, kind="stable")
            return np.take_along_axis(labels, order, axis=1), places[order]
        class_draws, place_draws, _ = split(draws, self.n_query, self.n_query)
        labels = integers(class_draws, self.n_way)
        left = np.take_along_axis(counts, labels, axis=1) - self.k_shot
        return labels, self.k_shot + (place_draws.astype(np.float64) * left).astype(np.int64)
