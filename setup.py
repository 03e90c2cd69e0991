"""Builds the compiled form; everything else is in pyproject.toml.

The kernels are plain C without any Python in it, loaded by `agents.builds`. Each is built once for
every instruction set that the compiler knows, and the best one is chosen when it is loaded, so that
an installation can be moved to another machine. Each build is optional: without a compiler the
package installs all the same and computes in pure PyTorch.
"""

from pathlib import Path

from setuptools import Extension, setup

COMMON = ["-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-std=c11"]
INSTRUCTION_SETS = {
    "default": [],
    "avx2": ["-mavx2"],
    "avx512": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2"],
}
FUSED = {"default": [], "avx2": ["-mfma"], "avx512": ["-mfma"]}


def builds(package: str, source: str, more: dict[str, list[str]]) -> list[Extension]:
    """Return the builds of a kernel of a package."""
    folder = Path(*package.split("."), "csrc")
    return [
        Extension(
            f"{package}._kernel_{name}",
            sources=[str(folder / source)],
            depends=[str(path) for path in folder.glob("*.[hi]*")],
            extra_compile_args=[*COMMON, *flags, *more[name]],
            libraries=["m"],
            optional=True,
        )
        for name, flags in INSTRUCTION_SETS.items()
    ]


PLAIN: dict[str, list[str]] = {name: [] for name in INSTRUCTION_SETS}
VECTORS = {name: ["-ffp-contract=fast", "-Wno-psabi", *fused] for name, fused in FUSED.items()}

setup(
    ext_modules=[
        *builds("agents.plastic.ops.cpu", "kernel.c", PLAIN),
        *builds("agents.memories.cpu", "memory.c", VECTORS),
    ]
)
