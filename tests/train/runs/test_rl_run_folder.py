import json
import shutil

import pytest
from stable_baselines3 import PPO

from train.reinforcement.training import train_agent
from train.runs.run_folder import RLRunFolder, RunFolder, open_run
from train.scoring.evaluation import evaluate


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
    path = run.checkpoint_path("last")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=rf"{path} cannot be read: damaged"):
        run.load_model("last")
    with pytest.raises(ValueError, match=rf"{path} cannot be read: damaged"):
        train_agent(run.config(), run, resume=True, progress=False)


@pytest.mark.parametrize("content", [b"text", b"PK\x03\x04", b"\0" * 100])
def test_what_is_no_agent_is_refused_with_its_path(make_rl_run, run, content):
    folder = make_rl_run()
    path = folder.checkpoint_path("best")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path} cannot be read: damaged"):
        folder.load_model()
    shutil.copy(run.checkpoint_path("best"), path)  # a zip file, too
    with pytest.raises(ValueError, match=rf"{path} cannot be read: damaged"):
        folder.load_model()


def test_a_changed_byte_of_an_agent_is_found(make_rl_run):
    run = make_rl_run()
    path = run.checkpoint_path("best")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path} cannot be read: damaged.*checksum"):
        run.load_model()


def test_an_agent_of_another_algorithm_is_refused_with_its_path(make_rl_run):
    run = make_rl_run()
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save(run.checkpoint_path("best"))
    with pytest.raises(ValueError, match=rf"{run.checkpoint_path('best')} cannot be read"):
        run.load_model()


def test_a_missing_agent_is_named(make_rl_run):
    run = make_rl_run()
    run.checkpoint_path("best").unlink()
    with pytest.raises(FileNotFoundError, match=r"best\.zip does not exist"):
        evaluate(run, num_episodes=2)


def test_an_agent_is_never_half_written(make_rl_run, monkeypatch):
    run = make_rl_run()
    model, before = run.load_model("last"), run.checkpoint_path("last").read_bytes()

    def fail(file, *args, **kwargs):
        file.write(before[:100])
        raise OSError("disk full")

    monkeypatch.setattr(model, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        run.save_model("last", model, run.standing())
    assert run.checkpoint_path("last").read_bytes() == before


def test_settings_are_written_as_json(make_rl_run):
    data = json.loads(make_rl_run().config_path.read_text())
    assert (data["kind"], data["env"]) == ("reinforcement", "PlasticMaze-v0")
