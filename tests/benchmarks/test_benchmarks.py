import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import plastic_envs
from benchmarks import env_speed, few_shot, parity

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden"


@pytest.fixture
def rows(monkeypatch, capsys):
    """Return a function that runs a benchmark in this process and returns its JSON lines."""

    def call(program, *arguments):
        monkeypatch.setattr(sys, "argv", [program.__name__, *map(str, arguments), "--json"])
        program.main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call


def test_the_forms_agree_on_cases_of_their_own(rows):
    *cases, total = rows(parity)
    assert total["files"] == len(cases) == 32
    assert total["worst_relative_error"] == max(case["worst_relative_error"] for case in cases)
    assert total["worst_relative_error"] <= 1e-9
    assert all("closed" in case["forms"] for case in cases)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no recorded values in {GOLDEN}")
def test_the_forms_reproduce_the_recorded_values(rows):
    *cases, total = rows(parity, "--golden", GOLDEN)
    assert total["files"] == len(cases) == 26
    assert total["worst_relative_error"] <= 1e-9


def test_a_folder_without_recorded_values_is_an_error(rows, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no .npz files in {tmp_path}"):
        rows(parity, "--golden", tmp_path)


def test_a_wrong_number_is_reported(rows, monkeypatch):
    original, cases = parity.run_case, parity.own_errors
    monkeypatch.setattr(parity, "own_errors", lambda: islice(cases(), 2))

    def spoiled(net, form, *args):
        results = original(net, form, *args)
        return results | {"h_final": results["h_final"] * (1 + 1e-6 * (form == "closed"))}

    monkeypatch.setattr(parity, "run_case", spoiled)
    assert 1e-7 < rows(parity)[-1]["worst_relative_error"] < 1e-5


@pytest.mark.slow
def test_the_speed_of_every_environment_is_measured():
    arguments = ["--seconds", "0.01", "--repeats", "1", "--num-envs", "4", "--json"]
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.env_speed", *arguments],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = [json.loads(line) for line in process.stdout.splitlines()]
    assert {row["env"] for row in found} == set(plastic_envs.ids())
    for env_id in plastic_envs.ids():
        how = [row["how"] for row in found if row["env"] == env_id]
        expected = ["single, unwrapped", "gym.make", "make_vec, 4"]
        if isinstance(plastic_envs.make_task(env_id), plastic_envs.SequenceTask):
            expected.append("sample_episodes, 64")
        assert how == expected
    assert all(0 < row["worst"] <= row["median"] <= row["best"] for row in found)


def test_repeats_are_ordered(rows):
    found = rows(env_speed, "--seconds", "0.001", "--repeats", "3", "--num-envs", "2")
    assert all(0 < row["worst"] <= row["median"] <= row["best"] for row in found)


@pytest.mark.slow
def test_few_shot_methods_are_trained_scored_and_scored_again(rows, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 8)
    images = rng.integers(0, 256, (20, 16, 16))[labels] + rng.integers(-9, 10, (160, 16, 16))
    data = tmp_path / "images.npz"
    np.savez(data, images=images.clip(0, 255).astype(np.uint8), labels=labels)
    sizes = {"encoder-n-way": 3, "encoder-steps": 1, "filters": 2, "steps": 1, "episodes": 40}
    sizes |= {"processes": 1, "out": tmp_path / "runs", "source": "arrays", "root": data}
    arguments = [word for name, size in sizes.items() for word in (f"--{name}", size)]
    arguments += ["--settings", 3, 1, "--seeds", 0, 1, "--cells", "lstm"]
    found = rows(few_shot, *arguments)

    methods = [m for m in ("prototypical", "hebbian", "gradient", "none") for _ in range(3)]
    assert [row["rule"] for row in found] == ["nearest neighbour", *methods]
    pixels, *trained = found
    assert pixels["score"] == 1  # drawings of a class differ by a little noise
    for one, other, both in zip(trained[::3], trained[1::3], trained[2::3], strict=True):
        assert [one["seed"], other["seed"], both["seed"]] == [0, 1, [0, 1]]
        for name in ("score", "first_query"):
            assert both[name] == pytest.approx((one[name] + other[name]) / 2)
            spread = abs(one[name] - other[name]) / 2**0.5
            assert both[f"{name}_spread"] == pytest.approx(spread)
        assert one["n_way"] == 3
        assert one["episodes"] == 40
    [again] = rows(few_shot, "--evaluate-only", trained[3]["run"], "--episodes", 40)
    assert again == trained[3]


def test_a_folder_with_a_run_of_other_settings_is_refused(tmp_path):
    config = few_shot.TrainConfig(steps=0, eval_episodes=2, threads=1)
    few_shot._train(tmp_path, config)
    with pytest.raises(ValueError, match="run with other settings: choose another folder"):
        few_shot._train(tmp_path, few_shot.replace(config, seed=1))
