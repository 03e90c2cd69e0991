"""The tasks: pure, vectorised, seeded definitions of episodes, one file each."""

from plastic_envs.tasks.association import Association
from plastic_envs.tasks.bandit import Bandit
from plastic_envs.tasks.base import Outcome, Played, Task
from plastic_envs.tasks.concentration import Concentration
from plastic_envs.tasks.copy import Copy
from plastic_envs.tasks.cue_reward import CueReward
from plastic_envs.tasks.few_shot import FewShot
from plastic_envs.tasks.maze import Maze
from plastic_envs.tasks.pattern_completion import PatternCompletion
from plastic_envs.tasks.players import Player
from plastic_envs.tasks.regression import Regression
from plastic_envs.tasks.sequence import Episodes, SequenceTask, SquaredErrorTask
from plastic_envs.tasks.stories import Stories
from plastic_envs.tasks.target_search import TargetSearch

__all__ = [
    "Association",
    "Bandit",
    "Concentration",
    "Copy",
    "CueReward",
    "Episodes",
    "FewShot",
    "Maze",
    "Outcome",
    "PatternCompletion",
    "Played",
    "Player",
    "Regression",
    "SequenceTask",
    "SquaredErrorTask",
    "Stories",
    "TargetSearch",
    "Task",
]
