"""Agents that learn by reinforcement, on top of Stable-Baselines3.

>>> from agents.sb3 import RecurrentPPO
>>> model = RecurrentPPO("PlasticPolicy", "CartPole-v1", policy_kwargs={"rule": "gradient"})
"""

try:
    import stable_baselines3  # noqa: F401
except ImportError as error:
    raise ImportError(
        "agents.sb3 needs Stable-Baselines3: pip install 'plastic-envs[sb3]', or "
        "pip install '.[sb3]' in a copy of the repository"
    ) from error

from agents.sb3.buffer import RecurrentRolloutBuffer
from agents.sb3.extractor import (
    DictExtractor,
    ImageExtractor,
    ImageLabelExtractor,
    PlasticFeaturesExtractor,
)
from agents.sb3.policies import PlasticPolicy
from agents.sb3.ppo import RecurrentPPO
from agents.sb3.vec_env import VectorEnvAdapter

__all__ = [
    "DictExtractor",
    "ImageExtractor",
    "ImageLabelExtractor",
    "PlasticFeaturesExtractor",
    "PlasticPolicy",
    "RecurrentPPO",
    "RecurrentRolloutBuffer",
    "VectorEnvAdapter",
]
