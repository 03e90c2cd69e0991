"""The package `agents` in an environment where another project installed one of that name."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plastic_envs.project import AGENTS, REMEDY, foreign_files

ROOT = Path(__file__).parents[2]
THEIRS = "class Agent: ...\n"

# An editable installation of this repository would be found beside the folder.
ALONE = "import sys; sys.meta_path = [f for f in sys.meta_path if 'ditable' not in repr(f)]; "
PLASTIC = ALONE + "sys.argv = ['plastic', *sys.argv[1:]]; import train.cli; train.cli.main()"


@pytest.fixture
def site(tmp_path):
    """A folder as of site-packages, with this project's packages."""
    for name in ("agents", "plastic_envs", "train"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    return tmp_path


def run(site, code, *words):
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PYTHONPATH": str(site), "PATH": ""},
        cwd=site,
    )


def test_nothing_else_is_in_the_package():
    folder = ROOT / "agents"
    ours = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    assert ours - {"__init__"} == AGENTS
    assert foreign_files(folder) == []


def test_their_files_beside_ours_are_told(site):
    (site / "agents" / "agent.py").write_text(THEIRS)
    (site / "agents" / "voice").mkdir()
    (site / "agents" / "voice" / "__init__.py").touch()
    process = run(site, f"{ALONE} import agents; print(agents.PlasticNetwork.__name__)")
    assert (process.returncode, process.stdout) == (0, "PlasticNetwork\n")
    assert f"{site / 'agents'} holds files of another project: agent, voice." in process.stderr
    assert REMEDY in process.stderr


def test_a_part_of_ours_that_is_missing_is_told(site):
    (site / "agents" / "plastic" / "state.py").unlink()
    process = run(site, f"{ALONE} import agents")
    assert process.returncode == 1
    assert (
        "agents of plastic-envs is not whole: No module named 'agents.plastic.state'"
        in process.stderr
    )
    assert REMEDY in process.stderr


@pytest.mark.parametrize("theirs", [THEIRS, "raise ImportError('no openai here')\n", None])
def test_the_command_tells_theirs_in_place_of_ours(site, theirs):
    """In whatever state: theirs works, theirs does not, or both were uninstalled by half."""
    ours = site / "agents" / "__init__.py"
    ours.unlink()
    if theirs is not None:
        ours.write_text(theirs)
    for words in (("--help",), ("train",)):
        process = run(site, PLASTIC, *words)
        assert (process.returncode, process.stdout) == (1, "")
        assert process.stderr.startswith("ERROR ")
        assert process.stderr.count("\n") == 1
        assert REMEDY in process.stderr
