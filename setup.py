"""Builds the compiled form; everything else is in pyproject.toml.

The kernels are plain C without any Python in them, loaded by `agents.builds`. Each is built once
for every instruction set that the compiler knows, and the best one is chosen when it is loaded, so
that an installation can be moved to another machine. Each build is optional: without a compiler the
package installs all the same and computes in pure PyTorch. What was built before of one that fails
is taken away: it is of another source.
"""

from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

COMMON = ["-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-std=c11"]
INSTRUCTION_SETS = {
    "default": [],
    "avx2": ["-mavx2"],
    "avx512": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2"],
}
FUSED = {"default": [], "avx2": ["-mfma"], "avx512": ["-mfma"]}


class BuildKernel(build_ext):
    """Builds what can be built, and leaves nothing older in its place."""

    def run(self) -> None:
        """Build all, and say what failed; it is an error if it was asked for, and all did."""
        in_place, self.failed = self.inplace, []
        try:
            super().run()
        finally:
            self.inplace = in_place
            for each in self.failed:
                Path(self.get_ext_fullpath(each.name)).unlink(missing_ok=True)
        if self.failed:
            names = ", ".join(each.name for each in self.failed)
            self.warn(f"NOT BUILT: {names}; what there was of them is taken away")
        if in_place and not self.editable_mode and len(self.failed) == len(self.extensions):
            raise CompileError("the kernel could not be built: the compiler says why above")

    def build_extension(self, ext: Extension) -> None:
        """Build one."""
        try:
            super().build_extension(ext)
        except BaseException:
            self.failed.append(ext)
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)  # in build/
            raise


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
    cmdclass={"build_ext": BuildKernel},
    ext_modules=[
        *builds("agents.plastic.ops.cpu", "kernel.c", PLAIN),
        *builds("agents.memories.cpu", "memory.c", VECTORS),
    ],
)
