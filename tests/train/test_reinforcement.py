import json
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.sb3 import RecurrentPPO
from plastic_envs.tasks import InteractiveTask
from plastic_envs.wrappers import PreviousActionReward, VectorPreviousActionReward
from train import reinforcement, rl_environments, rl_evaluation
from train.references import reference_scores
from train.reinforcement import train
from train.rl_environments import derived_seed, evaluation_seed, make_vec
from train.rl_evaluation import Episode, evaluate_agent, measures_of, play
from train.run_folder import RLRunFolder, RunFolder, open_run


@pytest.fixture
def interrupt(interrupted):
    """Return a function that trains until an attribute is used for the n-th time."""
    return partial(interrupted, train)


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
    record = train(config, folder, progress=False)
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
    train(config, folder(tmp_path), progress=False)
    assert [each["train_return"] for each in folder(tmp_path).metrics()] == [None, 4, 4, 4]
    assert counts == [0, 24, 24, 24]


def test_every_part_of_a_run_has_luck_of_its_own(make_rl_run):
    """The agent stays as it is, the episodes differ; those of the evaluations do not."""
    run = make_rl_run(learning_rate=1e-12, n_steps=60, steps=1_440, eval_every=480)
    records = run.metrics()
    assert len({record["train_return"] for record in records}) == 4
    assert len({record["val_score"] for record in records}) == 1


def test_the_same_seed_makes_the_same_run_and_another_does_not(
    make_rl_config, make_rl_run, tmp_path, assert_same_agents
):
    first, again = make_rl_run(), RLRunFolder(tmp_path)
    torch.manual_seed(99)  # the global generator has no say
    train(first.config(), again, progress=False)
    assert_same_agents(first, again)
    assert make_rl_run(seed=1).metrics() != first.metrics()


@pytest.mark.parametrize("updates", range(6))
def test_a_run_cut_off_before_any_update_ends_as_if_it_had_not_been(
    make_rl_config, make_rl_run, tmp_path, interrupt, assert_same_agents, updates
):
    config, folder = make_rl_config(), RLRunFolder(tmp_path)
    interrupt(config, folder, RecurrentPPO, "train", updates)
    record = train(folder.config(), folder, resume=True, progress=False)
    whole = make_rl_run()
    assert_same_agents(folder, whole)
    assert record == whole.metrics()[-1]


@pytest.mark.parametrize("name", ["save_model", "append"])
@pytest.mark.parametrize("count", range(6))
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
    train(folder.config(), folder, resume=True, progress=False)
    assert_same_agents(folder, whole)


@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "gradient", "cell": "lstm"},
        {"core": "lstm", "schedule": "constant"},
        {"core": "mlp", "previous_action_reward": False},
        {"env": "PlasticCueReward-v0"},
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
    train(config, folder, resume=True, progress=False)
    assert_same_agents(folder, make_rl_run(**settings))


def test_a_finished_run_stays_as_it_is(make_rl_run):
    run = make_rl_run()
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    record = train(run.config(), run, resume=True, progress=False)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert record == run.metrics()[-1]


def test_a_folder_with_settings_only_starts_from_the_beginning(
    make_rl_config, make_rl_run, tmp_path, command, assert_same_agents
):
    folder = RLRunFolder(tmp_path / "run")
    folder.create(make_rl_config())
    assert command("train-rl", "--resume", folder.path)[0] == 0
    assert_same_agents(folder, make_rl_run())


def test_a_killed_process_is_resumed_and_ends_as_if_it_had_not_been(
    make_rl_config, tmp_path, assert_same_agents
):
    config = make_rl_config(steps=48 * 16, eval_every=48)
    whole, killed = RLRunFolder(tmp_path / "whole"), RLRunFolder(tmp_path / "killed")
    train(config, whole, progress=False)
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
    train(killed.config(), killed, resume=True, progress=False)
    assert_same_agents(killed, whole)


def test_a_folder_with_a_run_is_not_used_again(make_rl_config, make_rl_run):
    run = make_rl_run()
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    with pytest.raises(FileExistsError, match=r"holds a run already.*--resume.*--out"):
        train(make_rl_config(seed=5), run, progress=False)
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before


@pytest.mark.parametrize(
    ("env", "best"),
    [("PlasticMaze-v0", 192), ("PlasticCueReward-v0", 96), ("TestCountdown-v0", 192)],
)
def test_best_is_what_the_task_calls_better(make_rl_config, tmp_path, scores, env, best):
    """The score of cue-reward is an error. Where two are equal the first one stays."""
    folder = RLRunFolder(tmp_path)
    scores(0.5, 0.3, 0.7, 0.7 if env != "PlasticCueReward-v0" else 0.3)
    train(make_rl_config(env), folder, progress=False)
    assert folder.load_model("best").num_timesteps == best
    assert folder.load_model("last").num_timesteps == 288


@pytest.mark.parametrize(("env", "best"), [("PlasticMaze-v0", 192), ("PlasticCueReward-v0", 96)])
def test_what_was_best_is_remembered_when_a_run_goes_on(
    make_rl_config, tmp_path, scores, interrupt, env, best
):
    config, folder = make_rl_config(env), RLRunFolder(tmp_path)
    scores(0.5, 0.3, 0.6, 0.4)
    interrupt(config, folder, RecurrentPPO, "train", 4)
    train(config, folder, resume=True, progress=False)
    assert folder.load_model("best").num_timesteps == best


def test_scores_of_sampled_actions_equal_a_loop(make_rl_run):
    run = make_rl_run()
    result = evaluate_agent(run, checkpoint="last", num_episodes=5, seed=3)
    model = RecurrentPPO.load(run.path / "last.zip")
    env = VectorPreviousActionReward(
        gym.make_vec("PlasticMaze-v0", num_envs=5, size=5, episode_length=6)
    )
    observations, _ = env.reset(seed=3)
    state, starts = model.policy.initial_state(5), torch.ones(5, dtype=torch.bool)
    returns = np.zeros(5)
    torch.manual_seed(3)
    for _ in range(6):
        with torch.no_grad():
            actions, _, _, state = model.policy(torch.as_tensor(observations), state, starts)
        observations, rewards, *_ = env.step(actions.numpy())
        starts = torch.zeros(5, dtype=torch.bool)
        returns += rewards
    assert len(set(returns)) > 1
    assert result["score"] == pytest.approx(returns.mean())
    assert result["interval"] == pytest.approx(1.96 * returns.std(ddof=1) / np.sqrt(5))
    assert (result["env"], result["size"], result["agent"]) == (
        "PlasticMaze-v0",
        5,
        "hebbian-rnn-6",
    )
    assert (result["step"], result["episodes"], result["seed"]) == (288, 5, 3)


def test_scores_of_most_probable_actions_equal_single_environments(make_rl_run, monkeypatch):
    """With fewer environments than episodes: the stream goes on."""
    run = make_rl_run("PlasticCueReward-v0")
    monkeypatch.setattr(rl_environments, "_NUM_ENVS", 3)
    result = evaluate_agent(run, num_episodes=8)
    model = run.load_model("best")
    env = PreviousActionReward(
        gym.make("PlasticCueReward-v0", num_cues=2, cue_size=3, episode_length=6)
    )
    errors = []
    for k in range(8):
        observation, _ = env.reset(seed=evaluation_seed(run.config()) if k == 0 else None)
        state, over, rewards = None, False, []
        while not over:
            action, state = model.predict(observation, state, deterministic=True)
            observation, reward, over, _, info = env.step(action)
            rewards += [reward] if info["scored"] else []
        assert len(rewards) == 3
        errors.append(-np.mean(rewards))
    assert result["score"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert result["interval"] == pytest.approx(1.96 * np.std(errors, ddof=1) / np.sqrt(8), rel=1e-5)


def test_deterministic_says_how_actions_are_chosen(make_rl_run):
    def agent_of(**settings):
        run = make_rl_run("PlasticMaze-v0", steps=96, **settings)
        env = make_vec(run.config(), 4)
        model = run.load_model("last")
        seen = []
        model.predict = lambda *args: seen.append(args[-1]) or type(model).predict(model, *args)
        play(model, env, 4, 0, run.config().deterministic)
        return set(seen)

    assert agent_of() == {False}
    assert agent_of(deterministic=True) == {True}


def test_scoring_leaves_the_random_generator_as_it_is(make_rl_run):
    run = make_rl_run()
    before = torch.get_rng_state()
    evaluate_agent(run, num_episodes=3)
    assert torch.equal(torch.get_rng_state(), before)


class Still:
    """An agent that does nothing."""

    def predict(self, observations, state, starts, deterministic):
        return np.zeros(len(observations), np.int64), None


@pytest.mark.parametrize("count", [2, 5, 6])
def test_every_environment_plays_equally_many_episodes(countdown, count):
    """Else short episodes would come too often."""
    functions = [lambda n=n: gym.make(countdown, length=n) for n in (1, 7)]
    env = SyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP)
    played = play(Still(), env, count, 0)
    assert [len(episode.rewards) for episode in played] == [1, 7, 1, 7, 1, 7][:count]
    assert all(episode.rewards.tolist() == [1.0] * len(episode.rewards) for episode in played)
    assert all(episode.scored.all() for episode in played)


@pytest.mark.parametrize(
    ("infos", "expected"),
    [
        ({}, [True, True, True]),  # an environment that does not say
        ({"scored": np.array([True, False, False])}, [True, False, False]),
        ({"final_info": {"scored": np.array([False, False, False])}}, [True, True, False]),
        (
            {
                "scored": np.array([True, False, False]),  # the last one is of a new episode
                "final_info": {"scored": np.array([False, False, True])},
            },
            [True, False, True],
        ),
    ],
)
def test_what_an_episode_ends_with_is_scored_as_its_last_step_says(infos, expected):
    ended = np.array([False, False, "final_info" in infos])
    assert rl_evaluation._scored(infos, ended).tolist() == expected


def test_the_score_of_a_foreign_environment_is_the_return(make_rl_run):
    run = make_rl_run("CartPole-v1")
    result = evaluate_agent(run, num_episodes=7)
    assert result["score"] == result["length"] > 1  # a reward of 1 for each step
    assert result["interval"] == result["length_interval"] > 0
    assert result["references"] == {}
    measures = measures_of(
        run.config(),
        [Episode(np.array(rewards), np.ones(len(rewards), bool)) for rewards in ([1.0], [2, 0.5])],
    )
    assert {name: values.tolist() for name, values in measures.items()} == {
        "score": [1, 2.5],
        "length": [1, 2],
    }


@pytest.mark.parametrize("env", ["PlasticMaze-v0", "PlasticBandit-v0", "PlasticCueReward-v0"])
def test_scores_come_with_references(make_rl_run, env):
    run = make_rl_run(env, steps=48, eval_every=48)
    task = run.config().task
    references = evaluate_agent(run, num_episodes=2)["references"]
    assert references == reference_scores(task)
    known = task.chance_score
    first = {"random actions": task.random_score} if known is None else {"chance": known}
    oracle = [task.oracle_name] if isinstance(task, InteractiveTask) else []
    assert list(references) == [*first, *oracle, "optimum"]
    assert references[next(iter(first))] == next(iter(first.values()))
    assert references["optimum"] == task.optimal_score
    sign = 1 if task.higher_is_better else -1
    level = [sign * score for score in references.values()]
    assert level == sorted(level)
    assert level[0] < level[1]


def test_a_task_without_a_known_optimum_has_no_such_reference():
    from plastic_envs.tasks import Regression

    assert "optimum" not in reference_scores(Regression(num_support=3, num_query=2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_episodes": 1}, "num_episodes must be at least 2, got 1"),
        ({"seed": -1}, "seed must be from 0"),
        ({"seed": 2**32}, "seed must be from 0"),
    ],
)
def test_wrong_numbers_of_episodes_and_seeds_are_refused(make_rl_run, settings, message):
    with pytest.raises(ValueError, match=message):
        evaluate_agent(make_rl_run(), **settings)


def test_branches_of_a_seed_differ(make_rl_config):
    branches = [(branch,) for branch in range(4)] + [(1, part) for part in range(4)]
    configs = [make_rl_config(), make_rl_config(seed=1), make_rl_config(seed=2**63 - 1)]
    seeds = {derived_seed(config, *branch) for config in configs for branch in branches}
    assert len(seeds) == 24
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_discrete_observations_are_flattened(make_rl_run, tmp_path):
    run = make_rl_run("FrozenLake-v1", env_kwargs={"is_slippery": False})
    env = make_vec(run.config(), 2)
    assert env.single_observation_space.shape == (16 + 4 + 1,)
    observations, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observations, np.eye(21)[[0, 0]])
    assert evaluate_agent(run, num_episodes=3)["length"] >= 2


@pytest.mark.parametrize(("wanted", "size"), [(True, 10 + 4 + 1), (False, 10)])
def test_the_agent_sees_its_last_action_and_reward_or_not(make_rl_run, wanted, size):
    run = make_rl_run(previous_action_reward=wanted)
    model = run.load_model("last")
    assert model.observation_space.shape == (size,)
    assert make_vec(run.config(), 3).observation_space.shape == (3, size)
    assert evaluate_agent(run, num_episodes=3)["agent"].endswith("observation-only") == (not wanted)


def test_the_first_deviation_of_real_actions_can_be_set(make_rl_run):
    run = make_rl_run("PlasticCueReward-v0", log_std_init=-1.0, learning_rate=1e-9)
    deviation = run.load_model("last").policy.log_std.exp()
    torch.testing.assert_close(deviation, torch.tensor([1.0]).div(np.e), rtol=1e-4, atol=0)
    assert isinstance(make_vec(run.config(), 1).single_action_space, spaces.Box)


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
        train(make_rl_config(**settings), folder, progress=False)
    assert not folder.path.exists()


def test_an_agent_starts_with_what_another_has_learned(make_rl_config, make_rl_run, tmp_path):
    lesson = make_rl_run(learning_rate=0.1, seed=2)  # best is not the last
    folder = RLRunFolder(tmp_path / "run")
    longer = {"size": 5, "episode_length": 12}
    config = make_rl_config(
        env_kwargs=longer, start_from=str(lesson.path), learning_rate=1e-12, seed=3
    )
    train(config, folder, progress=False)
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
    train(config, whole, progress=False)
    interrupt(config, folder, RecurrentPPO, "train", 3)
    shutil.rmtree(lesson.path)
    train(config, folder, resume=True, progress=False)
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
            train(config, folder, progress=False)
    with pytest.raises(FileNotFoundError, match="absent is no run folder"):
        train(make_rl_config(start_from="absent"), folder, progress=False)
    assert not folder.path.exists()


def test_a_folder_is_opened_by_its_kind(run, make_rl_run, tmp_path):
    assert type(open_run(run.path)) is RunFolder
    assert type(open_run(make_rl_run().path)) is RLRunFolder
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        open_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json cannot be read"):
        open_run(tmp_path)


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_a_cut_off_agent_is_refused_with_its_path(make_rl_run, share):
    run = make_rl_run()
    path = run.model_path("last")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=rf"{path} cannot be read: damaged"):
        run.load_model("last")
    with pytest.raises(ValueError, match=rf"{path} cannot be read: damaged"):
        train(run.config(), run, resume=True, progress=False)


@pytest.mark.parametrize("content", [b"text", b"PK\x03\x04", b"\0" * 100])
def test_what_is_no_agent_is_refused_with_its_path(make_rl_run, run, content):
    folder = make_rl_run()
    path = folder.model_path("best")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path} cannot be read: damaged"):
        folder.load_model()
    shutil.copy(run.checkpoint_path("best"), path)  # a zip file, too
    with pytest.raises(ValueError, match=rf"{path} cannot be read: damaged"):
        folder.load_model()


def test_a_changed_byte_of_an_agent_is_found(make_rl_run):
    run = make_rl_run()
    path = run.model_path("best")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path} cannot be read: damaged.*checksum"):
        run.load_model()


def test_an_agent_of_another_algorithm_is_refused_with_its_path(make_rl_run):
    run = make_rl_run()
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save(run.model_path("best"))
    with pytest.raises(ValueError, match=rf"{run.model_path('best')} cannot be read"):
        run.load_model()


def test_a_missing_agent_is_named(make_rl_run):
    run = make_rl_run()
    run.model_path("best").unlink()
    with pytest.raises(FileNotFoundError, match=r"best\.zip does not exist"):
        evaluate_agent(run, num_episodes=2)


def test_an_agent_is_never_half_written(make_rl_run, monkeypatch):
    run = make_rl_run()
    model, before = run.load_model("last"), run.model_path("last").read_bytes()

    def fail(path, *args, **kwargs):
        path.write_bytes(before[:100])
        raise OSError("disk full")

    monkeypatch.setattr(model, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        run.save_model("last", model)
    assert run.model_path("last").read_bytes() == before


def test_settings_are_written_as_json(make_rl_run):
    data = json.loads(make_rl_run().config_path.read_text())
    assert (data["kind"], data["env"]) == ("reinforcement", "PlasticMaze-v0")
