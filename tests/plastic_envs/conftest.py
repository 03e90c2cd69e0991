import pytest

import plastic_envs

_DEFAULTS = [(env_id, {}) for env_id in plastic_envs.ids()]
_OTHERS = [
    ("PlasticCopy-v0", {"length": 4, "dim": 3, "delay": 5}),
    ("PlasticCueReward-v0", {"noise": 0, "num_cues": 3, "cue_size": 5, "episode_length": 7}),
    ("PlasticRegression-v0", {"kind": "mlp"}),
    ("PlasticRegression-v0", {"num_support": 10}),
]


def _name(variant):
    env_id, kwargs = variant
    return "-".join([env_id.removeprefix("Plastic"), *(f"{k}={v}" for k, v in kwargs.items())])


@pytest.fixture(scope="session", params=_DEFAULTS + _OTHERS, ids=_name)
def variant(request):
    """Id and keyword arguments of a task: every id with its defaults, and some others."""
    return request.param
