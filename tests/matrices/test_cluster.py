"""Gram matrices on the workers of dask: two local processes."""

import multiprocessing
import os
import signal
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from so3ntk import Dense, Elementwise, Erf, Flatten, SphereSignal, gram, open_gram, serial
from so3ntk.matrices.store import GramStore
from tests.oracles.harmonics import white_signals

distributed = pytest.importorskip("distributed")
pytest.importorskip("zarr")
pytestmark = pytest.mark.slow
NET = serial(Flatten(), Dense(b_std=0.3), Erf(), Dense())
X = SphereSignal(jnp.asarray(white_signals(64, 2, 1, 0)), 2)
OPTIONS = {"get": ("nngp", "ntk"), "tile": 8, "progress": False}  # 36 tiles


@pytest.fixture(scope="module")
def whole():
    return gram(NET, X, **OPTIONS)


@pytest.fixture(scope="module")
def client():
    """Two worker processes of one thread; their JAX has single precision unless it is told otherwise.

    Where the system can, they part from a process that has imported what they need, which takes longer than what they compute.
    """
    from dask import config
    from distributed.utils import get_mp_context

    forked = "forkserver" in multiprocessing.get_all_start_methods()
    settings = {
        "distributed.worker.multiprocessing-method": "forkserver" if forked else "spawn",
        "distributed.worker.profile.enabled": False,  # it looks at the threads a hundred times a second
    }
    with config.set(settings):
        if forked:
            get_mp_context().set_forkserver_preload(["distributed", "zarr", "so3ntk.matrices.cluster"])
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client


def test_in_memory(client):
    """The same bits as here, in double precision, of a function without a name; each process loaded the plan once."""
    net = serial(*NET.layers[:2], Elementwise(lambda u: jnp.tanh(u)), Dense())
    found, expected = gram(net, X, client=client, **OPTIONS), gram(net, X, **OPTIONS)
    for kernel, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(kernel, other)
    ran = client.run(
        lambda: (__import__("os").getpid(), len(__import__("so3ntk.matrices.cluster").matrices.cluster._loaded))
    )
    assert len(ran) == 2
    assert sorted(loaded for _, loaded in ran.values()) in ([0, 1], [1, 1])
    assert os.getpid() not in {pid for pid, _ in ran.values()}


def test_workers_write_the_store(client, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(GramStore, "write", lambda *_: pytest.fail("written here"))
    found = gram(NET, X, client=client, store=tmp_path / "run.zarr", **OPTIONS)
    for kernel, expected in zip(found, whole, strict=True):
        np.testing.assert_array_equal(kernel, expected)


def test_workers_that_do_not_see_the_store(client, whole):
    """A store in this process's memory: kernels come back and are written here."""
    import zarr

    found = gram(NET, X, client=client, store=zarr.storage.MemoryStore(), **OPTIONS)
    np.testing.assert_array_equal(found.ntk, whole.ntk)


def test_clients_that_are_closed():
    """By themselves, or with their cluster; and one whose answers must be awaited."""
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0")
    first, second = distributed.Client(cluster), distributed.Client(cluster)
    first.close()
    with pytest.raises(ValueError, match=r"gram: the client .* is closed.* Make a new one, Client\(cluster\)"):
        gram(NET, X[:3], client=first, **OPTIONS)
    with distributed.Client(cluster) as remedy:
        assert gram(NET, X[:3], client=remedy, **OPTIONS).ntk.shape == (3, 3)
    cluster.close()
    with pytest.raises(ValueError, match="is closed: it was closed itself, or its cluster was"):
        gram(NET, X[:3], client=second, **OPTIONS)


def test_clients_that_do_not_wait(client, monkeypatch):
    monkeypatch.setattr(type(client), "asynchronous", True)
    with pytest.raises(
        TypeError, match=r"a client that waits for its answers: Client\(\.\.\.\) without asynchronous=True"
    ):
        gram(NET, X[:3], client=client, **OPTIONS)


def test_errors_of_a_task(client, tmp_path):
    """They come back as they are, and nothing is left running."""
    net = serial(*NET.layers[:2], so3ntk.Monomial(3), Dense())
    bad = SphereSignal(X.coefficients.at[20].mul(1e150), 2)
    with pytest.raises(so3ntk.PrecisionError, match="input 20 of x1"):
        gram(net, bad, client=client, store=tmp_path / "run.zarr", **OPTIONS)
    assert not client.futures or all(f.status != "pending" for f in client.futures.values())


def test_workers_die_and_come_back(client, whole, tmp_path):
    """SIGKILL of one worker in the middle of a run; later of both, and of the plan with them."""

    class Slow(distributed.WorkerPlugin):
        """Each tile takes a little longer, so that there is a middle of a run."""

        def setup(self, worker):
            self.write = GramStore.write
            GramStore.write = lambda *a: (time.sleep(0.1), self.write(*a))[1]

        def teardown(self, worker):
            GramStore.write = self.write

    path, killed = tmp_path / "run.zarr", []

    def kill(after, count):
        while time.monotonic() < deadline and not (path.exists() and open_gram(path, "ntk").mask.sum() >= after):
            time.sleep(0.02)
        for pid in list(client.run(os.getpid).values())[:count]:
            os.kill(pid, signal.SIGKILL)
            killed.append(int(open_gram(path, "ntk").mask.sum()))

    deadline = time.monotonic() + 500
    thread = threading.Thread(target=lambda: (kill(4, 1), kill(12, 2)))
    client.register_plugin(Slow(), name="slow")
    thread.start()
    found = gram(NET, X, client=client, store=path, **OPTIONS)
    thread.join()
    client.unregister_worker_plugin("slow")
    assert len(killed) >= 2
    assert max(killed) < 36
    for kernel, expected in zip(found, whole, strict=True):
        np.testing.assert_array_equal(kernel, expected)
