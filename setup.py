"""Builds the compiled form; everything else is in pyproject.toml.

The kernel is plain C without any Python in it, loaded by `agents.plastic.ops.cpu.library`. It is
built once for every instruction set that the compiler knows, and the best one is chosen when it is
loaded, so that an installation can be moved to another machine. Each build is optional: without a
compiler the package installs all the same and computes in pure PyTorch.
"""

from pathlib import Path

from setuptools import Extension, setup

COMMON = ["-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-std=c11"]
INSTRUCTION_SETS = {
    "default": [],
    "avx2": ["-mavx2"],
    "avx512": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2"],
}

setup(
    ext_modules=[
        Extension(
            f"agents.plastic.ops.cpu._kernel_{name}",
            sources=["agents/plastic/ops/cpu/csrc/kernel.c"],
            depends=[str(path) for path in Path("agents/plastic/ops/cpu/csrc").glob("*.[hi]*")],
            extra_compile_args=COMMON + flags,
            libraries=["m"],
            optional=True,
        )
        for name, flags in INSTRUCTION_SETS.items()
    ]
)
