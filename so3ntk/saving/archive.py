"""The file: an npz archive of plain arrays, with a readable member model.json. No pickles, no compression."""

from __future__ import annotations

import json
import math
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from so3ntk.basics.files import replace_file
from so3ntk.errors import ModelFileError

DOCUMENT = "model.json"


def write(path: str | PathLike, document: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write the file whole or not at all."""

    def fill(temporary: str) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(DOCUMENT, json.dumps(document, indent=1, allow_nan=False))
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    replace_file(Path(path), fill)


def read(path: str | PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The document and the arrays. FileNotFoundError; ModelFileError for anything but a whole file of this form.

    Members are not compressed and arrays are not larger than their member, so that no more memory is used than the file
    is long; checksums are those of the archive.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"load: there is no file {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            _check_members(members, path.stat().st_size)
            document = json.loads(archive.read(DOCUMENT))
            arrays = {
                name.removesuffix(".npy"): _read_array(archive, info)
                for name, info in members.items()
                if name.endswith(".npy")
            }
    except Exception as error:  # whatever the damage leads zipfile, json and NumPy to raise
        if isinstance(error, OSError) and not isinstance(error, zipfile.BadZipFile):
            raise
        raise ModelFileError(
            f"load: {path} is not a saved model, or is damaged ({type(error).__name__}: {error})."
        ) from error
    if not isinstance(document, dict):
        raise ModelFileError(f"load: {path} is not a saved model: its {DOCUMENT} holds {document!r:.40}.")
    return document, arrays


def _check_members(members: dict[str, zipfile.ZipInfo], size: int) -> None:
    if DOCUMENT not in members:
        raise ModelFileError(f"it has no member {DOCUMENT}")
    stored = all(m.compress_type == zipfile.ZIP_STORED and m.file_size == m.compress_size for m in members.values())
    if not stored or sum(m.file_size for m in members.values()) > size:
        raise ModelFileError("its members are compressed, or longer than the file")


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = reader[version](member)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize + member.tell() != info.file_size:
            raise ModelFileError(f"its array {info.filename} holds objects, or is not as long as it says")
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)
