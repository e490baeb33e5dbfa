"""Where a stored Gram matrix may lie.

* a folder of this machine, by its path;
* an address of fsspec, such as "s3://bucket/run.zarr" or "gs://bucket/run.zarr": needs fsspec, and the package of its protocol;
* a zip file with what a folder held, or a chain such as "zip::s3://bucket/run.zip", to be read from;
* a store of zarr.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from so3ntk.basics.arguments import is_address

REMEDY = (
    "Stores that are written to are folders, or addresses of object stores: name one, such as 'run.zarr', or pass a store of "
    "zarr, such as zarr.storage.MemoryStore()."
)
#: Protocols of folders of this machine, whose files are written in place there, and not renamed into it.
LOCAL = ("file", "local")


def require_zarr(where: str) -> Any:
    """The module zarr. ImportError that says how to install it."""
    try:
        import zarr
    except ImportError as error:
        raise ImportError(
            f"{where}: stores need the package zarr: pip install -e '.[store]' in the checkout of so3ntk."
        ) from error
    return zarr


def check_place(store: object, writing: bool = True) -> None:
    """ValueError, before anything is written, for a name that is no place to write to, or to read from.

    Addresses may be chains, read from the left. ImportError where fsspec or what its protocol needs is missing.
    """
    if not isinstance(store, str | os.PathLike):
        return
    if not is_address(store):
        if writing and is_zip_file(store):
            raise ValueError(f"store: {os.fspath(store)!r} is a zip file, which open_gram reads alone. {REMEDY}")
        return
    address = str(os.fspath(store))
    if not isinstance(store, str):
        raise ValueError(
            f"store: {address!r} is an address in a path, which has lost a slash. Pass it as text. {REMEDY}"
        )
    protocol = address.split("::")[0].split("://")[0]
    if protocol in LOCAL:
        raise ValueError(f"store: {address!r} is a folder of this machine. Pass its path alone. {REMEDY}")
    if writing and "::" in address:
        raise ValueError(f"store: {address!r} is a chain of file systems, which open_gram reads alone. {REMEDY}")
    file_system_of(address)


def file_system_of(address: str) -> tuple[Any, str]:
    """The file system of fsspec, and the path in it. ValueError for an unknown protocol, ImportError for one that is missing."""
    try:
        import fsspec.core
    except ImportError as error:
        raise ImportError(
            f"store: the address {address!r} needs the package fsspec: pip install -e '.[store]' in the checkout of so3ntk."
        ) from error
    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise ImportError(f"store: the address {address!r} needs another package: {error}.") from error
    except (ValueError, OSError) as error:
        raise ValueError(f"store: {address!r} is no address that fsspec can open ({error}). {REMEDY}") from error


def is_zip_file(store: object) -> bool:
    """Whether a name is that of a zip file, there or not; a folder may be called so, too."""
    return isinstance(store, str | os.PathLike) and Path(store).suffix == ".zip" and not Path(store).is_dir()


def open_group(store: Any, mode: str) -> Any:
    """The group of zarr at a place. FileNotFoundError where nothing is."""
    zarr = require_zarr("store")
    if is_address(store):
        store = zarr.storage.FsspecStore.from_url(str(store), read_only=mode == "r")
    elif is_zip_file(store):
        if not Path(store).is_file():
            raise FileNotFoundError(f"store: there is no file {os.fspath(store)}.")
        store = zarr.storage.ZipStore(Path(store), mode="r")
    return zarr.open_group(store=store, mode=mode)


def require_writable_address(address: str) -> None:
    """OSError unless a file can be made there, and be taken away."""
    files, path = file_system_of(address)
    probe = f"{path}/.{uuid.uuid4().hex}"
    try:
        files.pipe_file(probe, b"so3ntk")
        files.rm_file(probe)
    except NotImplementedError as error:
        raise PermissionError("its protocol only reads") from error
