"""Tasks as a user writes them: no more than a task must have, and registered in one line."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from gymnasium import spaces

from plastic_envs.tasks import Episodes, Outcome, SequenceTask, Task


@dataclass(frozen=True)
class Parity(SequenceTask):
    """Tell whether the number of ones so far is odd."""

    length: int = 24

    @property
    def num_steps(self):
        return self.length

    @property
    def observation_space(self):
        return spaces.Box(0, 1, (1,), np.float32)

    @property
    def action_space(self):
        return spaces.Discrete(2)

    @property
    def draws_per_episode(self):
        return self.length

    def begin(self, draws):
        bits = draws < 0.5
        observations = bits[..., None].astype(np.float32)
        return Episodes(observations, bits.cumsum(axis=1) % 2, np.ones_like(bits))


class ChaseState(NamedTuple):
    places: np.ndarray
    speeds: np.ndarray


@dataclass(frozen=True)
class Chase(Task):
    """Stay close to something that drifts, and that an answer pushes."""

    length: int = 5

    @property
    def num_steps(self):
        return self.length

    @property
    def observation_space(self):
        place = spaces.Box(-9, 9, (2,), np.float32)
        return spaces.Dict(place=place, time=spaces.Box(0, self.length, (1,), np.float32))

    @property
    def action_space(self):
        return spaces.Box(-1, 1, (2,), np.float32)

    @property
    def draws_per_episode(self):
        return 4

    def begin(self, draws):
        return ChaseState(draws[:, :2], draws[:, 2:])

    def observe(self, state, step):
        time = np.full((len(state.places), 1), step, np.float32)
        return {"place": state.places.clip(-9, 9), "time": time}

    def step(self, state, step, actions):
        miss = np.abs(state.places - actions).astype(np.float64).sum(axis=1)
        places = state.places + state.speeds + np.float32(0.1) * actions
        scored = np.full(len(miss), step % 2 == 0)
        return Outcome(state._replace(places=places), -miss * scored, {"scored": scored})


OWN = {"Own/Parity-v0": Parity, "Own/Chase-v0": Chase}
