"""Memory and few-shot tasks as Gymnasium environments.

Importing this package registers the ids with Gymnasium:

    >>> import gymnasium as gym, plastic_envs
    >>> env = gym.make("PlasticCueReward-v0", num_cues=3)
    >>> envs = gym.make_vec("PlasticCueReward-v0", num_envs=256)
    >>> episodes = plastic_envs.make_task("PlasticCueReward-v0").sample_episodes(64, seed=0)
"""

from plastic_envs.env import TaskEnv
from plastic_envs.registration import ids, make_task, register_task
from plastic_envs.tasks import Episodes, SequenceTask, Task
from plastic_envs.vector_env import TaskVectorEnv
from plastic_envs.version import __version__

__all__ = [
    "Episodes",
    "SequenceTask",
    "Task",
    "TaskEnv",
    "TaskVectorEnv",
    "__version__",
    "ids",
    "make_task",
    "register_task",
]

for _env_id, _place in {
    "PlasticAssociation-v0": "sequences.association:Association",
    "PlasticBandit-v0": "interactive.bandit:Bandit",
    "PlasticConcentration-v0": "interactive.concentration:Concentration",
    "PlasticCopy-v0": "sequences.copy:Copy",
    "PlasticCueReward-v0": "sequences.cue_reward:CueReward",
    "PlasticFewShot-v0": "sequences.few_shot:FewShot",
    "PlasticMaze-v0": "interactive.maze:Maze",
    "PlasticPatternCompletion-v0": "sequences.pattern_completion:PatternCompletion",
    "PlasticRegression-v0": "sequences.regression:Regression",
    "PlasticStories-v0": "sequences.stories:Stories",
    "PlasticTargetSearch-v0": "interactive.target_search:TargetSearch",
}.items():
    register_task(_env_id, f"plastic_envs.tasks.{_place}")
