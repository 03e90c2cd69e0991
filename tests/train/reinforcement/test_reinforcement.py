import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.sb3 import RecurrentPPO
from tests.train.spread import spread
from train.reinforcement import training as reinforcement
from train.reinforcement.environments import make_vec
from train.reinforcement.training import train_agent
from train.runs.run_folder import RLRunFolder


@pytest.fixture
def interrupt(interrupted):
    """Return a function that trains until an attribute is used for the n-th time."""
    return partial(interrupted, train_agent)


@pytest.fixture
def scores(monkeypatch):
    """Return a function that dictates the scores of the evaluations to come."""

    def dictate(*values):
        left = iter(values)

        def measure(*_):
            value = next(left)
            return {"score": np.array([value, value])}

        monkeypatch.setattr(reinforcement, "measure", measure)

    return dictate


def test_a_run_leaves_what_the_module_says(make_rl_config, tmp_path):
    config, folder = make_rl_config(), RLRunFolder(tmp_path / "run")
    record = train_agent(config, folder, progress=False)
    files = {path.name for path in folder.path.iterdir()}
    written = {"config.json", "versions.json", "metrics.jsonl", "timing.jsonl"}
    assert written | {"last.zip", "best.zip"} <= files
    assert len(files) == 7
    assert folder.config() == config
    records = folder.metrics()
    assert record == records[-1]
    assert [each["step"] for each in records] == [0, 96, 192, 288]
    assert [each["step"] for each in folder.timing()] == [0, 96, 192, 288]
    assert folder.timing()[0]["seconds"] == 0 < folder.timing()[-1]["seconds"]
    assert records[0].keys() == {
        "step",
        "train_return",
        *("val_score", "val_interval", "val_visits", "val_visits_interval"),
    }
    losses = {"train_loss", "train_value_loss", "train_skipped_minibatches", "train_approx_kl"}
    assert records[0].keys() | losses <= records[1].keys()
    assert records[0]["train_return"] is None
    assert np.isfinite([value for each in records[1:] for value in each.values()]).all()
    rates = [each["train_learning_rate"] for each in records[1:]]
    assert rates == pytest.approx([1e-3, 2 / 3e3, 1 / 3e3])
    assert folder.load_model("last").num_timesteps == 288
    (events,) = folder.path.glob("events.out.*")
    scalars = EventAccumulator(str(events)).Reload()
    assert [event.step for event in scalars.Scalars("val/score")] == [0, 96, 192, 288]
    np.testing.assert_allclose(
        [event.value for event in scalars.Scalars("val/score")],
        [each["val_score"] for each in records],
        rtol=1e-6,
    )


def test_the_return_in_training_is_that_of_the_episodes_since_the_evaluation_before(
    make_rl_config, tmp_path, monkeypatch
):
    """Every step brings 1, so it is the length of an episode, three times in a dozen steps."""
    evaluate, counts = reinforcement._Training._evaluate, []

    def counting(self):
        counts.append(len(self.model.ep_info_buffer or []))
        return evaluate(self)

    monkeypatch.setattr(reinforcement._Training, "_evaluate", counting)
    config, folder = make_rl_config("TestCountdown-v0", env_kwargs={"length": 4}), RLRunFolder
    train_agent(config, folder(tmp_path), progress=False)
    assert [each["train_return"] for each in folder(tmp_path).metrics()] == [None, 4, 4, 4]
    assert counts == [0, 24, 24, 24]


def test_every_part_of_a_run_has_luck_of_its_own(make_rl_run):
    """The agent stays as it is, the episodes differ; those of the evaluations do not."""
    run = make_rl_run(learning_rate=1e-12, n_steps=36, steps=432, eval_every=144)
    records = run.metrics()
    assert len({record["train_return"] for record in records}) == 4
    assert len({record["val_score"] for record in records}) == 1


def test_the_same_seed_makes_the_same_run_and_another_does_not(
    make_rl_config, make_rl_run, tmp_path, assert_same_agents
):
    first, again = make_rl_run(), RLRunFolder(tmp_path)
    torch.manual_seed(99)  # the global generator has no say
    train_agent(first.config(), again, progress=False)
    assert_same_agents(first, again)
    assert make_rl_run(seed=1).metrics() != first.metrics()


@pytest.mark.parametrize("updates", spread(range(6), {0, 3}))
def test_a_run_cut_off_before_any_update_ends_as_if_it_had_not_been(
    make_rl_config, make_rl_run, tmp_path, interrupt, assert_same_agents, updates
):
    config, folder = make_rl_config(), RLRunFolder(tmp_path)
    interrupt(config, folder, RecurrentPPO, "train", updates)
    record = train_agent(folder.config(), folder, resume=True, progress=False)
    whole = make_rl_run()
    assert_same_agents(folder, whole)
    assert record == whole.metrics()[-1]


@pytest.mark.parametrize("name", ["save_model", "append"])
@pytest.mark.parametrize("count", spread(range(6), {1, 4}))
def test_a_run_cut_off_while_it_writes_ends_as_if_it_had_not_been(
    make_rl_config, make_rl_run, tmp_path, interrupt, assert_same_agents, name, count
):
    """The learning rate is high, so the best agent is not always the last one."""
    settings = {"learning_rate": 0.1, "seed": 2}
    config, folder = make_rl_config(**settings), RLRunFolder(tmp_path)
    whole = make_rl_run(**settings)
    best = whole.load_model("best").num_timesteps
    assert 0 < best < 288, "the case is meant to be another"
    interrupt(config, folder, RLRunFolder, name, min(count, 5))
    train_agent(folder.config(), folder, resume=True, progress=False)
    assert_same_agents(folder, whole)


@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "gradient", "cell": "lstm"},
        pytest.param({"core": "lstm", "schedule": "constant"}, marks=pytest.mark.slow),
        pytest.param({"core": "mlp", "previous_action_reward": False}, marks=pytest.mark.slow),
        pytest.param({"env": "PlasticCueReward-v0"}, marks=pytest.mark.slow),
        {"core": "mesa", "embedding": 6, "key_size": 3, "heads": 2},
        pytest.param(
            {"core": "attention", "embedding": 6, "context": 4, "features": "gru"},
            marks=pytest.mark.slow,
        ),
        {"env": "CartPole-v1"},
    ],
    ids=str,
)
def test_a_run_may_be_cut_off_again_and_again(
    make_rl_config, make_rl_run, tmp_path, interrupt, assert_same_agents, settings
):
    config, folder = make_rl_config(**settings), RLRunFolder(tmp_path)
    for count, resume in ((1, False), (2, True), (1, True)):
        interrupt(config, folder, RecurrentPPO, "train", count, resume=resume)
    train_agent(config, folder, resume=True, progress=False)
    assert_same_agents(folder, make_rl_run(**settings))


def test_a_finished_run_stays_as_it_is(make_rl_run):
    run = make_rl_run()
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    record = train_agent(run.config(), run, resume=True, progress=False)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert record == run.metrics()[-1]


def test_a_folder_with_settings_only_starts_from_the_beginning(
    make_rl_config, make_rl_run, tmp_path, command, assert_same_agents
):
    folder = RLRunFolder(tmp_path / "run")
    folder.create(make_rl_config())
    assert command("train-rl", "--resume", folder.path)[0] == 0
    assert_same_agents(folder, make_rl_run())


@pytest.mark.slow
def test_a_killed_process_is_resumed_and_ends_as_if_it_had_not_been(
    make_rl_config, tmp_path, assert_same_agents
):
    config = make_rl_config(steps=48 * 16, eval_every=48)
    whole, killed = RLRunFolder(tmp_path / "whole"), RLRunFolder(tmp_path / "killed")
    train_agent(config, whole, progress=False)
    killed.create(config)
    arguments = [sys.executable, "-m", "train.cli", "train-rl", "--resume", str(killed.path)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(arguments, **quiet)
    try:
        deadline = time.monotonic() + 120
        while len(killed.metrics()) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert len(killed.metrics()) < len(whole.metrics()), "it had ended before it was killed"
    train_agent(killed.config(), killed, resume=True, progress=False)
    assert_same_agents(killed, whole)


def test_a_folder_with_a_run_is_not_used_again(make_rl_config, make_rl_run):
    run = make_rl_run()
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    with pytest.raises(FileExistsError, match=r"holds a run already.*--resume.*--out"):
        train_agent(make_rl_config(seed=5), run, progress=False)
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before


@pytest.mark.parametrize(
    ("env", "best"),
    [("PlasticMaze-v0", 192), ("PlasticCueReward-v0", 96), ("TestCountdown-v0", 192)],
)
def test_best_is_what_the_task_calls_better(make_rl_config, tmp_path, scores, env, best):
    """The score of cue-reward is an error. Where two are equal the first one stays."""
    folder = RLRunFolder(tmp_path)
    scores(0.5, 0.3, 0.7, 0.7 if env != "PlasticCueReward-v0" else 0.3)
    train_agent(make_rl_config(env), folder, progress=False)
    assert folder.load_model("best").num_timesteps == best
    assert folder.load_model("last").num_timesteps == 288


@pytest.mark.parametrize(("env", "best"), [("PlasticMaze-v0", 192), ("PlasticCueReward-v0", 96)])
def test_what_was_best_is_remembered_when_a_run_goes_on(
    make_rl_config, tmp_path, scores, interrupt, env, best
):
    config, folder = make_rl_config(env), RLRunFolder(tmp_path)
    scores(0.5, 0.3, 0.6, 0.4)
    interrupt(config, folder, RecurrentPPO, "train", 4)
    train_agent(config, folder, resume=True, progress=False)
    assert folder.load_model("best").num_timesteps == best


def test_the_first_deviation_of_real_actions_can_be_set(make_rl_run):
    run = make_rl_run("PlasticCueReward-v0", log_std_init=-1.0, learning_rate=1e-9)
    deviation = run.load_model("last").policy.log_std.exp()
    torch.testing.assert_close(deviation, torch.tensor([1.0]).div(np.e), rtol=1e-4, atol=0)
    assert isinstance(make_vec(run.config(), 1, "train").single_action_space, spaces.Box)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"env": "Absent-v0"}, "'Absent-v0' cannot be made: .*Absent"),
        ({"env": "absent_module:Some-v0"}, "'absent_module:Some-v0' cannot be made"),
        ({"env": "PlasticMaze-v1"}, "'PlasticMaze-v1' cannot be made"),
        ({"env": "CartPole-v1", "env_kwargs": {"colour": 3}}, "cannot be made: .*colour"),
        ({"env_kwargs": {"colour": 3}}, "colour"),
        ({"env_kwargs": {"size": 4}}, "size must be"),
    ],
)
def test_environments_that_cannot_be_made_are_refused(make_rl_config, tmp_path, settings, message):
    folder = RLRunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        train_agent(make_rl_config(**settings), folder, progress=False)
    assert not folder.path.exists()


def test_an_agent_starts_with_what_another_has_learned(make_rl_config, make_rl_run, tmp_path):
    lesson = make_rl_run(learning_rate=0.1, seed=2)  # best is not the last
    folder = RLRunFolder(tmp_path / "run")
    longer = {"size": 5, "episode_length": 12}
    config = make_rl_config(
        env_kwargs=longer, start_from=str(lesson.path), learning_rate=1e-12, seed=3
    )
    train_agent(config, folder, progress=False)
    torch.testing.assert_close(
        folder.load_model("last").policy.state_dict(), lesson.load_model("best").policy.state_dict()
    )
    assert folder.metrics()[0]["step"] == 0


def test_a_run_that_started_from_another_goes_on_without_it(
    make_rl_config, make_rl_run, tmp_path, interrupt, assert_same_agents
):
    lesson = make_rl_run(seed=2)
    config = make_rl_config(start_from=str(lesson.path))
    whole, folder = RLRunFolder(tmp_path / "whole"), RLRunFolder(tmp_path / "run")
    train_agent(config, whole, progress=False)
    interrupt(config, folder, RecurrentPPO, "train", 3)
    shutil.rmtree(lesson.path)
    train_agent(config, folder, resume=True, progress=False)
    assert_same_agents(folder, whole)


def test_an_agent_of_another_form_is_not_started_from(make_rl_config, make_rl_run, tmp_path):
    lesson, folder = make_rl_run(), RLRunFolder(tmp_path / "run")
    for settings, message in (
        ({"hidden_size": 7}, "does not fit"),
        ({"core": "lstm"}, "does not fit"),
        ({"env": "PlasticBandit-v0"}, "does not fit"),
    ):
        config = make_rl_config(start_from=str(lesson.path), **settings)
        with pytest.raises(ValueError, match=f"{lesson.path} {message}"):
            train_agent(config, folder, progress=False)
    with pytest.raises(FileNotFoundError, match="absent is no run folder"):
        train_agent(make_rl_config(start_from="absent"), folder, progress=False)
    assert not folder.path.exists()


@pytest.mark.parametrize("first", spread([48, 96, 144], {48}))
def test_a_run_with_more_steps_ends_as_if_it_had_had_them_from_the_start(
    make_rl_run, command, assert_same_agents, first
):
    """Also where it had ended between two evaluations, as after 48 and 144 steps."""
    settings = {"schedule": "constant", "learning_rate": 0.1, "seed": 2}
    folder = make_rl_run(steps=first, **settings)
    assert command("train-rl", "--resume", folder.path, "--steps", 288)[0] == 0
    assert_same_agents(folder, make_rl_run(steps=288, **settings))


def test_more_steps_are_refused_where_they_would_change_those_before(make_rl_run, command, caplog):
    run = make_rl_run()
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    for steps, message in ((300, "falls over its 288 steps"), (287, "steps must be at least")):
        assert command("train-rl", "--resume", run.path, "--steps", steps) == (1, "")
        assert message in caplog.text
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before


def test_a_run_takes_the_steps_that_it_was_asked_for(make_rl_config, tmp_path, caplog):
    """At most a rollout more, of 48 steps here; evaluations follow the multiples of 70."""
    caplog.set_level("INFO")
    folder = RLRunFolder(tmp_path)
    train_agent(make_rl_config(steps=200, eval_every=70), folder, progress=False)
    assert [record["step"] for record in folder.metrics()] == [0, 96, 144, 240]
    assert "240 steps: 5 rollouts of 48 (12 steps of 4 environments)" in caplog.text
