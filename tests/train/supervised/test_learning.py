import pytest

from train.network import NetworkConfig
from train.runs.run_folder import RunFolder
from train.scoring.evaluation import evaluate
from train.supervised.config import TrainConfig
from train.supervised.training import train_network


@pytest.mark.slow
def test_plastic_networks_remember_what_an_ordinary_one_of_equal_size_does_not(tmp_path):
    scores = {}
    for rule, hidden_size in (("gradient", 32), ("hebbian", 32), ("none", 48)):
        config = TrainConfig(
            network=NetworkConfig(rule=rule, core_settings={"hidden_size": hidden_size}),
            task_settings={"num_cues": 3, "episode_length": 12},
            learning_rate=3e-3,
            steps=2_500,
            eval_every=250,
            eval_episodes=500,
            threads=1,
        )
        folder = RunFolder(tmp_path / rule)
        train_network(config, folder, progress=False)
        result = evaluate(folder)
        assert result["agree"]
        scores[rule] = result["score"]
    assert max(scores["gradient"], scores["hebbian"]) < 0.66 * config.task_for("test").chance_score
    assert scores["none"] > max(scores["gradient"], scores["hebbian"]) + 0.03
