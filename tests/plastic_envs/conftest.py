from contextlib import contextmanager

import gymnasium as gym
import numpy as np
import pytest

import plastic_envs
from plastic_envs.images import Arrays
from tests.plastic_envs.image_files import SMALL1, SMALL2, omniglot_archive
from tests.plastic_envs.own_tasks import OWN

_SEQUENCE = [
    ("PlasticPatternCompletion-v0", {}),
    (
        "PlasticPatternCompletion-v0",
        {"num_bits": 7, "presentations": 2, "num_queries": 2, "erased": 0.4},
    ),
    ("PlasticCopy-v0", {}),
    ("PlasticCopy-v0", {"length": 4, "dim": 3, "delay": 5}),
    ("PlasticCueReward-v0", {}),
    ("PlasticCueReward-v0", {"noise": 0, "num_cues": 3, "cue_size": 5, "episode_length": 7}),
    ("PlasticRegression-v0", {}),
    ("PlasticRegression-v0", {"kind": "mlp"}),
    ("PlasticRegression-v0", {"num_support": 10}),
]
_FEW_SHOT = [
    ("PlasticFewShot-v0", {}),
    ("PlasticFewShot-v0", {"flat": True}),
    (
        "PlasticFewShot-v0",
        {
            "label_mode": "delayed",
            "query_sampling": "independent",
            "n_way": 3,
            "k_shot": 2,
            "split": "test",
        },
    ),
]
_LABELS = [
    ("PlasticAssociation-v0", {}),
    (
        "PlasticAssociation-v0",
        {"labels": "repeated", "num_labels": 3, "num_queries": 2, "noise": 0.1},
    ),
    ("PlasticStories-v0", {}),
    ("PlasticStories-v0", {"num_facts": 2, "story_length": 7, "tokens": "word"}),
]
_INTERACTIVE = [
    ("PlasticBandit-v0", {}),
    ("PlasticConcentration-v0", {}),
    ("PlasticConcentration-v0", {"num_pairs": 3, "picture_size": 2, "episode_length": 12}),
    ("PlasticMaze-v0", {"size": 5, "episode_length": 12, "wall_penalty": 0}),
    ("PlasticMaze-v0", {"episode_length": 90}),
    ("PlasticTargetSearch-v0", {"num_cues": 3, "cue_size": 2, "episode_length": 23}),
    ("PlasticTargetSearch-v0", {}),
]
_ALL = [*_SEQUENCE, *_FEW_SHOT, *_LABELS, *_INTERACTIVE, *((env_id, {}) for env_id in OWN)]


def _name(variant):
    env_id, kwargs = variant
    return "-".join([env_id.removeprefix("Plastic"), *(f"{k}={v}" for k, v in kwargs.items())])


_EACH = list({env_id: (env_id, kwargs) for env_id, kwargs in _ALL}.values())


@contextmanager
def _registered(variant):
    env_id, _ = variant
    if env_id in OWN:
        plastic_envs.register_task(env_id, OWN[env_id])
    yield variant
    if env_id in OWN:
        del gym.registry[env_id]


@pytest.fixture(scope="module", params=_ALL, ids=_name)
def variant(request):
    """Id and keyword arguments of a task: every id, some twice, and tasks of a user's own."""
    with _registered(request.param) as registered:
        yield registered


@pytest.fixture(scope="module", params=_EACH, ids=_name)
def each(request):
    """Those of `variant`, but every id once."""
    with _registered(request.param) as registered:
        yield registered


@pytest.fixture(scope="session", params=[*_SEQUENCE, *_FEW_SHOT, *_LABELS], ids=_name)
def sequence(request):
    """Those of our tasks whose episodes do not depend on the answers."""
    return request.param


@pytest.fixture(scope="session", params=_SEQUENCE, ids=_name)
def real_valued(request):
    """Those of `sequence` whose answers are vectors, scored by squared error."""
    return request.param


@pytest.fixture(scope="session", params=_FEW_SHOT, ids=_name)
def few_shot(request):
    """Those of `sequence` whose answers are labels of images."""
    return request.param


@pytest.fixture(scope="session")
def image_source():
    """Thirty classes of twelve images, all in one split; the first pixels tell class and image."""
    labels, drawing = np.repeat(np.arange(30), 12), np.tile(np.arange(12), 30)
    images = np.random.default_rng(0).integers(0, 256, (360, 8, 8, 3), dtype=np.uint8)
    images[:, 0, 0] = np.stack([labels, drawing, labels], axis=-1)
    return Arrays(images, labels, classes={"train": range(30)})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of its own for each test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PLASTIC_ENVS_CACHE", str(folder))
    return folder


@pytest.fixture
def root(tmp_path):
    """A folder for the files of a source."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def small_omniglot(root):
    omniglot_archive(root / "images_background_small1.zip", SMALL1)
    omniglot_archive(root / "images_background_small2.zip", SMALL2)
    return root
