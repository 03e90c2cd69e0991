"""Grid maze: find a hidden place, remember it, and come back to it from everywhere."""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.checks import LARGEST_EPISODE, check_bytes
from plastic_envs.rendering.maze import Walk, maze_picture, maze_text
from plastic_envs.rendering.view import View
from plastic_envs.spaces import BoolArray, FloatArray, Observations, box
from plastic_envs.tasks.base import Outcome, Task, elapsed
from plastic_envs.tasks.draws import integers, split
from plastic_envs.tasks.players import Player

IntArray = NDArray[np.int64]

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Row and column steps of the actions: up, down, left, right."""

_REWARD = 10.0
_FIRST_SIZE = 5  # the smallest maze with somewhere to go
_PLACE_BYTES = 80  # of a `Grid`


class MazeState(NamedTuple):
    """Episodes. Places are numbered row by row: `row * size + column`.

    Attributes:
        position: int64 [B], where the agent is.
        goal: int64 [B], the place of the reward.
        visits: int64 [B], how often the goal was reached.
        destinations: int64 [B, T], where the agent is put after each visit.
    """

    position: IntArray
    goal: IntArray
    visits: IntArray
    destinations: IntArray


class Grid(NamedTuple):
    """A maze and what can be known of it beforehand.

    Attributes:
        walls: bool [size * size].
        free: int64 [F], the places without a wall.
        views: float32 [size * size, 9], the 3×3 walls around each place, row by row.
        next: int64 [size * size, 4], where each move leads, walls being no obstacle.
        centre: The place in the middle.
    """

    walls: BoolArray
    free: IntArray
    views: FloatArray
    next: IntArray
    centre: int


@dataclass(frozen=True)
class Maze(Task):
    """Find the hidden place of the reward in a maze, and come back to it as often as possible.

    ## Description
    The maze exploration task of Miconi, Stanley and Clune ("Differentiable plasticity", ICML 2018,
    arXiv 1804.02464). The maze is a square with a wall around it and a pillar wherever row and
    column are both even, except in the centre. It is always the same; the place of the reward is
    another one in every episode and cannot be seen. When the agent steps on it, it is rewarded and
    put somewhere at random, so it must recognise where it is and find the way back.

    ## Observation space
    `Box(0, 1)`, float32 `[10]`: the 3×3 places around the agent, row by row, 1 where there is a
    wall, and the share of the episode that has passed. The wrapper `PreviousActionReward` adds the
    last action and reward, without which nothing can be learned.

    ## Action space
    `Discrete(4)`: up, down, left, right.

    ## Reward
    10 for reaching the place of the reward; `-wall_penalty` for walking into a wall, which leaves
    the agent where it is; otherwise 0.

    ## Starting state
    The agent is in the centre. The place of the reward is uniform over all places without a wall
    but the centre; after each visit the agent is put on a uniform place without a wall other than
    that of the reward.

    ## Episode end
    Terminates after `episode_length` steps.

    ## Scores
    Sum of rewards of an episode. Random actions: `random_score`, 8.7. Bound: the place is known
    from the start and the agent takes shortest ways, `optimal_score`, 520. The best without memory
    is not known; a walker who never turns back, for which it needs its last action, gets 69.

    ## Version history
    - v0: first version.

    Attributes:
        size: Width of the maze with its outer walls, odd and at least 5. The scores and the
            players that know the way take up to 89.
        episode_length: Steps, at least 1.
        wall_penalty: What walking into a wall costs, from 0 to a million.
    """

    size: int = 9
    episode_length: int = 250
    wall_penalty: float = 0.1

    score_name: ClassVar[str] = "return"
    oracle_name: ClassVar[str] = "exploring, then knowing the way"

    def __post_init__(self) -> None:
        """Check the arguments."""
        self.check_integers(size=_FIRST_SIZE, episode_length=1)
        if self.size % 2 == 0:
            raise ValueError(f"size must be odd, got {self.size}")
        self.check_numbers(wall_penalty=0)
        check_bytes("the maze", self.size**2 * _PLACE_BYTES, LARGEST_EPISODE, size=self.size)
        self.check_size()

    @property
    def num_steps(self) -> int:
        return self.episode_length

    @property
    def observation_space(self) -> spaces.Box:
        return box([0] * 10, [1] * 10)

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(len(MOVES))

    @property
    def reward_bounds(self) -> tuple[float, float]:
        return -self.wall_penalty, _REWARD

    @property
    def random_score(self) -> float:
        return _random_score(self)

    @property
    def optimal_score(self) -> float:
        return _optimal_score(self)

    @property
    def grid(self) -> Grid:
        """The maze itself; its arrays are shared, not to be changed."""
        return _grid(self.size)

    def observe(self, state: MazeState, step: int) -> FloatArray:
        share = elapsed(step, self.episode_length, len(state.position))
        return np.concatenate([self.grid.views[state.position], share], axis=1)

    def step(self, state: MazeState, step: int, actions: IntArray) -> Outcome:
        """Walk.

        `infos` has `"scored"` (all), `"reached"` (bool), and `"position"` (int64), the place that
        the action led to, before the agent is put elsewhere.
        """
        grid = self.grid
        ahead = grid.next[state.position, actions]
        blocked = grid.walls[ahead]
        place = np.where(blocked, state.position, ahead)
        reached = place == state.goal
        rewards = _REWARD * reached - self.wall_penalty * blocked
        rows = np.arange(len(place))
        state = state._replace(
            position=np.where(reached, state.destinations[rows, state.visits], place),
            visits=state.visits + reached,
        )
        scored = np.ones(len(place), np.bool_)
        return Outcome(state, rewards, {"scored": scored, "reached": reached, "position": place})

    def measures(
        self,
        rewards: NDArray[np.float64],
        scored: BoolArray,
    ) -> dict[str, NDArray[np.float64]]:
        visits = (rewards > 0).sum(axis=1).astype(np.float64)
        return {"score": rewards.sum(axis=1), "visits": visits}

    def oracle_player(self) -> "Explorer":
        """Return a player who knows where it is, but not where the reward is."""
        return Explorer(self)

    def picture(self, view: View) -> NDArray[np.uint8]:
        return maze_picture(view.progress, self._walk(view))

    def text(self, view: View) -> str:
        return maze_text(view.progress, self._walk(view))

    def _walk(self, view: View) -> Walk:
        states = view.states
        way: list[int] = []
        for step, state in enumerate(states):
            if step and view.outcomes[step - 1].infos["reached"][0]:
                way = []
            way.append(int(state.position[0]))
        walls = self.grid.walls.reshape(self.size, self.size)
        place, goal, visits = (int(part[0]) for part in states[-1][:3])
        return Walk(walls, place, goal, visits, np.array(way))

    @property
    def draws_per_episode(self) -> int:
        return 1 + self.episode_length  # the goal, and a destination for as many visits

    def begin(self, draws: FloatArray) -> MazeState:
        grid, batch = self.grid, len(draws)
        goal_draws, destination_draws = split(draws, 1)
        centre = np.full(batch, grid.centre, np.int64)
        goal = _other(grid, integers(goal_draws[:, 0], len(grid.free) - 1), centre)
        destinations = integers(destination_draws, len(grid.free) - 1)
        destinations = _other(grid, destinations, goal[:, None])
        return MazeState(centre, goal, np.zeros(batch, np.int64), destinations)


class Walker(Player):
    """Walks at random, but never into a wall and never back, except out of a dead end.

    It needs no memory beyond the last action: what an agent without memory can do behind
    `PreviousActionReward`.

    Args:
        rng: Where the turns come from.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def begin(self, state: MazeState) -> None:
        self._back = np.full(len(state.position), -1)

    def act(self, observations: Observations, state: MazeState) -> IntArray:
        ahead = observations[:, [1, 7, 3, 5]]  # the places around the middle, in the order of MOVES
        dislike = ahead + 0.5 * (np.arange(len(MOVES)) == self._back[:, None])
        tie = self._rng.random(dislike.shape) / 4
        return np.asarray((dislike + tie).argmin(axis=1))

    def learn(self, actions: IntArray, rewards: NDArray[np.float64]) -> None:
        opposite = actions ^ 1
        self._back = np.where(rewards > 0, -1, opposite)  # it was put elsewhere


class KnowsGoal(Player):
    """Knows everything and takes shortest ways: scores `optimal_score`.

    Args:
        task: What is played.
    """

    def __init__(self, task: Maze) -> None:
        self._towards = _ways(task.size)[1]

    def act(self, observations: Observations, state: MazeState) -> IntArray:
        return self._towards[state.position, state.goal]


class Explorer(Player):
    """Knows where it is, but must find the reward; then it takes shortest ways to it.

    Until then it goes to the nearest place where it has not been. (An agent has only its 3×3 view
    to tell where it is, so this is more than can be hoped for.)

    Args:
        task: What is played.
    """

    def __init__(self, task: Maze) -> None:
        self._distance, self._towards = _ways(task.size)
        self._free = task.grid.free

    def begin(self, state: MazeState) -> None:
        self._ruled_out = np.zeros((len(state.position), len(self._free)), np.bool_)

    def act(self, observations: Observations, state: MazeState) -> IntArray:
        found = state.visits > 0
        self._ruled_out |= self._free == state.position[:, None]
        distance = self._distance[state.position][:, self._free] + 1e9 * self._ruled_out
        unseen = self._free[distance.argmin(axis=1)]
        return self._towards[state.position, np.where(found, state.goal, unseen)]


@cache
def _grid(size: int) -> Grid:
    walls = np.zeros((size, size), np.bool_)
    walls[[0, -1], :] = walls[:, [0, -1]] = True
    walls[2:-1:2, 2:-1:2] = True
    walls[size // 2, size // 2] = False
    around = np.lib.stride_tricks.sliding_window_view(np.pad(walls, 1), (3, 3))
    places = np.arange(size * size)
    offsets = np.array([row * size + column for row, column in MOVES])
    return Grid(
        walls.ravel(),
        np.flatnonzero(~walls),
        around.reshape(size * size, 9).astype(np.float32),
        (places[:, None] + offsets) % (size * size),
        (size // 2) * size + size // 2,
    )


def _other(grid: Grid, draws: IntArray, but: IntArray) -> IntArray:
    """Return the places without a wall of numbers 0 … F - 2, where `but` is not counted."""
    return np.asarray(grid.free[draws + (draws >= np.searchsorted(grid.free, but))])


def _check_pairs(size: int) -> None:
    """Check that the ways between all places are not too many."""
    check_bytes("all ways through the maze", 16 * size**4, LARGEST_EPISODE, size=size)


@cache
def _ways(size: int) -> tuple[IntArray, IntArray]:
    """Return distances and first moves [size * size, size * size] from place to place.

    Walls are as far as can be. Of several shortest ways the one with the lowest first move counts.
    """
    _check_pairs(size)
    grid, count = _grid(size), size * size
    distance = np.full((count, count), count)
    distance[grid.free, grid.free] = 0
    neighbours = grid.next[grid.free]  # [F, 4]; the row of a wall stays as it is
    for _ in range(count):
        nearer = np.minimum(distance[grid.free], 1 + distance[neighbours].min(axis=1))
        nearer[:, grid.walls] = count
        if np.array_equal(nearer, distance[grid.free]):
            break
        distance[grid.free] = nearer
    towards = np.zeros((count, count), np.int64)
    towards[grid.free] = distance[neighbours].argmin(axis=1)
    return distance, towards


@cache
def _random_score(task: Maze) -> float:
    """Return the expected return of uniform actions, by propagating where the agent can be."""
    _check_pairs(task.size)
    grid = task.grid
    number = np.full(task.size**2, -1)
    number[grid.free] = np.arange(len(grid.free))
    ahead = grid.next[grid.free]
    blocked = grid.walls[ahead]
    leads = np.where(blocked, np.arange(len(grid.free))[:, None], number[ahead])  # [F, 4]
    move = np.zeros((len(grid.free), len(grid.free)))
    np.add.at(move, (np.arange(len(grid.free))[:, None], leads), 1 / len(MOVES))
    centre, total = number[grid.centre], 0.0
    goals = np.delete(np.arange(len(grid.free)), centre)
    there = np.zeros((len(goals), len(grid.free)))  # a row for each goal
    there[:, centre] = 1
    elsewhere = np.full_like(there, 1 / len(goals))
    rows = np.arange(len(goals))
    elsewhere[rows, goals] = 0
    for _ in range(task.episode_length):
        total -= task.wall_penalty * float((there @ blocked.mean(axis=1)).mean())
        there = there @ move
        reached = there[rows, goals].copy()
        total += _REWARD * float(reached.mean())
        there[rows, goals] = 0
        there += reached[:, None] * elsewhere
    return total


@cache
def _optimal_score(task: Maze) -> float:
    """Return the expected return of shortest ways, from how many trips fit into an episode."""
    grid, steps = task.grid, task.episode_length
    between = _ways(task.size)[0][np.ix_(grid.free, grid.free)]
    visits = 0.0
    goals = [k for k, place in enumerate(grid.free) if place != grid.centre]
    for goal in goals:
        first = int(between[np.searchsorted(grid.free, grid.centre), goal])
        trip = np.bincount(np.delete(between[goal], goal)) / len(goals)
        arrived = np.zeros(steps + 1)  # when the latest trip can have ended
        arrived[first : first + 1] = 1
        while arrived.any():
            visits += float(arrived.sum())
            arrived = np.convolve(arrived, trip)[: steps + 1]
    return _REWARD * visits / len(goals)
