"""The command as a program: streams, signals, places, versions, and what it says of itself."""

import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import train.commands
from plastic_envs.version import __version__
from tests.train.test_cli import SMALL, SMALL_RL
from tests.train.tiny_experiments import processes_of
from train.cli import COMMANDS, _function, _parsed
from train.runs.run_folder import RLRunFolder, RunFolder
from train.wording import columns, counted, printable

PROGRAM = [sys.executable, "-m", "train.cli"]
HELP = f"{' '.join(PROGRAM)} --help"


def shell(line):
    return subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, text=True, timeout=60, check=False
    )


# Starting.


def test_help_and_version_do_not_wait_for_torch(command):
    code = (
        "import sys, train.cli; sys.argv = ['plastic', '--help']; train.cli.main(); "
        "assert not {'torch', 'matplotlib', 'stable_baselines3', 'tyro'} & set(sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (process.returncode, process.stderr) == (0, b"")
    assert command("--version") == (0, f"plastic-envs {__version__}\n")


@pytest.mark.parametrize("name", ["evaluate", "plot", "watch", "report"])
def test_help_and_errors_of_commands_that_train_nothing_do_not_wait_either(name):
    code = (
        f"import sys, train.cli; sys.argv = ['plastic', {name!r}, '--nowhere']\n"
        "try: train.cli.main()\n"
        "finally: assert not {'torch', 'matplotlib', 'stable_baselines3'} & set(sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert process.returncode == 2, process.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_of_a_command_what_it_says_itself(name):
    assert inspect.getdoc(_function(name, [])).startswith(COMMANDS[name])


def test_every_subcommand_has_a_file_of_its_own():
    files = {path.stem for path in Path(train.commands.__file__).parent.glob("*.py")}
    assert files - {"__init__", "options", "shared", "training"} == {
        name.replace("-", "_") for name in COMMANDS
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a command is missing: one of train, "),
        (["trian"], "there is no command 'trian': did you mean train?"),
        (["train", "--stepz", 3], "--stepz, 3 (did you mean --steps?); plastic train --help"),
        (["train", "--steps", "x"], "Error parsing --steps: "),
        (["train", "--rule", "foo"], "rule must be one of 'gradient', 'hebbian', "),
        (["evaluate"], "plastic evaluate --help tells the options"),
    ],
)
def test_words_that_cannot_be_read_are_told_in_one_line(command, caplog, capsys, words, message):
    assert command(*words) == (2, "")
    [record] = caplog.records
    assert message in record.getMessage()
    assert "\n" not in record.getMessage()
    assert not set("│─╭") & set(record.getMessage())
    assert capsys.readouterr().err == ""


def test_nothing_is_said_of_training_that_does_not_begin(command, caplog, tmp_path):
    out = tmp_path / "run"
    caplog.set_level("INFO")
    assert command("train", "--form", "compiled", "--weight-clip", 1, "--out", out)[0] == 1
    assert "training in" not in caplog.text
    assert command("train", *SMALL, "--out", out)[0] == 0
    assert f"training in {out}" in caplog.text


# Streams.


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_do_no_harm(closed):
    process = shell(f"{HELP} {closed}")
    assert (process.returncode, process.stderr) == (0, "")
    assert ("commands:" in process.stdout) == (">&-" not in closed.replace("2>&-", ""))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told_in_one_line():
    process = shell(f"{HELP} > /dev/full")
    assert process.returncode == 1
    assert process.stderr == "ERROR the output cannot be written: No space left on device\n"


def test_output_is_written_whatever_the_terminal_knows():
    line = f"PYTHONIOENCODING=ascii {' '.join(PROGRAM)} $(printf 'tr\\303\\244in\\033[31m\\377')"
    process = shell(line)
    assert process.returncode == 2
    assert "there is no command" in process.stderr
    assert process.stderr.isascii()
    assert "\x1b" not in process.stderr


# Places.


@pytest.mark.parametrize(
    ("name", "words", "count"),
    [
        ("train", ["--out", "~/a"], 1),
        ("train", ["--resume=~/a"], 1),
        ("train-rl", ["--out=~/a"], 1),
        ("watch", ["~/a", "--output=~/b"], 2),
        ("evaluate", ["~/a"], 1),
        ("plot", ["~/a", "~/b", "--output=~/c"], 3),
        ("demo", ["--out=~/a"], 1),
        ("reproduce", ["copy", "--out=~/a"], 1),
        ("report", ["--out=~/a"], 1),
    ],
)
def test_a_tilde_is_a_home_directory_in_every_path(monkeypatch, tmp_path, name, words, count):
    monkeypatch.setenv("HOME", str(tmp_path))
    call = _parsed(_function(name, words), name, words)
    said = repr((call.args, call.keywords))
    assert said.count(str(tmp_path)) == count
    assert "~" not in said


def test_a_tilde_is_a_home_directory_in_paths_that_settings_hold(
    command, monkeypatch, tmp_path, encoder_run, caplog
):
    monkeypatch.setenv("HOME", str(encoder_run.path.parent))
    words = ("--task", "few-shot", "--encoder-run=~/nothing", "--out", tmp_path / "run")
    assert command("train", *words)[0] == 1
    assert str(encoder_run.path.parent / "nothing") in caplog.text
    words = (*SMALL_RL, "--start-from=~/nothing", "--out", tmp_path / "run")
    assert command("train-rl", *words)[0] == 1
    assert caplog.text.count(str(encoder_run.path.parent / "nothing")) >= 2


@pytest.mark.parametrize("path", ["", "~nobody-of-that-name/x"])
def test_a_path_that_leads_nowhere_is_refused(command, monkeypatch, caplog, tmp_path, path):
    monkeypatch.chdir(tmp_path)
    assert command("train", f"--out={path}") == (1, "")
    assert (path or "got ''") in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_different_runs_have_places_of_their_own(
    command, make_run, make_rl_run, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    one, other, agent = make_run(), make_run(seed=1), make_rl_run()
    said = [
        command("plot", one.path),
        command("plot", other.path),
        command("plot", one.path, other.path),
        command("watch", agent.path),
        command("watch", agent.path, "--seed", 3, "--checkpoint", "last"),
    ]
    assert [code for code, _ in said] == [0] * 5
    paths = [Path(out.strip()) for _, out in said]
    assert len(set(paths)) == 5
    assert all(path.stat().st_size > 0 for path in paths)
    assert paths[0] == one.path / "curves.png"
    assert paths[2].parent == one.path.parent
    assert paths[3:] == [agent.path / "episode.gif", agent.path / "episode-last-seed3.gif"]
    assert list(tmp_path.iterdir()) == []


def test_a_seed_is_refused_before_it_names_a_picture(command, make_rl_run, caplog):
    assert command("watch", make_rl_run().path, "--seed", "9" * 400) == (1, "")
    assert "seed must be an integer of at least 0 and at most" in caplog.text


def test_the_picture_that_was_written_is_named(command, make_run, make_rl_run, tmp_path, caplog):
    run, agent = make_run(), make_rl_run()
    new = tmp_path / "new" / "fig"
    assert command("plot", run.path, "--output", new) == (0, f"{new}.png\n")
    assert new.with_suffix(".png").is_file()
    for words in (("plot", run.path), ("watch", agent.path)):
        assert command(*words, "--output", tmp_path) == (1, "")
        assert f"{tmp_path} is a folder" in caplog.text
        assert command(*words, "--output", tmp_path / "fig.xyz") == (1, "")
        assert "must end in one of" in caplog.text
        assert ".png" in caplog.text
        caplog.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


# Signals.


@pytest.fixture
def signalled(command, interruptible):
    """Return a function that runs `plastic` and sends it a signal as soon as something holds."""

    def call(number, condition, *words):
        def wait():
            end = time.monotonic() + 120
            while not condition() and time.monotonic() < end:
                time.sleep(0.02)
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=wait)
        thread.start()
        code, out = command(*words)
        thread.join()
        return code, out

    return call


LONG = ["--steps", 10**6]


# A signal can come between the opening of a file and the block that closes it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_training_and_it_is_said_how_it_goes_on(
    signalled, caplog, tmp_path, number, code
):
    run = RunFolder(tmp_path / "a run")
    before = signal.getsignal(number)
    words = ("train", *SMALL, *LONG, "--out", run.path)
    assert signalled(number, lambda: len(run.timing()) > 2, *words) == (code, "")
    assert f"stopped; plastic train --resume '{run.path}' goes on" in caplog.text
    assert signal.getsignal(number) is before
    assert run.load_checkpoint("last")["step"] > 0


def test_ctrl_c_ends_an_agents_training_as_well(signalled, caplog, tmp_path):
    run = RLRunFolder(tmp_path / "run")
    words = ("train-rl", *SMALL_RL, *LONG, "--out", run.path)
    assert signalled(signal.SIGINT, lambda: len(run.timing()) > 1, *words) == (130, "")
    assert f"stopped; plastic train-rl --resume {run.path} goes on" in caplog.text


@pytest.mark.slow
def test_the_processes_of_a_demonstration_end_with_it(signalled, caplog, tmp_path):
    out = tmp_path / "demo"
    begun = lambda: any(out.glob("laptop/*/metrics.jsonl"))  # noqa: E731
    words = ("demo", "--out", out, "--processes", 2)
    assert signalled(signal.SIGTERM, begun, *words) == (143, "")
    assert "stopped; the same command goes on where it was" in caplog.text
    assert processes_of(out) == []
    assert not list(out.glob("laptop/*none*/metrics.jsonl"))


# Words.


def test_numbers_of_things_are_written_for_people():
    assert [counted(n, "core") for n in (0, 1, 2, 1_000)] == [
        *("0 cores", "1 core", "2 cores", "1,000 cores"),
    ]


def test_columns_are_aligned():
    text = columns([("name", "value"), ("a long name", "1"), ("b", "")], numbers=True)
    assert text.splitlines() == ["name         value", "a long name      1", "b"]


def test_text_of_others_does_not_reach_the_terminal_as_it_is():
    assert printable("a\x1b[31mb\r\u202e\udcff\n") == "a\\x1b[31mb\\r\\u202e\\udcff\n"


def test_evaluate_aligns_whatever_it_tells(run, command):
    code, out = command("evaluate", run.path, "--episodes", 4)
    assert code == 0
    starts = {len(line) - len(line.split("  ")[-1].lstrip()) for line in out.splitlines()}
    assert len(starts) == 1
