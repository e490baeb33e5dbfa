"""Gram matrices on the workers of dask: two local processes."""

import os
import signal
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from so3ntk import Dense, Elementwise, Flatten, SphereSignal, gram, open_gram, serial
from so3ntk.store import GramStore
from tests.oracles.harmonics import white_signals

distributed = pytest.importorskip("distributed")
pytest.importorskip("zarr")
pytestmark = pytest.mark.slow
NET = serial(Flatten(), Dense(b_std=0.3), Elementwise(lambda u: jnp.tanh(u), name="tanh"), Dense())
X = SphereSignal(jnp.asarray(white_signals(96, 2, 1, 0)), 2)
OPTIONS = {"get": ("nngp", "ntk"), "tile": 8, "progress": False}  # 78 tiles


@pytest.fixture(scope="module")
def whole():
    return gram(NET, X, **OPTIONS)


@pytest.fixture(scope="module")
def client():
    """Two worker processes of one thread; their JAX has single precision unless it is told otherwise."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_in_memory(client, whole):
    """The same bits as here, in double precision; the plan was loaded once in each process."""
    found = gram(NET, X, client=client, **OPTIONS)
    for kernel, expected in zip(found, whole, strict=True):
        np.testing.assert_array_equal(kernel, expected)
    ran = client.run(lambda: (__import__("os").getpid(), len(__import__("so3ntk.cluster").cluster._loaded)))
    assert len(ran) == 2
    assert sorted(loaded for _, loaded in ran.values()) in ([0, 1], [1, 1])
    assert os.getpid() not in {pid for pid, _ in ran.values()}


def test_workers_write_the_store(client, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(GramStore, "write", None)  # here
    found = gram(NET, X, client=client, store=tmp_path / "run.zarr", **OPTIONS)
    for kernel, expected in zip(found, whole, strict=True):
        np.testing.assert_array_equal(kernel, expected)


def test_workers_that_do_not_see_the_store(client, whole):
    """A store in this process's memory: kernels come back and are written here."""
    import zarr

    found = gram(NET, X, client=client, store=zarr.storage.MemoryStore(), **OPTIONS)
    np.testing.assert_array_equal(found.ntk, whole.ntk)


@pytest.mark.parametrize("both", [False, True], ids=["one", "all"])
def test_workers_die_and_come_back(client, whole, tmp_path, both):
    """SIGKILL of a worker, or of all of them and the plan with them, in the middle of a run."""
    path, killed = tmp_path / "run.zarr", []

    def kill():
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and not (path.exists() and open_gram(path, "ntk").mask.sum() >= 5):
            time.sleep(0.01)
        pids = list(client.run(os.getpid).values())
        for pid in pids if both else pids[:1]:
            os.kill(pid, signal.SIGKILL)
            killed.append(int(open_gram(path, "ntk").mask.sum()))

    thread = threading.Thread(target=kill)
    client.wait_for_workers(2)
    client.register_plugin(_Slow(), name="slow")
    thread.start()
    found = gram(NET, X, client=client, store=path, **OPTIONS)
    thread.join()
    client.unregister_worker_plugin("slow")
    assert len(killed) == 1 + both
    assert killed[0] < 78
    for kernel, expected in zip(found, whole, strict=True):
        np.testing.assert_array_equal(kernel, expected)
    client.wait_for_workers(2)


class _Slow(distributed.WorkerPlugin):
    """Each tile takes a little longer, so that there is a middle of a run."""

    def setup(self, worker):
        self.write = GramStore.write
        GramStore.write = lambda *a: (time.sleep(0.05), self.write(*a))[1]

    def teardown(self, worker):
        GramStore.write = self.write


def test_errors_of_a_task(client, tmp_path):
    """They come back as they are, and nothing is left running."""
    net = serial(*NET.layers[:2], so3ntk.Monomial(3), Dense())
    bad = SphereSignal(X.coefficients.at[20].mul(1e150), 2)
    with pytest.raises(so3ntk.PrecisionError, match="input 20 of x1"):
        gram(net, bad, client=client, store=tmp_path / "run.zarr", **OPTIONS)
    assert not client.futures or all(f.status != "pending" for f in client.futures.values())
