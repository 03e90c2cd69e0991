import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled
from PIL import Image, ImageSequence

from train.figures import recording
from train.figures.recording import record


def frames_of(path):
    with Image.open(path) as picture:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]


@pytest.fixture
def run(make_rl_run):
    return make_rl_run("TestCountdown-v0", env_kwargs={"length": 4})


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "GIF"])
def test_a_moving_picture_shows_the_start_and_every_step(run, tmp_path, ending):
    path = tmp_path / "new" / f"episode.{ending}"
    assert record(run, path) == path
    shown = [round(float(frame.mean()), -1) for frame in frames_of(path)]
    assert shown == [0, 40, 80, 120, 160]
    with Image.open(path) as picture:
        picture.seek(1)
        picture.load()
        assert picture.info["duration"] == 250


@pytest.mark.parametrize("ending", ["jpg", "bmp", "pdf"])
def test_another_picture_shows_the_last_step(run, tmp_path, ending):
    path = record(run, tmp_path / f"episode.{ending}")
    if ending == "pdf":
        assert path.read_bytes().startswith(b"%PDF")
        return
    (frame,) = frames_of(path)
    assert round(float(frame.mean()), -1) == 160


def test_a_task_of_ours_is_recorded(make_rl_run, tmp_path):
    run = make_rl_run(env_kwargs={"size": 5, "episode_length": 3})
    frames = frames_of(record(run, tmp_path / "episode.gif", checkpoint="last"))
    assert len(frames) == 4
    assert all(frame.shape == (480, 720, 3) for frame in frames)


def test_a_seed_makes_the_same_picture_and_by_default_it_is_that_of_the_run(make_rl_run, tmp_path):
    run = make_rl_run("TestCountdown-v0")  # episodes of 2 to 5 steps
    seed = run.config().test_seed
    paths = [
        record(run, tmp_path / f"{k}.gif", seed=given)
        for k, given in enumerate((None, seed, *range(8)))
    ]
    pictures = [path.read_bytes() for path in paths]
    assert pictures[0] == pictures[1]
    assert {len(frames_of(path)) for path in paths} >= {3, 4, 5}


def test_a_long_episode_is_cut_off(run, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "_MAX_STEPS", 2)
    assert len(frames_of(record(run, tmp_path / "episode.gif"))) == 3


@pytest.mark.parametrize("name", ["episode.xyz", "episode"])
def test_an_unknown_ending_is_refused_before_anything_is_played(run, tmp_path, monkeypatch, name):
    monkeypatch.setattr(recording, "make_vec", None)
    with pytest.raises(ValueError, match=r"there is no picture format .* try \.gif or \.png"):
        record(run, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*WARN")
@pytest.mark.parametrize("problem", [None, NotImplementedError(), DependencyNotInstalled("pygame")])
def test_an_environment_without_pictures_is_refused(run, tmp_path, monkeypatch, problem):
    def render(self):
        if problem is not None:
            raise problem

    monkeypatch.setattr(gym.spec("TestCountdown-v0").entry_point, "render", render)
    with pytest.raises(ValueError, match=f"the environment shows no pictures.*{problem or ''}"):
        record(run, tmp_path / "episode.gif")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_agent_is_named(run, tmp_path):
    run.checkpoint_path("last").unlink()
    with pytest.raises(FileNotFoundError, match=r"last\.zip does not exist"):
        record(run, tmp_path / "episode.gif", checkpoint="last")
