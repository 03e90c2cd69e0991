"""Building the kernel: what fails leaves nothing of an older source."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytest.importorskip("setuptools")
ROOT = Path(__file__).parents[1]


@pytest.fixture
def build(tmp_path):
    """Return a function that builds with a compiler, and what there is then, in an older tree."""
    shutil.copy(ROOT / "setup.py", tmp_path)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    places = [tmp_path / "agents" / place for place in ("plastic/ops/cpu", "memories/cpu")]
    for place, source in zip(places, ("kernel.c", "memory.c"), strict=True):
        (place / "csrc").mkdir(parents=True)
        (place / "csrc" / source).write_text("int nothing;")
        for name in ("default", "avx2", "avx512"):
            path = place / f"_kernel_{name}{suffix}"
            path.write_text("old")
            os.utime(path, (0, 0))

    def call(compiler):
        process = subprocess.run(
            [sys.executable, "setup.py", "build_ext", "--inplace"],
            cwd=tmp_path,
            env=os.environ | {"CC": str(compiler), "LDSHARED": f"{compiler} -shared"},
            capture_output=True,
            text=True,
            check=False,
        )
        return process, [path for place in places for path in sorted(place.glob("_kernel_*"))]

    return call


def test_a_build_that_fails_is_loud_and_leaves_nothing_old(build):
    process, found = build("false")
    assert process.returncode != 0
    assert "the kernel could not be built" in process.stderr
    assert found == []


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no compiler")
def test_an_instruction_set_that_fails_leaves_the_others(build, tmp_path):
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\ncase "$*" in *avx512*) exit 1;; *) exec cc "$@";; esac\n')
    compiler.chmod(0o755)
    process, found = build(compiler)
    assert process.returncode == 0, process.stderr
    assert "NOT BUILT: agents.plastic.ops.cpu._kernel_avx512, agents.memories" in process.stderr
    assert [path.name.split(".")[0] for path in found] == 2 * ["_kernel_avx2", "_kernel_default"]
    assert all(path.read_bytes() != b"old" for path in found)
