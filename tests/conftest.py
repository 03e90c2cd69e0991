import os

import pytest

# Test processes run side by side, one for each core: more threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def image_cache(tmp_path_factory):
    """Keep prepared images in a folder of this test run, shared by its processes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLASTIC_ENVS_CACHE", str(folder / "images"))
        yield
