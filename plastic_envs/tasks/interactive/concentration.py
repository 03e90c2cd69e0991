"""Concentration: find pairs of cards by turning two at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.rendering.concentration import Table, concentration_picture, concentration_text
from plastic_envs.rendering.view import View
from plastic_envs.spaces import BoolArray, FloatArray, Observations, box
from plastic_envs.tasks.base import Outcome, Task
from plastic_envs.tasks.draws import shuffled, split
from plastic_envs.tasks.players import Player

NONE = -1
"""No card: none lies open, or none was turned yet."""

_MOST_PAIRS = 32


class ConcentrationState(NamedTuple):
    """Games under way.

    Attributes:
        pictures: float32 [B, num_pairs, picture_size].
        cards: int64 [B, 2 num_pairs], the picture of each card.
        gone: bool [B, 2 num_pairs], true where a card was taken away.
        open: int64 [B], the card that lies open, or `NONE`.
        turned: int64 [B], the card that was turned last, or `NONE`.
        seen: int64 [B], the picture that this showed, or `NONE`.
    """

    pictures: FloatArray
    cards: NDArray[np.int64]
    gone: BoolArray
    open: NDArray[np.int64]
    turned: NDArray[np.int64]
    seen: NDArray[np.int64]


@dataclass(frozen=True)
class Concentration(Task):
    """Find the pairs among cards that lie face down, turning two at a time.

    ## Description
    The memory card game, as an agent plays it in Limbacher, Özdenizci and Legenstein
    (arXiv 2205.11276). Every picture is on two cards. A step turns a card; if a second one shows
    the picture of the first, both are taken away, else both lie face down again. The game is over
    when all cards are gone; what remains of the episode is blank and does not count.

    ## Observation space
    `Box(0, 1)`, float32 `[8 num_pairs + picture_size]`: of each card whether it lies face down, is
    open, or gone (three flags, card by card); which card was turned last (one-hot, zeros before the
    first); the picture that it showed.

    ## Action space
    `Discrete(2 num_pairs)`: the card to turn. A card that is gone shows nothing, and the open one
    its picture again: such a step is wasted.

    ## Reward
    `-turn_cost` for each card that is turned, and `pair_reward` for a pair; 0 after the game.

    ## Starting state
    Pictures U(0, 1), and their places, drawn anew for each episode.

    ## Episode end
    Terminates after `episode_length` steps.

    ## Scores
    Cards turned in a game (at most `episode_length`), the fewer the better. Without memory, turning
    any card that lies face down: `chance_score`, in a game without end `2 num_pairs²` (8 for two
    pairs, 18 for three); all cards alike: `random_score`. Optimum, by dynamic programming:
    `optimal_score`, 5.33 for two pairs and 8.67 for three.

    ## Version history
    - v0: first version.

    Attributes:
        num_pairs: Pairs of cards, from 1 to 32. The paper has 2 and 3.
        picture_size: Entries of a picture, at least 1.
        episode_length: Steps, at least `4 num_pairs`: enough for a player who forgets nothing.
        turn_cost: What turning a card costs, from 0 to a million.
        pair_reward: What a pair brings, from 0 to a million.
    """

    num_pairs: int = 2
    picture_size: int = 10
    episode_length: int = 40
    turn_cost: float = 0.5
    pair_reward: float = 25.0

    score_name: ClassVar[str] = "cards turned in a game"
    higher_is_better: ClassVar[bool] = False
    oracle_name: ClassVar[str] = "perfect memory"

    def __post_init__(self) -> None:
        """Check the arguments."""
        self.check_integers(num_pairs=1, picture_size=1)
        if self.num_pairs > _MOST_PAIRS:
            raise ValueError(f"num_pairs must be at most {_MOST_PAIRS}, got {self.num_pairs}")
        self.check_integers(episode_length=4 * self.num_pairs)
        self.check_numbers(turn_cost=0, pair_reward=0)
        self.check_size()

    @property
    def num_cards(self) -> int:
        """Number of cards."""
        return 2 * self.num_pairs

    @property
    def num_steps(self) -> int:
        return self.episode_length

    @property
    def observation_space(self) -> spaces.Box:
        size = 4 * self.num_cards + self.picture_size
        return box([0.0] * size, [1.0] * size)

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(self.num_cards)

    @property
    def observation_labels(self) -> list[str]:
        cards = range(self.num_cards)
        each = [f"{card} {what}" for card in cards for what in ("down", "open", "gone")]
        turned = [f"turned {card}" for card in cards]
        return [*each, *turned, *(f"picture {i}" for i in range(self.picture_size))]

    @property
    def reward_bounds(self) -> tuple[float, float]:
        return -self.turn_cost, max(0.0, self.pair_reward - self.turn_cost)

    @property
    def chance_score(self) -> float:
        """Cards turned by who turns any that lies face down."""
        return self._turns(lambda pairs: (1.0, 1 / (2 * pairs - 1), 1.0))

    @property
    def random_score(self) -> float:
        """Cards turned by who turns any, also those that are gone."""

        def chances(pairs: int) -> tuple[float, float, float]:
            return 2 * pairs / self.num_cards, 1 / (2 * pairs - 1), (2 * pairs - 1) / self.num_cards

        return self._turns(chances)

    @property
    def optimal_score(self) -> float:
        return _fewest(self.num_pairs, 0)[0]

    def _turns(self, chances: Callable[[int], tuple[float, float, float]]) -> float:
        """Return the expected number of cards turned by a player without memory.

        Args:
            chances: Of a number of pairs left: how likely it is that a card that is turned opens,
                that a second one is its pair if it opens, and that a second one opens.
        """
        first = np.zeros(self.num_pairs + 1)  # how likely: so many pairs left, no card open
        second = np.zeros(self.num_pairs + 1)  # the same, with an open one
        first[-1], turned = 1.0, 0.0
        for _ in range(self.episode_length):
            turned += first[1:].sum() + second[1:].sum()
            next_first, next_second = np.zeros_like(first), np.zeros_like(second)
            next_first[0] = first[0]
            for pairs in range(1, self.num_pairs + 1):
                opens, matches, opens_second = chances(pairs)
                next_second[pairs] += first[pairs] * opens + second[pairs] * (1 - opens_second)
                next_first[pairs] += first[pairs] * (1 - opens)
                next_first[pairs] += second[pairs] * opens_second * (1 - matches)
                next_first[pairs - 1] += second[pairs] * opens_second * matches
            first, second = next_first, next_second
        return float(turned)

    def observe(self, state: ConcentrationState, step: int) -> FloatArray:
        batch, cards = state.cards.shape
        rows, places = np.arange(batch), np.arange(cards)
        observations = np.zeros((batch, 4 * cards + self.picture_size), np.float32)
        flags = observations[:, : 3 * cards].reshape(batch, cards, 3)
        flags[..., 1] = places == state.open[:, None]
        flags[..., 2] = state.gone
        flags[..., 0] = 1 - flags[..., 1] - flags[..., 2]
        observations[:, 3 * cards : 4 * cards] = places == state.turned[:, None]
        seen = np.flatnonzero(state.seen != NONE)
        observations[seen, 4 * cards :] = state.pictures[rows, state.seen][seen]
        return observations

    def step(self, state: ConcentrationState, step: int, actions: NDArray[np.int64]) -> Outcome:
        """Turn cards.

        `infos` has `"scored"`, true while the game goes on, and `"pair"`, true where one was found.
        """
        rows = np.arange(len(actions))
        playing = np.asarray(~state.gone.all(axis=1))
        there = np.asarray(~state.gone[rows, actions])
        picture = state.cards[rows, actions]
        second = there & (state.open != NONE) & (state.open != actions)
        pair = second & (picture == state.cards[rows, state.open])
        gone = state.gone.copy()
        gone[rows[pair], actions[pair]] = True
        gone[rows[pair], state.open[pair]] = True
        first = there & (state.open == NONE)
        after = state._replace(
            gone=gone,
            open=np.where(second, NONE, np.where(first, actions, state.open)),
            turned=np.where(playing, actions, state.turned),
            seen=np.where(playing, np.where(there, picture, NONE), state.seen),
        )
        rewards = np.where(playing, self.pair_reward * pair - self.turn_cost, 0.0)
        return Outcome(after, rewards, {"scored": playing, "pair": pair})

    def measures(
        self, rewards: NDArray[np.float64], scored: BoolArray
    ) -> dict[str, NDArray[np.float64]]:
        return {"score": scored.sum(axis=1).astype(np.float64), "return": rewards.sum(axis=1)}

    def oracle_player(self) -> "PerfectMemory":
        """Return the best player; scores `optimal_score`."""
        return PerfectMemory(self)

    def picture(self, view: View) -> NDArray[np.uint8]:
        return concentration_picture(view.progress, self._table(view))

    def text(self, view: View) -> str:
        return concentration_text(view.progress, self._table(view))

    def _table(self, view: View) -> Table:
        now = view.states[-1]
        paired = [bool(outcome.infos["pair"][0]) for outcome in view.outcomes]
        return Table(now.cards[0], now.gone[0], int(now.open[0]), view.actions, np.array(paired))

    @property
    def draws_per_episode(self) -> int:
        return self.num_pairs * self.picture_size + self.num_cards

    def begin(self, draws: FloatArray) -> ConcentrationState:
        batch, cards = len(draws), self.num_cards
        picture_draws, card_draws = split(draws, self.num_pairs * self.picture_size)
        none = np.full(batch, NONE, np.int64)
        return ConcentrationState(
            pictures=picture_draws.reshape(batch, self.num_pairs, self.picture_size).copy(),
            cards=shuffled(card_draws, cards, cards) // 2,
            gone=np.zeros((batch, cards), np.bool_),
            open=none,
            turned=none.copy(),
            seen=none.copy(),
        )


class PerfectMemory(Player):
    """Forgets no card, and turns those that lead to the end soonest, by dynamic programming.

    It goes by observations alone: pictures are told apart by their entries.

    Args:
        task: What is played.
    """

    def __init__(self, task: Concentration) -> None:
        self._task = task

    def begin(self, state: ConcentrationState) -> None:
        batch, cards = state.cards.shape
        self._known = np.full((batch, cards, self._task.picture_size), np.nan, np.float32)

    def act(self, observations: Observations, state: ConcentrationState) -> NDArray[np.int64]:
        cards = self._task.num_cards
        flags, turned, pictures = np.split(observations, [3 * cards, 4 * cards], axis=1)
        rows, places = np.nonzero(turned)
        self._known[rows, places] = pictures[rows]
        down, is_open, gone = (flags.reshape(-1, cards, 3) == 1).transpose(2, 0, 1)
        return np.array(
            [
                0 if gone[row].all() else self._choice(self._known[row], down[row], is_open[row])
                for row in range(len(observations))
            ],
            np.int64,
        )

    def _choice(self, known: FloatArray, down: BoolArray, is_open: BoolArray) -> int:
        """Choose a card of one game, of which some are known, and one may be open."""
        here = down | is_open
        is_known = here & ~np.isnan(known[:, 0])
        same = (known[:, None] == known).all(axis=-1) & is_known & is_known[:, None]
        np.fill_diagonal(same, val=False)
        opened = np.flatnonzero(is_open)
        in_pair = same.any(axis=1)
        unknown = np.flatnonzero(down & ~is_known)
        singles = np.flatnonzero(down & is_known & ~in_pair)
        if len(opened):
            partner = np.flatnonzero(same[opened[0]])
            if len(partner):
                return int(partner[0])
            pairs_of_unknown = (len(unknown) - len(singles) - 1) // 2
            what = _fewest_with_open(pairs_of_unknown, len(singles))[1]
        else:
            if in_pair.any():
                return int(np.flatnonzero(in_pair)[0])
            what = _fewest((len(unknown) - len(singles)) // 2, len(singles))[1]
        return int((unknown if what == "unknown" or not len(singles) else singles)[0])


_What = Literal["unknown", "known"]


@cache
def _fewest(pairs: int, known: int) -> tuple[float, _What]:
    """Return how many cards must still be turned, and what to turn first, if none is open.

    Args:
        pairs: Pairs of which neither card is known.
        known: Pairs of which one card is known. (Of others both are: they are taken at once.)
    """
    if pairs == known == 0:
        return 0.0, "unknown"
    unknown = 2 * pairs + known
    # An unknown card is the other one of a known pair, which is then taken, or a new one.
    turns = 1 + known / unknown * (1 + _fewest(pairs, known - 1)[0] if known else 0)
    if pairs:
        turns += 2 * pairs / unknown * _fewest_with_open(pairs - 1, known)[0]
    return turns, "unknown"


@cache
def _fewest_with_open(pairs: int, known: int) -> tuple[float, _What]:
    """Return the same with an open card whose other one is not known.

    Args:
        pairs: Pairs of which neither card is known.
        known: Pairs of which one card is known, without that of the open card.
    """
    unknown = 2 * pairs + known + 1
    turns = 1 + _fewest(pairs, known)[0] / unknown
    if known:  # the other one of a known pair, which is taken next
        turns += known / unknown * (2 + _fewest(pairs, known)[0])
    if pairs:
        turns += 2 * pairs / unknown * _fewest(pairs - 1, known + 2)[0]
    if known:
        wait = 1 + _fewest(pairs, known + 1)[0]
        if wait < turns:
            return wait, "known"
    return turns, "unknown"
