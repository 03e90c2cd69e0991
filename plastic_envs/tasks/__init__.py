"""The tasks: pure, vectorised, seeded definitions of episodes, one file each."""

from plastic_envs.tasks.base import Episodes, SequenceTask
from plastic_envs.tasks.copy import Copy
from plastic_envs.tasks.cue_reward import CueReward
from plastic_envs.tasks.few_shot import FewShot
from plastic_envs.tasks.regression import Regression

__all__ = ["Copy", "CueReward", "Episodes", "FewShot", "Regression", "SequenceTask"]
