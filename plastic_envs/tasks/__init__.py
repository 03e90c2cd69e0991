"""The tasks: pure, vectorised, seeded definitions of episodes, in two rooms, a file each."""

from plastic_envs.tasks.base import Outcome, Played, Task
from plastic_envs.tasks.interactive.bandit import Bandit
from plastic_envs.tasks.interactive.concentration import Concentration
from plastic_envs.tasks.interactive.maze import Maze
from plastic_envs.tasks.interactive.target_search import TargetSearch
from plastic_envs.tasks.players import Player
from plastic_envs.tasks.sequence import Episodes, SequenceTask, SquaredErrorTask
from plastic_envs.tasks.sequences.association import Association
from plastic_envs.tasks.sequences.copy import Copy
from plastic_envs.tasks.sequences.cue_reward import CueReward
from plastic_envs.tasks.sequences.few_shot import FewShot
from plastic_envs.tasks.sequences.pattern_completion import PatternCompletion
from plastic_envs.tasks.sequences.regression import Regression
from plastic_envs.tasks.sequences.stories import Stories

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
