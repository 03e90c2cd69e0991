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

register_task("PlasticAssociation-v0", "plastic_envs.tasks.association:Association")
register_task("PlasticBandit-v0", "plastic_envs.tasks.bandit:Bandit")
register_task("PlasticConcentration-v0", "plastic_envs.tasks.concentration:Concentration")
register_task("PlasticCopy-v0", "plastic_envs.tasks.copy:Copy")
register_task("PlasticCueReward-v0", "plastic_envs.tasks.cue_reward:CueReward")
register_task("PlasticFewShot-v0", "plastic_envs.tasks.few_shot:FewShot")
register_task("PlasticMaze-v0", "plastic_envs.tasks.maze:Maze")
register_task(
    "PlasticPatternCompletion-v0", "plastic_envs.tasks.pattern_completion:PatternCompletion"
)
register_task("PlasticRegression-v0", "plastic_envs.tasks.regression:Regression")
register_task("PlasticStories-v0", "plastic_envs.tasks.stories:Stories")
register_task("PlasticTargetSearch-v0", "plastic_envs.tasks.target_search:TargetSearch")
