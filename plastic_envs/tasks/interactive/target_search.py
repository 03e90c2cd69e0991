"""Target search: find out by reward alone which of some cues is the target."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.rendering.target_search import (
    Search,
    target_search_picture,
    target_search_text,
)
from plastic_envs.rendering.view import View
from plastic_envs.spaces import BoolArray, FloatArray, Observations, box
from plastic_envs.tasks.base import Outcome, Task, elapsed
from plastic_envs.tasks.draws import integers, shuffled, split
from plastic_envs.tasks.players import Player

BLANK = -1
"""Entry of a schedule: nothing is shown. Entries from 0 are cues, `num_cues` is the question."""

_CODE_BITS = 20  # cues differ within so many bits; a uniform has 24
_LAST_TRIALS = 5
_MOST_CUES = 256  # the work grows with their square


class TargetSearchState(NamedTuple):
    """Episodes; only the rewards depend on the actions, so answering changes nothing of them.

    Attributes:
        cues: float32 [B, num_cues, cue_size], of -1 and 1.
        target: int64 [B], which of them is the target.
        schedule: int64 [B, T], what each step shows: a cue, `BLANK`, or `num_cues` to ask.
        truth: int64 [B, T], the right answer where the schedule asks, else 0.
    """

    cues: FloatArray
    target: NDArray[np.int64]
    schedule: NDArray[np.int64]
    truth: NDArray[np.int64]


@dataclass(frozen=True)
class TargetSearch(Task):
    """Find out by reward alone which of some cues is the target, and say when it was shown.

    ## Description
    The cue-reward association task of Miconi et al. ("Backpropamine", ICLR 2019, arXiv 2002.10585).
    Every episode has `num_cues` new cues, one of them secretly the target. A trial shows half of
    them, one after the other, and then asks whether the target was among these; a reward tells
    whether the answer was right. No single trial can tell which cue is the target.

    A trial is a blank step, then `num_cues // 2` different random cues in random order, with 0 to
    `num_cues - 1` blank steps at random places among them, then the question, then a blank step, in
    which the reward of the answer is seen. The next trial follows at once; the last one of an
    episode may be cut off.

    ## Observation space
    `Box(-1, 1)`, float32 `[cue_size + 2]`: the cue (zeros when none is shown), a flag that is 1
    when the answer is asked for, and the share of the episode that has passed. The wrapper
    `PreviousActionReward` adds the last action and reward, without which nothing can be learned.

    ## Action space
    `Discrete(2)`: 1 if the target was shown in this trial, else 0. Counts only when asked for.

    ## Reward
    When asked: 1 if right, -1 if wrong. Otherwise 0.

    ## Starting state
    Cues of random bits -1 or 1, all different; target and trials uniform; drawn anew for each
    episode.

    ## Episode end
    Terminates after `episode_length` steps.

    ## Scores
    Share of right answers in an episode. Without memory 1/2 (of an odd number of cues: the more
    frequent answer), at random 1/2. Optimum: `optimal_score`, 0.945; perfect inference makes one
    mistake an episode on average with four cues.

    ## Version history
    - v0: first version.

    Attributes:
        num_cues: Cues of an episode, from 2 to 256.
        cue_size: Bits of a cue, enough for so many different ones.
        episode_length: Steps, enough for one trial.
    """

    num_cues: int = 4
    cue_size: int = 20
    episode_length: int = 120

    score_name: ClassVar[str] = "share of right answers"
    oracle_name: ClassVar[str] = "perfect inference"

    def __post_init__(self) -> None:
        """Check the arguments."""
        self.check_integers(num_cues=2, cue_size=1)
        most = min(2 ** min(self.cue_size, _CODE_BITS), _MOST_CUES)
        if self.num_cues > most:
            raise ValueError(
                f"num_cues must be at most {most}: 2**cue_size for the cues to differ, and "
                f"{_MOST_CUES}, got {self.num_cues}"
            )
        self.check_integers(episode_length=self._trial_lengths[-1])
        self.check_size()

    @property
    def num_steps(self) -> int:
        return self.episode_length

    @property
    def observation_space(self) -> spaces.Box:
        return box([-1.0] * self.cue_size + [0, 0], [1] * (self.cue_size + 2))

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(2)

    @property
    def reward_bounds(self) -> tuple[float, float]:
        return -1.0, 1.0

    @property
    def chance_score(self) -> float:
        share = self._shown / self.num_cues
        return max(share, 1 - share)

    @property
    def random_score(self) -> float:
        return 0.5

    @property
    def optimal_score(self) -> float:
        return self._optimal_score

    @cached_property
    def _optimal_score(self) -> float:
        """Expected score of perfect inference.

        What an answer tells does not depend on the answer: whether the target was shown. So what
        is known is the number of cues that can still be the target, a Markov chain.
        """
        left = np.zeros(self.num_cues + 1)  # how likely it is that so many are left
        left[-1] = 1
        lengths = np.ones(1)  # how likely it is that the trials so far have taken so many steps
        one_trial = np.bincount(self._trial_lengths) / len(self._trial_lengths)
        mistakes, happens, expected = 0.0, 1.0, 0.0
        for trials in range(1, self.episode_length):
            wrong, left = self._trial(left)
            mistakes += wrong
            lengths = np.convolve(lengths, one_trial)[: self.episode_length + 2]
            follows = self._chance_of_next(lengths, one_trial)
            expected += (happens - follows) * (1 - mistakes / trials)
            happens = follows
        return expected

    def _chance_of_next(
        self, lengths: NDArray[np.float64], one_trial: NDArray[np.float64]
    ) -> float:
        """Return how likely it is that one more trial comes to its question in time."""
        after = np.convolve(lengths, one_trial)
        return float(after[: self.episode_length + 2].sum())  # a step follows the question

    def _trial(self, left: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the probability of a mistake, and how many cues are left after one more trial."""
        wrong, after = 0.0, np.zeros_like(left)
        total = math.comb(self.num_cues, self._shown)
        for count in range(1, self.num_cues + 1):
            for among in range(min(count, self._shown) + 1):
                ways = math.comb(count, among)
                ways *= math.comb(self.num_cues - count, self._shown - among)
                chance = left[count] * ways / total
                wrong += chance * min(among, count - among) / count
                after[among] += chance * among / count
                after[count - among] += chance * (count - among) / count
        return wrong, after

    def observe(self, state: TargetSearchState, step: int) -> FloatArray:
        batch = len(state.cues)
        observations = np.zeros((batch, self.cue_size + 2), np.float32)
        if step < self.episode_length:
            shows = state.schedule[:, step]
            rows = np.flatnonzero((shows != BLANK) & (shows != self.num_cues))
            observations[rows, :-2] = state.cues[rows, shows[rows]]
            observations[:, -2] = shows == self.num_cues
        observations[:, -1:] = elapsed(step, self.episode_length, batch)
        return observations

    def step(self, state: TargetSearchState, step: int, actions: NDArray[np.int64]) -> Outcome:
        """Answer.

        `infos` has `"scored"` (true where the answer was asked for) and `"target"` (int64), the
        right answer there, else 0.
        """
        scored = state.schedule[:, step] == self.num_cues
        truth = state.truth[:, step]
        rewards = np.where(scored, np.where(actions == truth, 1.0, -1.0), 0.0)
        return Outcome(state, rewards, {"scored": scored, "target": truth.copy()})

    def measures(
        self, rewards: NDArray[np.float64], scored: BoolArray
    ) -> dict[str, NDArray[np.float64]]:
        right = (rewards > 0) & scored
        to_come = scored[:, ::-1].cumsum(axis=1)[:, ::-1]
        last = scored & (to_come <= _LAST_TRIALS)
        return {
            "score": right.sum(axis=1) / scored.sum(axis=1),
            "last_five": (right & last).sum(axis=1) / last.sum(axis=1),
        }

    def oracle_player(self) -> "Elimination":
        """Return perfect inference; scores `optimal_score`."""
        return Elimination(self)

    def picture(self, view: View) -> NDArray[np.uint8]:
        return target_search_picture(view.progress, self._search(view))

    def text(self, view: View) -> str:
        return target_search_text(view.progress, self._search(view))

    def _search(self, view: View) -> Search:
        _, target, schedule, truth = (part[0] for part in view.start)
        return Search(self.num_cues, int(target), schedule, truth, view.actions)

    @property
    def _shown(self) -> int:
        return self.num_cues // 2

    @property
    def _trial_lengths(self) -> range:
        """How long a trial can be; all are equally likely."""
        return range(self._shown + 3, self._shown + 3 + self.num_cues)

    @property
    def _num_trials(self) -> int:
        """How many trials an episode can have, begun ones included."""
        return -(-self.episode_length // self._trial_lengths[0])

    @property
    def _free_bits(self) -> int:
        return max(self.cue_size - _CODE_BITS, 0)

    @property
    def draws_per_episode(self) -> int:
        cues = self.num_cues * (1 + self._free_bits)
        return cues + 1 + self._num_trials * (1 + 2 * self._shown)

    def begin(self, draws: FloatArray) -> TargetSearchState:
        batch, trials, shown = len(draws), self._num_trials, self._shown
        code_draws, bit_draws, target_draws, blank_draws, pick_draws, place_draws = split(
            draws, self.num_cues, self.num_cues * self._free_bits, 1, trials, trials * shown
        )
        cues = self._cues(code_draws, bit_draws)
        target = integers(target_draws[:, 0], self.num_cues)
        blanks = integers(blank_draws, self.num_cues)  # [B, trials], besides first and last step
        each = (batch, trials, shown)
        picks = shuffled(pick_draws.reshape(each), self.num_cues, shown)[..., :shown]
        places = shuffled(place_draws.reshape(each), shown + blanks, shown)[..., :shown]

        lengths = blanks + self._trial_lengths[0]
        ends = lengths.cumsum(axis=1)
        rows = np.arange(batch)[:, None]
        room = trials * self._trial_lengths[-1]
        schedule = np.full((batch, room), BLANK, np.int64)
        schedule[rows[..., None], (ends - lengths + 1)[..., None] + places] = picks
        schedule[rows, ends - 2] = self.num_cues
        truth = np.zeros((batch, room), np.int64)
        truth[rows, ends - 2] = (picks == target[:, None, None]).any(axis=-1)
        steps = slice(self.episode_length)
        return TargetSearchState(cues, target, schedule[:, steps].copy(), truth[:, steps].copy())

    def _cues(self, code_draws: FloatArray, bit_draws: FloatArray) -> FloatArray:
        """Return different cues [B, num_cues, cue_size], all sets of them equally likely."""
        coded = self.cue_size - self._free_bits
        codes = np.zeros((len(code_draws), 0), np.int64)  # sorted
        order: list[NDArray[np.int64]] = []
        for k in range(self.num_cues):
            code = integers(code_draws[:, k], 2**coded - k)  # of those that are not taken yet
            for taken in codes.T:
                code += code >= taken
            order.append(code)
            codes = np.sort(np.stack(order, axis=1), axis=1)
        bits = np.stack(order, axis=1)[..., None] >> np.arange(coded) & 1
        free = bit_draws.reshape(len(bits), self.num_cues, -1) < np.float32(0.5)
        return 2 * np.concatenate([bits, free], axis=-1).astype(np.float32) - 1


class Elimination(Player):
    """Keeps the cues that can still be the target; answers with what more of them say.

    It goes by observations and rewards alone: cues are told apart by their bits.

    Args:
        task: What is played.
    """

    def __init__(self, task: TargetSearch) -> None:
        self._task = task

    def begin(self, state: TargetSearchState) -> None:
        batch, count = state.cues.shape[:2]
        self._known = np.zeros_like(state.cues)  # cues in the order in which they appeared
        self._candidates = np.ones((batch, count), np.bool_)
        self._shown = np.zeros((batch, count), np.bool_)  # in this trial
        self._asked = np.zeros(batch, np.bool_)

    def act(self, observations: Observations, state: TargetSearchState) -> NDArray[np.int64]:
        cue, self._asked = observations[:, :-2], observations[:, -2] == 1
        same = (self._known == cue[:, None]).all(axis=-1)
        unknown = ~same.any(axis=1)
        place = np.where(unknown, self._known.any(axis=-1).sum(axis=1), same.argmax(axis=1))
        rows = np.flatnonzero(cue.any(axis=1))
        self._known[rows, place[rows]] = cue[rows]
        self._shown[rows, place[rows]] = True
        among = (self._candidates & self._shown).sum(axis=1)
        return np.asarray(2 * among > self._candidates.sum(axis=1), np.int64)

    def learn(self, actions: NDArray[np.int64], rewards: NDArray[np.float64]) -> None:
        was_shown = (actions == 1) == (rewards > 0)
        left = self._candidates & (self._shown == was_shown[:, None])
        self._candidates = np.where(self._asked[:, None], left, self._candidates)
        self._shown[self._asked] = False
