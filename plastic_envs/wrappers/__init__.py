"""Wrappers that show an agent its own past: the last action and reward, or the whole episode.

Each comes for single environments and, named `Vector…`, for vector environments in any autoreset
mode; a sub-environment of the one shows what the other shows. They wrap any environment, not only
ours.
"""

from plastic_envs.wrappers.history import History, VectorHistory
from plastic_envs.wrappers.previous import PreviousActionReward, VectorPreviousActionReward

__all__ = ["History", "PreviousActionReward", "VectorHistory", "VectorPreviousActionReward"]
