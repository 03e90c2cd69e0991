"""Sequence tasks: what is seen does not depend on the answers.

The whole episode is drawn at once, so one definition serves the environments (which reveal it step
by step) and supervised training (which takes it whole).
"""

from abc import abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.rendering.table import Lesson, table_picture, table_text
from plastic_envs.rendering.view import View
from plastic_envs.spaces import (
    ALL,
    BoolArray,
    FloatArray,
    Observations,
    Rows,
    at,
    mapped,
    rows_of_numbers,
    table,
)
from plastic_envs.tasks.base import Outcome, Seed, Task
from plastic_envs.tasks.players import Player, Reciter


class Episodes(NamedTuple):
    """A batch of whole episodes: the state of a sequence task.

    Attributes:
        observations: [B, T, …], or a dictionary of such, in the task's observation space.
        targets: The right answer at each step, in its action space: float32 [B, T, answer_size]
            for a `Box`, int64 [B, T] for a `Discrete` one.
        scored: bool [B, T], true where the answer counts.
    """

    observations: Observations
    targets: NDArray[Any]
    scored: BoolArray


class SequenceTask(Task):
    """A task whose state is its drawn episode, with known answers.

    Subclasses make episodes of uniform numbers (`begin`). Here, an answer is right or wrong.

    Attributes:
        loss_steps: Steps over which the paper (arXiv 2302.03235) averages its training loss:
            `"scored"` or `"all"`.
    """

    loss_steps: ClassVar[Literal["scored", "all"]] = "scored"

    @abstractmethod
    def begin(self, draws: FloatArray) -> Episodes:
        """Make B episodes of uniform numbers [B, draws_per_episode] in [0, 1)."""

    def rewards(self, answers: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
        """Return the reward that each answer brings if its step is scored.

        Args:
            answers: [...] or [..., answer_size], by the action space.
            targets: Likewise.

        Returns:
            float64 [...]; here, 1 for the right choice, else 0.
        """
        return np.asarray(np.equal(answers, targets), np.float64)

    def oracle(self, observations: Observations) -> NDArray[Any]:
        """Play well by a rule written by hand: answer each step from the observations up to it.

        A task need not have one.

        Args:
            observations: Whole episodes, as in `Episodes`.

        Returns:
            Answers, of the shape of the targets.
        """
        raise NotImplementedError(f"{type(self).__name__} has no oracle")

    def oracle_player(self) -> Player | None:
        has_one = type(self).oracle is not SequenceTask.oracle
        return Reciter(self.oracle) if has_one else None

    def sample_episodes(self, num_episodes: int, seed: Seed = None) -> Episodes:
        """Draw whole episodes; as `sample_states`, whose result they are."""
        episodes: Episodes = self.sample_states(num_episodes, seed)
        return episodes

    def observe(self, state: Episodes, step: int) -> Observations:
        """Return what a step shows, and zeros behind the last."""
        return self._observe_rows(state, ALL, step)

    def step(self, state: Episodes, step: int, actions: NDArray[Any]) -> Outcome:
        """Answer.

        `infos` has `"target"`, the right answer, and `"scored"` (bool), whether it counts.
        """
        return self._step_rows(state, ALL, step, actions)

    def score(self, answers: NDArray[Any], episodes: Episodes) -> float:
        """Return the mean score of answers.

        Args:
            answers: Answers to all steps, of the shape of the targets.
            episodes: The episodes that were answered.

        Raises:
            ValueError: If the answers have another shape than the targets.
        """
        answers = np.asarray(answers)
        if answers.shape != episodes.targets.shape:
            raise ValueError(
                f"answers must have shape {episodes.targets.shape}, got {answers.shape}"
            )
        rewards = self.rewards(answers, episodes.targets)
        return float(self.measures(rewards, episodes.scored)["score"].mean())

    def picture(self, view: View) -> NDArray[np.uint8]:
        return table_picture(view.progress, self._lesson(view))

    def text(self, view: View) -> str:
        return table_text(view.progress, self._lesson(view))

    # Rows are taken of a single step, and not of whole episodes.

    def _observe_rows(self, state: Episodes, rows: Rows, step: int) -> Observations:
        if step == self.num_steps:
            return mapped(np.zeros_like, at(state.observations, (rows, 0)))
        if isinstance(state.observations, dict):
            return mapped(np.array, at(state.observations, (rows, step)))
        return np.array(state.observations[rows, step])  # the same, without detours

    def _step_rows(self, state: Episodes, rows: Rows, step: int, actions: NDArray[Any]) -> Outcome:
        targets, scored = state.targets[rows, step].copy(), state.scored[rows, step, ...].copy()
        rewards: Any = 0.0
        if scored.ndim:
            rewards = np.where(scored, self.rewards(actions, targets), 0.0)
        elif scored:
            rewards = self.rewards(actions, targets)
        return Outcome(state, rewards, {"target": targets, "scored": scored})

    def _lesson(self, view: View) -> Lesson:
        observations, targets, scored = (at(part, 0) for part in view.start)
        return Lesson(
            table(observations),
            self.observation_labels,
            rows_of_numbers(targets),
            scored,
            rows_of_numbers(view.actions),
        )


class SquaredErrorTask(SequenceTask):
    """A task whose answers are real vectors, scored by their mean squared error.

    The best player without memory answers 0, the middle of the answers' range.
    """

    score_name: ClassVar[str] = "mean squared error, scored steps"
    higher_is_better: ClassVar[bool] = False

    @property
    @abstractmethod
    def observation_space(self) -> spaces.Box:
        """Space of one observation, float32 [observation_size]."""

    @property
    @abstractmethod
    def action_space(self) -> spaces.Box:
        """Space of one answer, float32 [answer_size], symmetric about zero."""

    @property
    def random_score(self) -> float | None:
        if self.chance_score is None:
            return None
        half_width = self.action_space.high
        return self.chance_score + float(np.mean(half_width**2)) / 3

    def errors(self, answers: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
        """Return the squared error of each answer, averaged over its entries.

        Args:
            answers: [..., answer_size].
            targets: [..., answer_size].

        Returns:
            float64 [...].
        """
        # Subtracting in float64 keeps the single and the batched environment equal to the bit.
        difference = np.subtract(answers, targets, dtype=np.float64)
        if difference.shape[-1] == 1:
            error = difference[..., 0]
            return np.asarray(error * error)
        return np.asarray((difference * difference).mean(axis=-1))

    def rewards(self, answers: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
        return -self.errors(answers, targets)

    def measures(
        self, rewards: NDArray[np.float64], scored: BoolArray
    ) -> dict[str, NDArray[np.float64]]:
        return {"score": -super().measures(rewards, scored)["score"]}
