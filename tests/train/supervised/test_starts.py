"""What can be known before a run begins is checked before it leaves anything behind."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from train.figures.recording import record
from train.reinforcement import environments as rl_environments
from train.reinforcement import training as reinforcement
from train.reinforcement.agent import closed_env, new_agent
from train.reinforcement.environments import EnvironmentFailedError, make_vec
from train.runs.run_folder import RLRunFolder, RunFolder
from train.scoring.evaluation import evaluate
from train.supervised import training as supervised


class Troubled(gym.Env):
    """Goes on for ever, or fails where it is told to."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(self, fails="", after=0, render_mode=None):
        self.fails, self.left, self.render_mode = fails, after, render_mode
        self._maybe("init")

    def _maybe(self, where):
        if self.fails == where:
            self.left -= 1
            if self.left < 0:
                raise KeyError(f"5x5\n{'x' * 10_000}")
        if self.fails == f"{where} by hand":
            raise KeyboardInterrupt
        if self.fails == f"{where} and ends":
            raise SystemExit(0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._maybe("reset")
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self._maybe("step")
        return np.zeros(2, np.float32), 1.0, False, False, {}

    def render(self):
        self._maybe("render")
        return np.zeros((4, 4, 3), np.uint8)


@pytest.fixture(autouse=True, scope="module")
def troubled():
    gym.register("TestTroubled-v0", Troubled)
    yield
    del gym.registry["TestTroubled-v0"]


@pytest.fixture(scope="session")
def uneven_file(tmp_path_factory):
    """Images of 8 classes, of which 5 are for training and 1 or 2 for the others."""
    path = tmp_path_factory.mktemp("images") / "uneven.npz"
    images = np.random.default_rng(0).integers(0, 255, (8 * 6, 16, 16)).astype(np.uint8)
    np.savez(path, images=images, labels=np.repeat(np.arange(8), 6))
    return path


@pytest.mark.parametrize("kind", ["supervised", "reinforced"])
def test_too_few_classes_in_any_split_are_found_at_once(
    make_config, make_rl_config, uneven_file, tmp_path, kind
):
    path, root = tmp_path / "a" / "b", str(uneven_file)
    if kind == "supervised":
        train_run, folder = supervised.train_network, RunFolder(path)
        config = make_config("few-shot", root=root)
    else:
        train_run, folder = reinforcement.train_agent, RLRunFolder(path)
        images = {"n_way": 3, "source": "arrays", "root": root}
        config = make_rl_config(
            "PlasticFewShot-v0", env_kwargs=images, previous_action_reward=False
        )
    with pytest.raises(ValueError, match=r"n_way=3, but there are 1 classes in the (val|test)"):
        train_run(config, folder, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["_validate", "_log", "__init__"])
def test_a_run_that_fails_before_its_first_checkpoint_leaves_nothing(
    make_config, make_run, tmp_path, monkeypatch, assert_same_run, stage
):
    (tmp_path / "mine.txt").write_text("stays")
    folder = RunFolder(tmp_path)

    def fail(*_, **__):
        (tmp_path / "seen.txt").write_text("of somebody else")
        raise RuntimeError("something")

    with monkeypatch.context() as patch:
        patch.setattr(supervised._Training, stage, fail)
        with pytest.raises(RuntimeError, match="something"):
            supervised.train_network(make_config(), folder, progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", "seen.txt"}
    supervised.train_network(make_config(), folder, progress=False)
    assert_same_run(folder, make_run())


@pytest.mark.parametrize("place", ["file", "file/run", "locked/run"])
def test_a_folder_that_cannot_be_written_is_named(make_config, make_rl_config, tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "run").write_text("")
    for folder, train_run, config in (
        (RunFolder(tmp_path / place), supervised.train_network, make_config()),
        (RLRunFolder(tmp_path / place), reinforcement.train_agent, make_rl_config()),
    ):
        with pytest.raises(OSError, match=str(tmp_path / place)):
            train_run(config, folder, progress=False)
    assert (tmp_path / "file").read_text() == ""


def test_a_missing_encoder_or_lesson_leaves_nothing(make_config, make_rl_config, tmp_path):
    config = make_config("few-shot", encoder_run="absent")
    with pytest.raises(FileNotFoundError, match="absent is no run folder"):
        supervised.train_network(config, RunFolder(tmp_path / "a"), progress=False)
    config = make_rl_config(start_from="absent")
    with pytest.raises(FileNotFoundError, match="absent is no run folder"):
        reinforcement.train_agent(config, RLRunFolder(tmp_path / "b"), progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fails": "init"}, "cannot be made: KeyError: '5x5"),
        ({"fails": "reset"}, r"failed in reset\(\): KeyError: '5x5"),
        ({"fails": "step"}, r"failed in step\(\): KeyError: '5x5"),
        ({"fails": "step", "after": 1}, r"failed in step\(\): KeyError: '5x5"),
        ({"fails": "init and ends"}, "cannot be made: SystemExit: 0"),
        ({"fails": "step and ends"}, r"failed in step\(\): SystemExit: 0"),
        ({"colour": 3}, "cannot be made: TypeError: .*colour"),
    ],
)
def test_what_an_environment_raises_is_one_line_that_names_it(
    make_rl_config, tmp_path, settings, message
):
    folder = RLRunFolder(tmp_path / "run")
    config = make_rl_config("TestTroubled-v0", env_kwargs=settings)
    with pytest.raises((ValueError, EnvironmentFailedError)) as caught:
        reinforcement.train_agent(config, folder, progress=False)
    assert caught.match(f"^the environment 'TestTroubled-v0' {message}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    assert not folder.path.exists()


def test_an_environment_of_a_run_that_is_gone_is_told_with_the_settings(make_rl_config, tmp_path):
    folder = RLRunFolder(tmp_path / "run")
    config = make_rl_config("PlasticBandit-v0")
    reinforcement.train_agent(config, folder, progress=False)
    folder.config_path.write_text(folder.config_path.read_text().replace("Bandit", "Gone"))
    for use in (
        lambda: evaluate(folder, num_episodes=2),
        lambda: record(folder, tmp_path / "episode.gif"),
        lambda: folder.load_model("best"),
        lambda: reinforcement.train_agent(folder.config(), folder, resume=True, progress=False),
    ):
        with pytest.raises(ValueError, match=r"config.json: the environment 'PlasticGone-v0'"):
            use()


@pytest.mark.parametrize("where", ["init", "reset", "step"])
def test_ctrl_c_is_not_swallowed(make_rl_config, where):
    config = make_rl_config("TestTroubled-v0", env_kwargs={"fails": f"{where} by hand"})
    with pytest.raises(KeyboardInterrupt):
        rl_environments.check_environments(config)


@pytest.mark.parametrize("module", ["", "gymnasium:"])
def test_an_environment_that_never_ends_is_cut_off_and_named(
    make_rl_config, tmp_path, monkeypatch, caplog, module
):
    monkeypatch.setattr(rl_environments, "UNLIMITED_STEPS", 20)
    config = make_rl_config(f"{module}TestTroubled-v0", steps=48)
    folder = RLRunFolder(tmp_path / "run")
    reinforcement.train_agent(config, folder, progress=False)
    assert {record["val_length"] for record in folder.metrics()} == {20}
    assert f"6 of 6 episodes of {module}TestTroubled-v0 were cut off after 20 steps" in caplog.text
    assert evaluate(folder, num_episodes=2)["score"] == 20
    monkeypatch.setattr("train.figures.recording._MAX_STEPS", 3)
    record(folder, tmp_path / "episode.gif")


@pytest.mark.parametrize("limit", [1, 3, None])
def test_the_limit_can_be_set_and_environments_keep_their_own(make_rl_config, caplog, limit):
    config = make_rl_config("CartPole-v1", eval_max_steps=limit)
    env = rl_environments.make_evaluation_vec(config, 2, "test")
    assert env.cut_after == limit  # it names one of its own
    env.reset(seed=0)
    ended = [env.step(np.zeros(2, np.int64))[3].any() for _ in range(4)]
    assert ended == [limit is not None and (k + 1) % limit == 0 for k in range(4)]
    env.close()


def test_a_limit_is_not_for_tasks_of_ours(make_rl_config):
    with pytest.raises(ValueError, match="eval_max_steps=3 is for foreign environments"):
        rl_environments.check_environments(make_rl_config(eval_max_steps=3))


def test_a_picture_that_fails_is_told_in_a_line(make_rl_run, tmp_path):
    settings = {"env_kwargs": {"fails": "render"}, "steps": 48, "eval_max_steps": 3}
    run = make_rl_run("TestTroubled-v0", **settings)
    with pytest.raises(ValueError, match="the environment shows no pictures: KeyError: '5x5") as e:
        record(run, tmp_path / "episode.gif")
    assert len(str(e.value)) < 700


@pytest.mark.parametrize("seed", [-1, 2**32, 10**400, True, "x"])
def test_seeds_that_are_none_are_refused(make_rl_run, tmp_path, seed):
    run = make_rl_run("TestCountdown-v0", steps=48)
    for program in (
        lambda: record(run, tmp_path / "episode.gif", seed=seed),
        lambda: evaluate(run, seed=seed),
    ):
        with pytest.raises(ValueError, match="seed must be an integer of at least 0 and at most"):
            program()


def test_the_environment_is_made_as_the_programs_need_it(make_rl_config):
    """What `env_kwargs` could set behind their back is refused."""
    for name, value in {"num_envs": 7, "render_mode": "human", "autoreset_mode": "x"}.items():
        with pytest.raises(ValueError, match=f"env_kwargs cannot set {name}"):
            make_rl_config("CartPole-v1", env_kwargs={name: value})
    assert make_vec(make_rl_config("CartPole-v1"), 3, "train").num_envs == 3


def test_images_of_an_agent_come_with_their_labels_and_settings(make_rl_config, image_file):
    images = {"env_kwargs": {"n_way": 3, "source": "arrays", "root": str(image_file)}}
    shown = make_rl_config("PlasticFewShot-v0", **images)
    with pytest.raises(ValueError, match=r"must be off \(--no-previous-action-reward\)"):
        rl_environments.check_environments(shown)
    settings = {"previous_action_reward": False, "filters": 2, "rectify": True, **images}
    config = make_rl_config("PlasticFewShot-v0", **settings)
    encoder = new_agent(config, closed_env(config), 0).policy.features_extractor.encoder
    assert (encoder.image_encoder.embedding_size, encoder.rectify) == (2, True)
    maze = make_rl_config(filters=2)
    with pytest.raises(ValueError, match="filters=2 is set, but the task has no images"):
        new_agent(maze, closed_env(maze), 0)


def test_a_network_that_could_learn_nothing_is_not_trained(
    make_config, make_run, encoder_run, tmp_path
):
    frozen = {"core": "prototypical", "encoder_run": str(encoder_run.path)}
    other = {"encoder_run": str(make_run().path)}
    for settings, message in ((frozen, "nothing to train"), (other, "it has no image encoder")):
        config = make_config("few-shot", **settings)
        with pytest.raises(ValueError, match=message):
            supervised.train_network(config, RunFolder(tmp_path / "run"), progress=False)
    assert list(tmp_path.iterdir()) == []
