import json

import gymnasium as gym
import numpy as np
import pytest
import torch

from agents import PlasticNetwork
from plastic_envs import TaskEnv
from train.scoring import networks as evaluation
from train.scoring.evaluation import evaluate
from train.scoring.networks import act

CASES = [
    *({"task": task} for task in ("copy", "regression", "few-shot")),
    *({"rule": rule, "cell": cell} for rule in ("gradient", "none") for cell in ("rnn", "lstm")),
    {"rule": "hebbian", "cell": "gru"},
    *({"core": core} for core in ("lstm", "gru", "rnn", "mlp")),
    {"core": "gru", "task": "few-shot"},
    {"core": "prototypical", "task": "few-shot", "label_mode": "delayed", "delayed": True},
]


def play_alone(folder, result):
    """Score [B] of the episodes, one after the other in the single environment."""
    config, (network, _) = folder.config(), folder.load_network(result["checkpoint"])
    env = TaskEnv(config.task_for("test"))
    choice = isinstance(env.action_space, gym.spaces.Discrete)
    scores = []
    for episode in range(result["episodes"]):
        observation, _ = env.reset(seed=result["seed"] if episode == 0 else None)
        state, rewards, terminated = None, [], False
        while not terminated:
            if choice:
                x = {name: torch.from_numpy(part)[None] for name, part in observation.items()}
            else:
                x = torch.from_numpy(observation)[None]
            with torch.no_grad():
                output, state = network.step(x, state)
            action = int(output[0].argmax()) if choice else output[0].numpy()
            observation, reward, terminated, _, info = env.step(action)
            if info["scored"]:
                rewards.append(reward)
        scores.append(np.mean(rewards) if choice else -np.mean(rewards))
    return np.array(scores)


@pytest.mark.parametrize("settings", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_acting_whole_sequences_and_single_environments_agree(make_run, settings):
    folder = make_run(**settings, steps=2)
    result = evaluate(folder, num_episodes=5)
    assert result["agree"] is True
    assert result["max_difference"] < 1e-5
    assert result["score"] == pytest.approx(result["score_supervised"], rel=1e-4)
    scores = play_alone(folder, result)
    assert result["score"] == pytest.approx(scores.mean(), rel=1e-5)
    deviation = np.sqrt(((scores - scores.mean()) ** 2).sum() / 4)
    assert result["interval"] == pytest.approx(1.96 * deviation / np.sqrt(5), rel=1e-4)


def test_other_episodes_than_those_it_learned_on_can_be_asked_for(make_run):
    folder = make_run(core="gru", task="copy", length=2, delay=1, steps=2)
    usual, longer = (evaluate(folder, num_episodes=5, test_settings=t) for t in ({}, {"delay": 7}))
    assert longer["delay"] == 7
    assert "delay" not in usual
    assert longer["agree"]
    assert longer["score"] != usual["score"]
    with pytest.raises(ValueError, match="has no setting 'kind'"):
        evaluate(folder, num_episodes=5, test_settings={"kind": "mlp"})


def test_the_oracle_answers_the_same_episodes(make_run, monkeypatch):
    monkeypatch.setattr("train.scoring.references._BLOCK", 2)
    folder = make_run(core="gru", task="regression", steps=2)
    result = evaluate(folder, num_episodes=5)
    task = folder.config().task_for("test")
    expected = task.oracle_measures(5, result["seed"])
    assert result["oracle"] == pytest.approx(expected["score"])
    assert result["oracle_within_0.05"] == pytest.approx(expected["within_0.05"])
    assert result["over_oracle"] == result["score"] / result["oracle"]
    network, _ = folder.load_network()
    assert result["parameters"] == sum(each.numel() for each in network.parameters())


@pytest.mark.parametrize("block", [1, 3, 4, 10, 11])
def test_rounds_of_any_size_play_the_same_episodes(run, monkeypatch, block):
    expected = evaluate(run, num_episodes=10)
    monkeypatch.setattr(evaluation, "_BLOCK", block)
    result = evaluate(run, num_episodes=10)
    assert result["agree"]
    for name in ("score", "score_supervised", "interval"):
        assert result[name] == pytest.approx(expected[name], rel=1e-5)


def test_what_was_played_are_the_episodes_of_the_seed(run):
    config, (network, _) = run.config(), run.load_network()
    played = act(network, config, 7, seed=4)
    episodes = config.task_for("test").sample_episodes(7, 4)
    np.testing.assert_array_equal(played.targets, episodes.targets)
    np.testing.assert_array_equal(played.scored, episodes.scored)


def test_a_result_says_what_was_scored(run):
    result = evaluate(run, num_episodes=4, seed=11)
    config = run.config()
    expected = {"run": str(run.path), "task": "cue-reward", "rule": "gradient", "cell": "rnn"}
    expected |= {"hidden_size": 8, "checkpoint": "best", "episodes": 4, "seed": 11}
    expected["chance"] = config.task_for("test").chance_score
    expected["optimum"] = config.task_for("test").optimal_score
    assert result.items() >= expected.items()
    assert json.loads(json.dumps(result)) == result
    assert result["oracle"] < result["chance"]


def test_the_chosen_checkpoint_is_scored(make_run):
    folder = make_run(steps=8, learning_rate=3.0)
    best, last = (evaluate(folder, checkpoint=name, num_episodes=4) for name in ("best", "last"))
    assert last["step"] == 8
    assert best["step"] == folder.load_checkpoint("best")["step"] < 8
    assert best["score"] != last["score"]


@pytest.mark.parametrize("count", [1, 0, -3])
def test_too_few_episodes_are_refused(run, count):
    with pytest.raises(
        ValueError, match=f"num_episodes must be an integer of at least 2, got {count}"
    ):
        evaluate(run, num_episodes=count)


def test_evaluation_can_be_repeated(run):
    assert evaluate(run, num_episodes=6) == evaluate(run, num_episodes=6)
    assert evaluate(run, num_episodes=6, seed=1) != evaluate(run, num_episodes=6, seed=2)


def test_evaluation_leaves_the_global_random_state_alone(run):
    before = torch.get_rng_state()
    evaluate(run, num_episodes=2)
    assert torch.equal(before, torch.get_rng_state())


def test_acting_without_memory_is_noticed(make_run, monkeypatch, command, caplog):
    folder, step = make_run(learning_rate=1e-2), PlasticNetwork.step
    monkeypatch.setattr(PlasticNetwork, "step", lambda self, x, state: step(self, x))
    assert evaluate(folder, num_episodes=4)["agree"] is False
    code, out = command("evaluate", folder.path, "--episodes", 4, "--json")
    assert code == 1
    assert json.loads(out)["agree"] is False
    assert "disagree" in caplog.text
