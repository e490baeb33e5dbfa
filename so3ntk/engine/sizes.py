"""How much is computed at once, by the platform: what fits a processor's cache, or what fills a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax


class Sizes(NamedTuple):
    """cell_bytes: of the fields that one cell may hold. cell_side: its rows at most. tile_side: of a tile, likewise."""

    cell_bytes: int
    cell_side: int
    tile_side: int


#: The cache of a core. Tiles are seconds of work, which is what an interrupted run loses.
PROCESSOR = Sizes(8 * 2**20, 32, 512)
#: A hundred thousand threads want large cells, and launching a kernel takes as long as a processor's whole cell.
GPU = Sizes(512 * 2**20, 256, 4096)
#: The share of a GPU's memory that the fields of a cell may take.
SHARE = 32


def on_gpu() -> bool:
    """Whether JAX computes on a device other than the processor."""
    device = _device()
    return getattr(device, "platform", device) != "cpu"


def sizes_here() -> Sizes:
    """Those of the device that JAX computes on."""
    if not on_gpu():
        return PROCESSOR
    device = _device()
    memory = (device.memory_stats() or {}).get("bytes_limit") if hasattr(device, "memory_stats") else None
    return GPU if memory is None else GPU._replace(cell_bytes=min(GPU.cell_bytes, memory // SHARE))


def _device() -> Any:
    """A device, or the name of a platform."""
    return jax.config.jax_default_device or jax.local_devices()[0]  # pyright: ignore[reportAttributeAccessIssue]
