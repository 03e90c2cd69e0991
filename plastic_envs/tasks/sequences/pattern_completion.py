"""Pattern completion: store patterns, then complete those that are partly erased."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.checks import check_path
from plastic_envs.images import SOURCES, SPLITS, ImageClasses, ImageSource, Split, load_images
from plastic_envs.images import make_source as source_of
from plastic_envs.spaces import FloatArray, box
from plastic_envs.tasks.draws import integers, shuffled, split
from plastic_envs.tasks.sequence import Episodes, SquaredErrorTask


@dataclass(frozen=True)
class PatternCompletion(SquaredErrorTask):
    """Store patterns, then complete one of which a part is erased.

    ## Description
    The pattern memorisation task of Miconi, Clune and Stanley ("Differentiable plasticity", ICML
    2018, arXiv 1804.02464). An episode shows `num_patterns` patterns, `presentations` times over,
    each time in an order of its own; every query then shows one of them with a part erased, and
    asks for all of it. It is what an autoassociative memory, such as a Hopfield network, does.

    Patterns are random bits, or pictures of an image source.

    ## Observation space
    `Box(-1, 1)`, float32 `[pattern_size + 1]`: the pattern, -1 or 1 (of pictures: the brightness of
    each pixel, from -1 to 1), zeros where it is erased, and a flag that is 1 at queries.

    ## Action space
    `Box(-1, 1)`, float32 `[pattern_size]`: the whole pattern. Not clipped.

    ## Reward
    At queries `-mean((action - target)**2)`, otherwise 0.

    ## Starting state
    Bits are drawn for themselves. Pictures are those of `num_patterns` different classes of the
    split, one of each. Each query is one of the patterns, drawn for itself. Of bits, `erased` of
    the entries are erased, at random places; of pictures, `erased` of the rows, at the top or at
    the bottom, since single pixels could be told from their neighbours.

    ## Episode end
    Terminates after `num_patterns * presentations + num_queries` steps.

    ## Scores
    Mean squared error over the queries, shown entries included. Of bits, best without memory: the
    share that is erased (repeat what is shown, 0 elsewhere); random answers: 4/3; optimum: 0 but
    for patterns that agree in all that is shown.

    ## Version history
    - v0: first version.

    Attributes:
        num_patterns: Patterns of an episode, at least 1. The paper has 5.
        num_bits: Bits of a pattern, at least 2. The paper has 1,000. Pictures have their own size.
        presentations: Times that all patterns are shown, at least 1.
        num_queries: Queries, at least 1. The paper has 1.
        erased: Share of a query that is erased, from 0 to 1; the paper has a half. It is rounded to
            whole bits or rows.
        source: None for bits; or where pictures come from, as in `PlasticFewShot-v0`.
        root: Folder or file of the data, for a source that is named and needs it.
        image_size: Height and width to which images of `"omniglot"` and `"folders"` are resized.
        split: `"train"`, `"validation"` or `"test"`, of pictures.
    """

    num_patterns: int = 5
    num_bits: int = 50
    presentations: int = 1
    num_queries: int = 1
    erased: float = 0.5
    source: str | ImageSource | None = None
    root: str | Path | None = None
    image_size: int | None = None
    split: Split = "train"

    oracle_name: ClassVar[str] = "nearest pattern"

    def __post_init__(self) -> None:
        """Check the arguments, those of the source among them; reads the images."""
        self.check_integers(num_patterns=1, num_bits=2, presentations=1, num_queries=1)
        self.check_numbers(erased=0)
        if self.erased > 1:
            raise ValueError(f"erased must be a share from 0 to 1, got {self.erased}")
        self.check_choices(split=SPLITS)
        if isinstance(self.source, str):
            self.check_choices(source=SOURCES)
        if self.root is not None:  # equal places make equal tasks
            object.__setattr__(self, "root", check_path("root", self.root))
        if self.source is None and (self.root is not None or self.image_size is not None):
            name = "root" if self.root is not None else "image_size"
            raise ValueError(f"{name} is for pictures: give a source, too")
        if self.source is not None and self.num_patterns > self.images.num_classes:
            raise ValueError(
                f"num_patterns={self.num_patterns}, but there are {self.images.num_classes} "
                f"classes in the {self.split} split"
            )
        self.check_size()

    @property
    def images(self) -> ImageClasses:
        """The classes of the split, of pictures."""
        source = source_of(
            "glyphs" if self.source is None else self.source, self.root, self.image_size
        )
        return load_images(source, self.split)

    @property
    def pattern_size(self) -> int:
        """Entries of a pattern."""
        if self.source is None:
            return self.num_bits
        height, width, _ = self.images.image_shape
        return int(height * width)

    @property
    def num_steps(self) -> int:
        return self._shown + self.num_queries

    @property
    def observation_space(self) -> spaces.Box:
        return box([-1.0] * self.pattern_size + [0], [1.0] * (self.pattern_size + 1))

    @property
    def action_space(self) -> spaces.Box:
        return box([-1.0] * self.pattern_size, [1.0] * self.pattern_size)

    @property
    def observation_labels(self) -> list[str]:
        return [*(f"entry {i}" for i in range(self.pattern_size)), "query"]

    @property
    def chance_score(self) -> float | None:
        return self._num_erased / self.num_bits if self.source is None else None

    @property
    def random_score(self) -> float | None:
        return 4 / 3 if self.source is None else None

    @property
    def optimal_score(self) -> float:
        return 0.0

    def for_split(self, split: Split) -> Self:
        return self if self.source is None else replace(self, split=split)

    def oracle(self, observations: FloatArray) -> FloatArray:
        """Answer with the pattern that is nearest where the query shows something.

        While patterns are shown it answers with them.
        """
        answers = observations[..., :-1].copy()
        patterns = answers[:, : self.num_patterns]
        for step in range(self._shown, self.num_steps):
            query = answers[:, step]
            differs = (query[:, None] - patterns) * (query != 0)[:, None]
            nearest = np.einsum("bpn,bpn->bp", differs, differs).argmin(axis=1)
            answers[:, step] = patterns[np.arange(len(patterns)), nearest]
        return answers

    @property
    def _shown(self) -> int:
        """Steps that show a whole pattern."""
        return self.num_patterns * self.presentations

    @property
    def _num_erased(self) -> int:
        """Bits, or rows of a picture, that a query lacks."""
        of = self.num_bits if self.source is None else self.images.image_shape[0]
        return int(self.erased * of + 0.5)

    @property
    def draws_per_episode(self) -> int:
        of_patterns = self.num_bits if self.source is None else 2
        of_erasure = self._num_erased if self.source is None else 1
        return self.num_patterns * of_patterns + self._shown + self.num_queries * (1 + of_erasure)

    def begin(self, draws: FloatArray) -> Episodes:
        batch, steps, count = len(draws), self.num_steps, self.num_patterns
        of_patterns = self.num_bits if self.source is None else 2
        pattern_draws, order_draws, query_draws, erasure_draws = split(
            draws, count * of_patterns, self._shown, self.num_queries
        )
        patterns = self._patterns(pattern_draws)
        order = shuffled(order_draws.reshape(batch, self.presentations, count), count, count)
        asked = integers(query_draws, count)
        which = np.concatenate([order.reshape(batch, -1), asked], axis=1)
        targets = patterns[np.arange(batch)[:, None], which]
        observations = np.zeros((batch, steps, self.pattern_size + 1), np.float32)
        observations[..., :-1] = targets
        observations[:, self._shown :, :-1][self._erasure(erasure_draws)] = 0
        observations[:, self._shown :, -1] = 1
        scored = np.zeros((batch, steps), np.bool_)
        scored[:, self._shown :] = True
        return Episodes(observations, targets, scored)

    def _patterns(self, draws: FloatArray) -> FloatArray:
        """Return patterns [B, num_patterns, pattern_size]."""
        batch, count = len(draws), self.num_patterns
        if self.source is None:
            bits = draws.reshape(batch, count, self.num_bits) < np.float32(0.5)
            return np.where(bits, np.float32(-1), np.float32(1))
        images = self.images
        class_draws, image_draws = split(draws, count)
        classes = shuffled(class_draws, images.num_classes, count)[:, :count]
        places = (image_draws.astype(np.float64) * images.counts[classes]).astype(np.int64)
        chosen = images.images[images.offsets[classes] + places]
        gray = chosen.mean(axis=-1, dtype=np.float32).reshape(batch, count, -1)
        patterns: FloatArray = gray / np.float32(127.5) - np.float32(1)
        return patterns

    def _erasure(self, draws: FloatArray) -> NDArray[np.bool_]:
        """Return where queries are erased, [B, num_queries, pattern_size]."""
        batch, queries, erased = len(draws), self.num_queries, self._num_erased
        where = np.zeros((batch, queries, self.pattern_size), np.bool_)
        if self.source is None:
            places = shuffled(draws.reshape(batch, queries, erased), self.num_bits, erased)
            np.put_along_axis(where, places[..., :erased], values=True, axis=-1)
            return where
        rows = where.reshape(batch, queries, *self.images.image_shape[:2])
        at_top = draws < np.float32(0.5)
        rows[at_top, :erased] = True
        rows[~at_top, rows.shape[2] - erased :] = True
        return where
