"""Two copies of the project are measured by turns."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import against, env_speed

TOY = """
import json, sys, time
from pathlib import Path
assert "--json" in sys.argv and "--against" not in " ".join(sys.argv)
with Path("../turns").open("a") as file:
    print("NAME", sys.argv[1:-1], file=file)
turn = Path("../turns").read_text().count("NAME")
print(json.dumps({"row": "a", "form": "closed", "cpu_seconds": SECONDS / turn}))
print(json.dumps({"env": "b", "how": "vector", "best": 100 * SECONDS}))
print(json.dumps({"env": "only NAME", "best": 1}))
wall, cpu = time.perf_counter(), time.process_time()
time.sleep(0.2)
assert time.perf_counter() - wall < 0.1, "the clock is not the processor's"
"""


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """Two copies of a project with one small benchmark; the first counts as this one."""
    for name, seconds in (("ours", "3"), ("theirs", "2")):
        folder = tmp_path / name / "benchmarks"
        folder.mkdir(parents=True)
        (folder / "toy.py").write_text(TOY.replace("NAME", name).replace("SECONDS", seconds))
    monkeypatch.setattr(against, "__file__", str(tmp_path / "ours" / "benchmarks" / "against.py"))
    return tmp_path / "ours", tmp_path / "theirs"


def test_copies_take_turns_and_their_best_is_compared(copies, monkeypatch, capsys):
    words = ["toy", "--quick", "--against=../theirs", "--turns", "2", "--size", "3"]
    monkeypatch.setattr(sys, "argv", words)
    against.compare("toy", copies[1], 2, as_json=True)
    turns = (copies[0].parent / "turns").read_text().splitlines()
    words = "['--quick', '--size', '3']"
    assert turns == [f"ours {words}", f"theirs {words}"] * 2
    rows = {row.pop("row"): row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["a closed"] == {"ratio": 1.5, "here": 1.5, "other": 1}
    assert rows["b vector"]["ratio"] == pytest.approx(2 / 3, abs=1e-3)
    assert rows["only ours"]["ratio"] is rows["only theirs"]["ratio"] is None


def test_a_folder_without_the_program_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"no benchmarks/env_speed\.py in {tmp_path}"):
        against.compare("env_speed", tmp_path, 1, as_json=True)


@pytest.mark.slow
@pytest.mark.parametrize("program", ["env_speed", "ppo_speed"])
def test_a_program_is_compared_with_itself(monkeypatch, capsys, program):
    root = Path(env_speed.__file__).resolve().parents[1]
    sizes = {
        "env_speed": ["--seconds", "0.01", "--repeats", "1", "--num-envs", "2"],
        "ppo_speed": ["--num-envs", "4", "--n-steps", "8", "--n-epochs", "1", "--repeats", "1"],
    }[program]
    words = [program, *sizes, "--against", str(root), "--turns", "1", "--json"]
    monkeypatch.setattr(sys, "argv", words)
    __import__(f"benchmarks.{program}", fromlist=["main"]).main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) > 10
    assert all(0.05 < row["ratio"] < 20 for row in rows)
