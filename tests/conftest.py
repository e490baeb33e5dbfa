"""How the tests run: double precision, strict promotion of dtypes, annotations checked, few programs compiled.

What must also hold in single precision asks for float32 explicitly.
"""

import contextlib
import ctypes
import gc
import os
import sys

import jax
import jaxtyping
import psutil
import pytest
import threadpoolctl

import tests.programs
import tests.typechecking

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jaxtyping.install_import_hook(["so3ntk", "planar"], f"{tests.typechecking.__name__}.check")
if tests.programs.QUICK:
    # Three quarters of the time went into optimising programs that run for milliseconds: same operations, a quarter of the
    # compilation. With the variable set programs are those of users; .ci/run does so for a part of the tests.
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # for processes that tests start
    if jax.__version_info__ < (0, 11):  # later ones end the process at a flag they do not know
        # One module for LLVM in place of several for cores that another worker has
        flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
if sys.platform == "linux":
    # glibc would hand memory back after each test and ask for it again: thresholds of mmap and of trimming, and steps of growth
    for option, size in ((-3, 2**30), (-1, 2**30), (-2, 2**26)):
        ctypes.CDLL(None).mallopt(option, size)
gc.set_threshold(100_000, 50, 100)  # tracing makes many objects and leaves few that go in circles
# A worker has one of two cores: threads of linear algebra that wait for each other would take more than they give
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # of libraries that are loaded later
threadpoolctl.threadpool_limits(1, user_api="blas")

#: Bytes of a test process, one of two, beyond which compiled programs are dropped.
MOST = psutil.virtual_memory().total // 5
_raises = pytest.raises


@contextlib.contextmanager
def raises(*arguments, **settings):
    """``pytest.raises``, in which annotations are not checked: there the packages themselves refuse wrong arguments."""
    with _raises(*arguments, **settings) as error, annotations_unchecked():
        yield error


@contextlib.contextmanager
def annotations_unchecked():
    """Calls that violate annotations are let through."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


pytest.raises = raises


@pytest.fixture
def wrong_arguments():
    """For tests of what the packages do with them."""
    with annotations_unchecked():
        yield


def pytest_collection_modifyitems(items):
    """The grid's error is not estimated where nothing else is said: that compiles more than the kernels themselves.

    A mark of ``filterwarnings`` or ``pytest.warns`` switches it on where it is the subject. Annotations are checked in the
    first case of each test: the others call the same functions, and checks make tracing half as long again.
    """
    tests_seen = set()
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore::so3ntk.QuadratureWarning"), append=False)
        test = item.nodeid.partition("[")[0]
        if test in tests_seen:
            item.add_marker(pytest.mark.usefixtures("wrong_arguments"))
        tests_seen.add(test)


@pytest.fixture
def optimized():
    """For tests that compute much: programs as users' are."""
    with tests.programs.optimized():
        yield


@pytest.fixture(autouse=True)
def _bounded_memory():
    """JAX keeps every program it compiled: those of the whole suite would fill a laptop's memory."""
    yield
    if psutil.Process().memory_info().rss > MOST:
        import so3ntk.basics.memory  # not before the import hook

        jax.clear_caches()
        gc.collect()
        so3ntk.basics.memory.give_back()  # else the next test would clear again
