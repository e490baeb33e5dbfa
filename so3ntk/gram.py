"""Gram matrices: all pairs of two batches, tile by tile, within a memory budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from so3ntk.blocks import host_kernels
from so3ntk.calibration import warn_if_coarse
from so3ntk.network import Kernels, Network, check_get
from so3ntk.plan import make_plan


def gram(
    net: Network,
    x1: Any,
    x2: Any = None,
    get: str | Sequence[str] = "ntk",
    *,
    tile: int | None = None,
    memory: str | int = "2GiB",
    store: Any = None,
    client: Any = None,
    progress: bool = True,
) -> Any:
    """The kernel matrices of two batches, or of x1 with itself (x2 None): on the host, in memory.

    tile: rows and columns (signals, or atoms of molecules) of one dispatch to the device; None chooses from ``memory``,
    the budget in bytes (or "2GiB", "500MB") for everything beyond the result. progress: a bar with pairs per second.
    store, client: for stores and clusters, which are not implemented yet.

    Returns an array (N1, N2) for one name of ``get``, ``Kernels`` for several, in the dtype of the signals. Only the
    lower triangle of tiles is computed when x2 is None, and the result is symmetric to the bit. Kernels of molecules
    are summed over their atoms in float64. Raises MemoryError if one tile exceeds the budget, ValueError for wrong
    arguments.
    """
    if store is not None or client is not None:
        raise NotImplementedError("gram: store= and client= are not implemented yet; the result is kept in memory.")
    names = check_get(get)
    plan = make_plan(net.layers, net.quadrature, net.rtol, x1, x2)
    warn_if_coarse(net, x1, 3)
    values = host_kernels(plan, names, tile=tile, memory=memory, progress=progress)
    found = dict(zip(names, values, strict=True))
    return found[get] if isinstance(get, str) else Kernels(found.get("nngp"), found.get("ntk"))
