"""Gram matrices of molecules by size, by devices and by dask workers: pairs per second, peak memory, time lost by a kill.

    python benchmarks/scaling.py [sizes] [devices] [workers] [killed] [--sizes 500 1000 2000 5000] [--rtol 1e-3] ...

Molecules of QM9, environments and network as ``so3ntk gram`` has them; the coarse default of rtol bounds the time, not what
is compared. Pairs are pairs of atoms of one element, in the tiles on and below the diagonal. Each line of a table is a
process of its own, so that peaks are its own; compilation is not in the times. Tables: "sizes" of N molecules into a store;
"devices", 1, 2 and 4 fake devices of the CPU; "workers", 1 and 2 dask workers, each pinned to one core; "killed", the time
that SIGKILL of one of two workers costs, half way.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from records import peak_bytes

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
MIB = 2**20
#: Atoms along the side of a tile where several workers share few molecules.
SMALL_TILE = 512


def load(n: int, settings: dict):
    """A network calibrated on 100 molecules, and the environments of n."""
    from so3ntk.molecules import environments, load_qm9
    from so3ntk.molecules.energies import ENERGY_ENVIRONMENTS, energy_network

    options = {**ENERGY_ENVIRONMENTS, "species": ("H", "C", "N", "O", "F")}
    x = environments(load_qm9(n, seed=0).atoms, **options)
    return energy_network(rtol=settings["rtol"]).calibrate(x[:100]), x


def timed_gram(net, x, settings: dict, compiling: int, **options) -> dict:
    """One Gram matrix, after one of the first ``compiling`` molecules with the same tiles, which compiles the program."""
    from so3ntk import estimate, gram

    expected = estimate(net, x, tile=settings["tile"], memory=settings["memory"], seconds=0.1)
    common = {"tile": expected.side, "memory": settings["memory"], "progress": False}
    gram(net, x[:compiling], **common)
    before, start = peak_bytes(), time.perf_counter()
    gram(net, x, **common, **options)
    seconds = time.perf_counter() - start
    return {"pairs": expected.pairs, "seconds": seconds, "peak": peak_bytes() - before, "budgeted": expected.memory}


def size_child(settings: dict) -> dict:
    net, x = load(settings["n"], settings)
    with tempfile.TemporaryDirectory() as folder:
        return {**timed_gram(net, x, settings, 30, store=Path(folder, "run.zarr")), "grid": str(net.quadrature)}


def device_child(settings: dict) -> dict:
    tile = settings["tile"] or SMALL_TILE
    return timed_gram(*load(settings["n"], settings), {**settings, "tile": tile}, 60)  # 15 tiles: all devices compile


def pin(core: int) -> None:
    """All threads of this process, and those they start, on one core."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {core})


def worker_child(settings: dict) -> dict:
    """One Gram matrix on pinned workers; with ``kill`` once more while one of them is killed half way."""
    from dask.distributed import Client, LocalCluster

    from so3ntk import gram, open_gram

    net, x = load(settings["n"], settings)
    tile, cores = settings["tile"] or SMALL_TILE, sorted(os.sched_getaffinity(0))
    options = {"tile": tile, "memory": settings["memory"], "progress": False}
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=settings["workers"], threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        for number, worker in enumerate(client.scheduler_info()["workers"]):
            client.run(pin, cores[number % len(cores)], workers=[worker])
        gram(net, x[:60], client=client, **options)  # every worker compiles, and below what depends on n
        found: dict = {"pairs": count_pairs(net, x, options)}

        def run(name: str) -> float:
            start = time.perf_counter()
            gram(net, x, client=client, store=Path(folder, name), **options)
            return time.perf_counter() - start

        found["seconds"] = run("first.zarr")
        if settings["kill"]:
            path = Path(folder, "second.zarr")

            def kill() -> None:
                while not path.exists() or 2 * open_gram(path).mask.sum() < len(open_gram(path).tiling.tiles):
                    time.sleep(0.05)
                os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

            thread = threading.Thread(target=kill)
            thread.start()
            found["killed"] = run("second.zarr")
            thread.join()
        return found


def count_pairs(net, x, options: dict) -> int:
    """The pairs of atoms in the tiles to compute."""
    from so3ntk import estimate

    return estimate(net, x, tile=options["tile"], memory=options["memory"], seconds=0.01).pairs


CHILDREN = {"size": size_child, "device": device_child, "worker": worker_child}


def measure(kind: str, settings: dict, environment: dict[str, str] | None = None) -> dict:
    """What a child process measures."""
    command = [sys.executable, __file__, "--child", kind, json.dumps(settings)]
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def print_sizes(settings: dict, sizes: list[int]) -> None:
    """Pairs per second and peak memory for N molecules."""
    print(f"\n{'molecules':>10}{'pairs':>16}{'seconds':>10}{'pairs/s':>12}{'peak [MiB]':>12}{'formula [MiB]':>15}")
    for n in sizes:
        found = measure("size", {**settings, "n": n})
        print(f"{n:>10}{found['pairs']:>16,}{found['seconds']:>10.1f}{found['pairs'] / found['seconds']:>12,.0f}"
              f"{found['peak'] / MIB:>12.0f}{found['budgeted'] / MIB:>15.0f}   {found['grid']}", flush=True)  # fmt: skip


def print_devices(settings: dict, n: int) -> None:
    """1, 2 and 4 fake devices of the CPU."""
    print(f"\n{'devices':>10}{'seconds':>10}{'pairs/s':>12}{'peak [MiB]':>12}   ({n} molecules)")
    for devices in (1, 2, 4):
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
        found = measure("device", {**settings, "n": n}, flags)
        rate = found["pairs"] / found["seconds"]
        print(f"{devices:>10}{found['seconds']:>10.1f}{rate:>12,.0f}{found['peak'] / MIB:>12.0f}", flush=True)


def print_workers(settings: dict, n: int, turns: int) -> None:
    """1 and 2 dask workers, each pinned to one core, in turns."""
    print(
        f"\n{'workers':>10}{'seconds':>10}{'pairs/s':>12}{'ratio':>8}   ({n} molecules, each worker pinned to one core)"
    )
    for _ in range(turns):
        one, two = (measure("worker", {**settings, "n": n, "workers": k, "kill": False}) for k in (1, 2))
        for workers, found in ((1, one), (2, two)):
            ratio = one["seconds"] / found["seconds"]
            rate = found["pairs"] / found["seconds"]
            print(f"{workers:>10}{found['seconds']:>10.1f}{rate:>12,.0f}{ratio:>8.2f}", flush=True)


def print_killed(settings: dict, n: int) -> None:
    """The time that killing one of two workers costs."""
    found = measure("worker", {**settings, "n": n, "workers": 2, "kill": True})
    lost = found["killed"] - found["seconds"]
    print(
        f"\n2 workers, {n} molecules: {found['seconds']:.1f} s; one killed half way: {found['killed']:.1f} s, {lost:.1f} s lost"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=["sizes", "devices", "workers", "killed"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2000, 5000])
    parser.add_argument("--n", type=int, default=500, help="molecules of the tables of devices and workers")
    parser.add_argument("--turns", type=int, default=3, help="of the table of workers")
    parser.add_argument("--rtol", type=float, default=1e-3)
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(CHILDREN[args.child[0]](json.loads(args.child[1]))))
        return
    import jax

    print(f"{platform.machine()}, {os.cpu_count()} cores, {jax.default_backend()}, Python {platform.python_version()}, jax "
          f"{jax.__version__}, float32, rtol {args.rtol:g}, memory {args.memory}")  # fmt: skip
    settings = {"rtol": args.rtol, "memory": args.memory, "tile": args.tile}
    tables = {
        "sizes": lambda: print_sizes(settings, args.sizes),
        "devices": lambda: print_devices(settings, args.n),
        "workers": lambda: print_workers(settings, args.n, args.turns),
        "killed": lambda: print_killed(settings, args.n),
    }
    for table in args.tables:
        tables[table]()


if __name__ == "__main__":
    main()
