import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agents.sb3 import RecurrentPPO
from plastic_envs.wrappers import PreviousActionReward, VectorPreviousActionReward
from train.reinforcement import environments as rl_environments
from train.reinforcement.environments import make_vec
from train.scoring import agents as rl_evaluation
from train.scoring.agents import Episode, measures_of, play
from train.scoring.evaluation import evaluate
from train.scoring.references import reference_scores


class Still:
    """An agent that does nothing."""

    def predict(self, observations, state, starts, deterministic):
        return np.zeros(len(observations), np.int64), None


def test_scores_of_sampled_actions_equal_a_loop(make_rl_run):
    run = make_rl_run()
    result = evaluate(run, checkpoint="last", num_episodes=5, seed=3)
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
    result = evaluate(run, num_episodes=8)
    model = run.load_model("best")
    env = PreviousActionReward(
        gym.make("PlasticCueReward-v0", num_cues=2, cue_size=3, episode_length=6)
    )
    errors = []
    for k in range(8):
        observation, _ = env.reset(seed=run.config().test_seed if k == 0 else None)
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
        env = make_vec(run.config(), 4, "test")
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
    evaluate(run, num_episodes=3)
    assert torch.equal(torch.get_rng_state(), before)


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
    result = evaluate(run, num_episodes=7)
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
    references = evaluate(run, num_episodes=2)["references"]
    known = task.chance_score
    first = {"random actions": task.random_score} if known is None else {"chance": known}
    assert list(references) == [*first, task.oracle_name, "optimum"]
    assert references[next(iter(first))] == next(iter(first.values()))
    assert references["optimum"] == task.optimal_score
    sign = 1 if task.higher_is_better else -1
    lowest, *others = (sign * score for score in references.values())
    assert lowest < min(others)


def test_a_task_without_a_known_optimum_has_no_such_reference():
    from plastic_envs.tasks import Regression

    assert "optimum" not in reference_scores(Regression(num_support=3, num_query=2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_episodes": 1}, "num_episodes must be an integer of at least 2, got 1"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"seed": 2**32}, "seed must be an integer of at least 0"),
    ],
)
def test_wrong_numbers_of_episodes_and_seeds_are_refused(make_rl_run, settings, message):
    with pytest.raises(ValueError, match=message):
        evaluate(make_rl_run(), **settings)


def test_discrete_observations_are_flattened(make_rl_run, tmp_path):
    run = make_rl_run("FrozenLake-v1", env_kwargs={"is_slippery": False})
    env = make_vec(run.config(), 2, "test")
    assert env.single_observation_space.shape == (16 + 4 + 1,)
    observations, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observations, np.eye(21)[[0, 0]])
    assert evaluate(run, num_episodes=3)["length"] >= 2


@pytest.mark.parametrize(("wanted", "size"), [(True, 10 + 4 + 1), (False, 10)])
def test_the_agent_sees_its_last_action_and_reward_or_not(make_rl_run, wanted, size):
    run = make_rl_run(previous_action_reward=wanted)
    model = run.load_model("last")
    assert model.observation_space.shape == (size,)
    assert make_vec(run.config(), 3, "test").observation_space.shape == (3, size)
    assert evaluate(run, num_episodes=3)["agent"].endswith("observation-only") == (not wanted)
