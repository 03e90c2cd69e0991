"""Stories: sentences about who went where, and a question about them."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.checks import check_int, check_path
from plastic_envs.images import SPLITS, Split
from plastic_envs.rendering.stories import Tale, stories_picture, stories_text
from plastic_envs.rendering.view import View
from plastic_envs.spaces import FloatArray
from plastic_envs.tasks.draws import integers
from plastic_envs.tasks.players import Player
from plastic_envs.tasks.sequence import Episodes, SequenceTask
from plastic_envs.tasks.sequences.babi import NUM_TASKS, BabiTask, read_babi

Tokens = Literal["sentence", "word"]

BLANK = -1
"""No word."""

_VERBS = ("went", "took", "dropped")
_WENT, _TOOK, _DROPPED = range(3)
_PEOPLE = ("Mary", "John", "Sandra", "Daniel")
_OBJECTS = ("milk", "football", "apple")
_PLACES = ("kitchen", "garden", "office", "bathroom", "hallway", "bedroom")
_MOST_NAMES = 1_000  # of people, objects and places
_DRAWS = 3  # of a sentence: what happens, who or which, where


class _World(NamedTuple):
    """Where all are; -1 is not known, or nobody.

    Attributes:
        person_at: int64 [B, num_people].
        object_at: int64 [B, num_objects], where it lies.
        held_by: int64 [B, num_objects].
    """

    person_at: NDArray[np.int64]
    object_at: NDArray[np.int64]
    held_by: NDArray[np.int64]


@dataclass(frozen=True)
class Stories(SequenceTask):
    """Hear who went where and who took what, then tell where somebody or something is.

    ## Description
    Question answering in the manner of the bAbI tasks (Weston et al. 2015, arXiv 1502.05698), on
    which Limbacher, Özdenizci and Legenstein (arXiv 2205.11276) test their memory. The stories are
    made up anew for each episode, or read from a folder of the published files (`root`).

    With `num_facts=1` all sentences are of the form "Mary went kitchen", and the question is where
    a person is: the last sentence about this person tells. With `num_facts=2` people also take
    objects, carry them, and drop them, and the question is where an object is: who has it must be
    known, and where this person is.

    ## Observation space
    `Box(0, 1)`, float32 `[num_words]`. With `tokens="sentence"` a step is a sentence, and each of
    its words is 1; with `"word"` a step is a word, one-hot. Blank steps are zeros.

    ## Action space
    `Discrete`: the place; of published files, one of their answers.

    ## Reward
    At the end of the question 1 for the right answer, otherwise 0.

    ## Starting state
    Nobody's place is known. In each sentence a person, drawn uniformly, goes to another place; with
    `num_facts=2` in about half of them, else an object is taken or dropped, if it can be: it is
    taken where it lies, at first anywhere. The second sentence takes an object, so that there is
    something to ask for. The question is about somebody or something in the story.

    ## Episode end
    Terminates after the question: `story_length + 1` sentences, or three times as many words; of
    published files, as many as the longest story has (shorter ones begin with blanks).

    ## Scores
    Share of right answers. Without memory and for random answers 1 / num_places; of published files
    random answers score 1 / answers. Optimum: 1.

    ## Version history
    - v0: first version.

    Attributes:
        num_facts: Sentences that an answer takes, 1 or 2.
        story_length: Sentences before the question, at least 2.
        num_people: People, from 1 to 1,000.
        num_objects: Objects, from 1 to 1,000 (with two facts).
        num_places: Places, from 2 to 1,000.
        tokens: `"sentence"` or `"word"`.
        root: A folder of the published files (`qa1_…_train.txt`, …) to read stories from.
        number: Which of the 20 published tasks, from 1.
        most_sentences: Of a published story the last ones, at least 1; the papers take 50.
        split: `"train"`, `"validation"` or `"test"`, of published stories: validation has the last
            tenth of the training file.
    """

    num_facts: int = 1
    story_length: int = 10
    num_people: int = 4
    num_objects: int = 3
    num_places: int = 6
    tokens: Tokens = "sentence"
    root: str | Path | None = None
    number: int = 1
    most_sentences: int = 50
    split: Split = "train"

    score_name: ClassVar[str] = "accuracy"
    oracle_name: ClassVar[str] = "by what the sentences say"

    def __post_init__(self) -> None:
        """Check the arguments; reads the files."""
        self.check_integers(story_length=2, most_sentences=1, num_places=2)
        bounds = {"num_facts": 2, "number": NUM_TASKS}
        bounds |= dict.fromkeys(("num_people", "num_objects", "num_places"), _MOST_NAMES)
        for name, most in bounds.items():
            value = check_int(name, getattr(self, name), minimum=1, maximum=most)
            object.__setattr__(self, name, value)
        self.check_choices(tokens=get_args(Tokens), split=SPLITS)
        if self.root is not None:
            object.__setattr__(self, "root", check_path("root", self.root))
            _ = self._published
        self.check_size()

    @property
    def words(self) -> list[str]:
        """The vocabulary."""
        if self.root is not None:
            return list(self._published.words)
        objects = self.num_objects if self.num_facts == 2 else 0
        return [
            "where",
            *_named(_PEOPLE, self.num_people, "person"),
            *self._verbs,
            *_named(_OBJECTS, objects, "object"),
            *_named(_PLACES, self.num_places, "place"),
        ]

    @property
    def answers(self) -> list[str]:
        """What each action says."""
        if self.root is not None:
            return list(self._published.answers)
        return self.words[-self.num_places :]

    @property
    def num_steps(self) -> int:
        if self.root is not None:
            published = self._published
            by_sentence = self.tokens == "sentence"
            return published.sentences.shape[1] if by_sentence else published.most_words
        return (self.story_length + 1) * (1 if self.tokens == "sentence" else 3)

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(0, 1, (len(self.words),), np.float32)

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(len(self.answers))

    @property
    def observation_labels(self) -> list[str]:
        return self.words

    @property
    def reward_bounds(self) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def chance_score(self) -> float | None:
        return 1 / self.num_places if self.root is None else None

    @property
    def random_score(self) -> float:
        return 1 / len(self.answers)

    @property
    def optimal_score(self) -> float:
        return 1.0

    def for_split(self, split: Split) -> Self:
        return self if self.root is None else replace(self, split=split)

    def oracle_player(self) -> Player | None:
        """Return who follows the story; None for published ones."""
        return super().oracle_player() if self.root is None else None

    def oracle(self, observations: FloatArray) -> NDArray[np.int64]:
        """Follow the story; answers 0 before the question."""
        batch, steps, _ = observations.shape
        answers = np.zeros((batch, steps), np.int64)
        said = observations
        if self.tokens == "word":
            said = observations.reshape(batch, -1, 3, observations.shape[-1]).max(axis=2)
        world, rows = self._unknown(batch), np.arange(batch)
        parts = np.split(said, self._first_words, axis=-1)[1:]
        if self.num_facts == 1:
            parts[2] = np.zeros((*said.shape[:2], 1), np.float32)
        person, verb, thing, place = (part.argmax(axis=-1) for part in parts)
        for k in range(self.story_length):
            _happen(world, verb[:, k], person[:, k], thing[:, k], place[:, k])
        if self.num_facts == 1:
            answers[:, -1] = world.person_at[rows, person[:, -1]]
        else:
            answers[:, -1] = _places_of(world)[rows, thing[:, -1]]
        return answers

    @property
    def draws_per_episode(self) -> int:
        return 1 if self.root is not None else _DRAWS * self.story_length + 1

    def begin(self, draws: FloatArray) -> Episodes:
        if self.root is not None:
            published = self._published
            chosen = integers(draws[:, 0], len(published.right))
            sentences, right = published.sentences[chosen], published.right[chosen]
        else:
            sentences, right = self._tell(draws)
        batch = len(draws)
        targets = np.zeros((batch, self.num_steps), np.int64)
        targets[:, -1] = right
        scored = np.zeros((batch, self.num_steps), np.bool_)
        scored[:, -1] = True
        return Episodes(self._encoded(sentences), targets, scored)

    def picture(self, view: View) -> NDArray[np.uint8]:
        return stories_picture(view.progress, self._tale(view))

    def text(self, view: View) -> str:
        return stories_text(view.progress, self._tale(view))

    def _tale(self, view: View) -> Tale:
        observations, targets, scored = (part[0] for part in view.start)
        words, answers = np.array(self.words), self.answers
        said = [" ".join(words[step > 0]) for step in observations]
        right = [answers[k] if counts else "" for k, counts in zip(targets, scored, strict=True)]
        given = [answers[int(k)] for k in view.actions]
        return Tale(said, right, given)

    @cached_property
    def _published(self) -> BabiTask:
        return read_babi(str(self.root), self.number, self.split, self.most_sentences)

    @property
    def _verbs(self) -> tuple[str, ...]:
        return _VERBS if self.num_facts == 2 else _VERBS[:1]

    @property
    def _first_words(self) -> list[int]:
        """Places in the vocabulary where people, verbs, objects and places begin."""
        objects = self.num_objects if self.num_facts == 2 else 0
        return list(accumulate([1, self.num_people, len(self._verbs), objects]))

    def _unknown(self, batch: int) -> _World:
        nowhere = np.full((batch, self.num_people + 2 * self.num_objects), -1, np.int64)
        parts = np.split(nowhere, [self.num_people, self.num_people + self.num_objects], axis=1)
        return _World(*(part.copy() for part in parts))

    def _tell(self, draws: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Make stories, word for word [B, story_length + 1, 3], and the answers [B]."""
        batch, rows = len(draws), np.arange(len(draws))
        what, who, where = draws[:, :-1].reshape(batch, -1, _DRAWS).transpose(2, 1, 0)
        world = self._unknown(batch)
        first_person, first_verb, first_object, first_place = self._first_words
        sentences = np.full((batch, self.story_length + 1, 3), BLANK, np.int64)
        for sentence in range(self.story_length):
            verb = np.zeros(batch, np.int64)
            person = integers(who[sentence], self.num_people)
            thing = np.zeros(batch, np.int64)
            if self.num_facts == 2 and sentence:
                to_take, to_drop = _can_take(world), _can_drop(world)
                takes = (what[sentence] >= 0.5) & (what[sentence] < 0.8) | (sentence == 1)
                drops = (what[sentence] >= 0.8) & ~takes
                for action, wanted, can in ((_TOOK, takes, to_take), (_DROPPED, drops, to_drop)):
                    happens = wanted & can.any(axis=1)
                    chosen = _chosen(can, who[sentence])
                    verb = np.where(happens, action, verb)
                    person = np.where(happens, chosen // self.num_objects, person)
                    thing = np.where(happens, chosen % self.num_objects, thing)
            here = world.person_at[rows, person]
            others = integers(where[sentence], self.num_places - 1)
            anywhere = integers(where[sentence], self.num_places)
            place = np.where(here < 0, anywhere, others + (others >= here))
            _happen(world, verb, person, thing, place)
            goes = verb == _WENT
            sentences[:, sentence, 0] = first_person + person
            sentences[:, sentence, 1] = first_verb + verb
            sentences[:, sentence, 2] = np.where(goes, first_place + place, first_object + thing)
        places = world.person_at if self.num_facts == 1 else _places_of(world)
        asked = _chosen(places >= 0, draws[:, -1])
        sentences[:, -1, 1] = 0  # where
        sentences[:, -1, 2] = (first_person if self.num_facts == 1 else first_object) + asked
        return sentences, places[rows, asked]

    def _encoded(self, sentences: NDArray[np.int64]) -> FloatArray:
        """Return observations of sentences [B, sentences, words], the last of them a question."""
        batch, steps, size = len(sentences), self.num_steps, len(self.words)
        observations = np.zeros((batch, steps, size), np.float32)
        if self.tokens == "sentence":
            rows, sentence, _ = np.nonzero(sentences != BLANK)
            observations[rows, sentence, sentences[sentences != BLANK]] = 1
            return observations
        words = sentences.reshape(batch, -1)
        rows, place = np.nonzero(words != BLANK)
        if self.root is not None:  # their sentences are of different lengths: leave out the gaps
            to_come = (words != BLANK)[:, ::-1].cumsum(axis=1)[:, ::-1]
            place = steps - to_come[rows, place]
        observations[rows, place, words[words != BLANK]] = 1
        return observations


def _named(names: tuple[str, ...], count: int, kind: str) -> list[str]:
    """Return so many names, made up behind the last one there is."""
    return [*names[:count], *(f"{kind}{k}" for k in range(len(names), count))]


def _happen(
    world: _World,
    verb: NDArray[np.int64],
    person: NDArray[np.int64],
    thing: NDArray[np.int64],
    place: NDArray[np.int64],
) -> None:
    """Change worlds by what a sentence says, each [B]."""
    goes, takes, drops = (np.flatnonzero(verb == k) for k in (_WENT, _TOOK, _DROPPED))
    world.person_at[goes, person[goes]] = place[goes]
    world.held_by[takes, thing[takes]] = person[takes]
    world.held_by[drops, thing[drops]] = -1
    world.object_at[drops, thing[drops]] = world.person_at[drops, person[drops]]


def _can_take(world: _World) -> NDArray[np.bool_]:
    """Return who can take what, [B, num_people * num_objects]."""
    person_at, object_at = world.person_at[:, :, None], world.object_at[:, None]
    there = (object_at == person_at) | (object_at < 0)
    can = (person_at >= 0) & there & (world.held_by < 0)[:, None]
    return np.asarray(can.reshape(len(can), -1))


def _can_drop(world: _World) -> NDArray[np.bool_]:
    """Return who can drop what, [B, num_people * num_objects]."""
    people = np.arange(world.person_at.shape[1])[:, None]
    can = world.held_by[:, None] == people
    return np.asarray(can.reshape(len(can), -1))


def _places_of(world: _World) -> NDArray[np.int64]:
    """Return where objects are, [B, num_objects]; -1 for those not in the story."""
    rows = np.arange(len(world.held_by))[:, None]
    carried = world.person_at[rows, np.maximum(world.held_by, 0)]
    return np.where(world.held_by >= 0, carried, world.object_at)


def _chosen(can: NDArray[np.bool_], uniforms: FloatArray) -> NDArray[np.int64]:
    """Return one of those that are true in each row [B, n], all equally likely."""
    counts = can.sum(axis=1)
    wanted = (uniforms.astype(np.float64) * counts).astype(np.int64)
    return np.asarray((can.cumsum(axis=1) > wanted[:, None]).argmax(axis=1))
