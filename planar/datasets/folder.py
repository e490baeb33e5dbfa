"""Folders of image files, one sub-folder for each class, as NCT-CRC-HE-100K is distributed. Needs Pillow."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from planar.datasets.image_data import ImageData, positive_integer

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
FORMATS = ("TIFF", "PNG", "JPEG")
#: Modes of Pillow with a plain meaning as grey or colour. That of a file with more than eight bits may be among them.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
#: Tags of TIFF, with Pillow's names: what the numbers of a pixel are.
BITS_PER_SAMPLE, SAMPLE_FORMAT, COLOR_MAP = 258, 339, 320


def load_folder(
    path: str | PathLike, size: int | None = None, seed: int = 0, per_class: int | None = None
) -> ImageData:
    """The TIFF, PNG and JPEG files of the sub-folders of ``path``, one sub-folder for each class.

    Classes and files are taken in the order of their names. Hidden files and folders (.name), files of other types
    and folders inside the classes' folders are skipped. Images (n, H, W, 1) if all are grey, else (n, H, W, 3): grey are
    files of one channel and palettes of greys; whether a file of three channels holds greys is not looked at. Images are
    turned and mirrored upright where their EXIF orientation says how.

    size: resize each image to size x size, whatever its shape, by Pillow's bilinear filter, which averages where it
    shrinks. per_class: take that many of each class, drawn at random but kept in order; seed, class and the names of
    its files decide which, other classes do not matter, and 100 are among the 200 of the same seed.

    Raises FileNotFoundError; ImportError without Pillow. ValueError, naming the file or folder: for one without
    sub-folders, a class without images or with fewer than ``per_class``, a damaged image, images of more than eight
    bits per channel or of signed numbers (judged by the file, as Pillow cuts some to eight bits), several frames or transparent pixels, and images of different sizes where ``size`` is None.
    """
    if size is not None:
        positive_integer(size, "size", "load_folder")
    if per_class is not None:
        positive_integer(per_class, "per_class", "load_folder")
    positive_integer(seed, "seed", "load_folder", 0)
    _require_pillow()
    folders = _class_folders(Path(path))
    files = [_image_files(folder) for folder in folders]  # all are looked at before the first is read
    if per_class is not None:
        files = [_drawn(folder, some, per_class, seed) for folder, some in zip(folders, files, strict=True)]
    images = _read_all([file for some in files for file in some], size)
    labels = np.repeat(np.arange(len(folders)), [len(some) for some in files])
    return ImageData(images, labels, tuple(folder.name for folder in folders))


def _require_pillow() -> ModuleType:
    """The module PIL.Image; ImportError naming the extra to install if it is missing."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ImportError(
            "load_folder: needs Pillow, which is not installed: pip install -e '.[images]' in the checkout of so3ntk."
        ) from error
    return Image


def _class_folders(path: Path) -> list[Path]:
    if not path.exists():
        raise FileNotFoundError(f"load_folder: there is no folder {path}.")
    if not path.is_dir():
        raise ValueError(f"load_folder: expected a folder with a sub-folder for each class, but {path} is a file.")
    folders = sorted(entry for entry in _visible(path) if entry.is_dir())
    if not folders:
        raise ValueError(
            f"load_folder: expected a sub-folder for each class, but {path} has none. If it holds the images of one "
            "class, pass the folder above it."
        )
    return folders


def _image_files(folder: Path) -> list[Path]:
    entries = list(_visible(folder))
    files = sorted(entry for entry in entries if entry.suffix.lower() in SUFFIXES and entry.is_file())
    if not files:
        within = any(entry.is_dir() for entry in entries)
        hint = " It holds folders: is the one to pass one level further down?" if within else ""
        raise ValueError(
            f"load_folder: expected images ({', '.join(SUFFIXES)}) in the folder of the class {folder.name!r}, but "
            f"{folder} holds none among its {len(entries)} visible entries.{hint}"
        )
    return files


def _visible(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]


def _drawn(folder: Path, files: list[Path], count: int, seed: int) -> list[Path]:
    """``count`` of the sorted files, still sorted."""
    if count > len(files):
        raise ValueError(
            f"load_folder: {count} images of each class were asked for, but {folder} holds {len(files)}. "
            "Lower per_class."
        )
    generator = np.random.default_rng([seed, *folder.name.encode("utf-8", "surrogateescape")])
    return [files[row] for row in np.sort(generator.permutation(len(files))[:count])]


def _read_all(files: list[Path], size: int | None) -> Float[np.ndarray, "n h w c"]:
    first, tiles = None, []
    for file in files:
        tile = _tile(file, size)
        first = tile.shape[:2] if first is None else first
        if tile.shape[:2] != first:
            raise ValueError(
                f"load_folder: expected images of one size, but {files[0]} has {first[0]} x {first[1]} pixels and "
                f"{file} {tile.shape[0]} x {tile.shape[1]}. Pass size= to resize all."
            )
        tiles.append(tile)
    channels = max(tile.shape[2] for tile in tiles)
    images = np.empty((len(tiles), *tiles[0].shape[:2], channels), np.float32)
    for image, tile in zip(images, tiles, strict=True):  # a grey tile among coloured ones fills three channels
        np.divide(tile, np.float32(255), out=image)
    return images


def _tile(file: Path, size: int | None) -> UInt8[np.ndarray, "h w c"]:
    """One image as bytes, with one channel if it is grey and three if not."""
    image = _opaque(_decoded(file), file)
    if size is not None:
        image = image.resize((size, size), _require_pillow().Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _decoded(file: Path) -> Image:
    """The one image of a file, upright, with eight bits or fewer per channel; ValueError for others."""
    pillow = _require_pillow()
    from PIL.ImageOps import exif_transpose

    try:
        # By a handle: files that Pillow opens by name it may map into memory, where it scrambles turned TIFF files.
        with open(file, "rb") as handle, pillow.open(handle, formats=FORMATS) as image:
            frames, loss = getattr(image, "n_frames", 1), _loss(image, file)
            image.load()
            upright = image if image.format == "TIFF" else exif_transpose(image)  # of TIFF Pillow itself turns images
    except Exception as error:  # Pillow's readers raise whatever their parsing happens to raise
        raise ValueError(
            f"load_folder: cannot read {file} ({type(error).__name__}: {error}). {_likely_cause(error)}"
        ) from error
    if frames != 1:
        raise ValueError(f"load_folder: expected one image in {file}, got {frames} frames.")
    if loss:
        raise ValueError(
            f"load_folder: expected grey or colour of eight bits per channel, but {file} has {loss}. Convert it to bytes "
            "yourself, or keep its values as floats in [0, 1] in an npz file, which load_npz reads."
        )
    return upright


def _likely_cause(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"It is damaged, or of another format than {', '.join(FORMATS)}, whatever its name says."
    if isinstance(error, Image.DecompressionBombError):
        return "Shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS."
    return "It is damaged or truncated."


def _loss(image: Image, file: Path) -> str | None:
    """What eight unsigned bits would lose of a file, by its own header; Pillow's mode hides it."""
    bits, kinds = 8, {1}
    if image.format == "PNG":
        with open(file, "rb") as handle:
            header = handle.read(25)
        if header[12:16] != b"IHDR":
            raise ValueError("the first chunk is not IHDR")
        bits = header[24]
    elif image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        bits, kinds = max(tags.get(BITS_PER_SAMPLE, (1,))), {*tags.get(SAMPLE_FORMAT, (1,))}
        if any(
            value % 257 and value % 256 for value in tags.get(COLOR_MAP, ())
        ):  # neither of the two ways to widen bytes
            return "a palette of 16 bits"
    if bits > 8:
        return f"{bits}"
    return None if kinds == {1} else "signed numbers"


def _opaque(image: Image, file: Path) -> Image:
    """The image in mode L or RGB. ValueError where that would lose something."""
    if image.mode not in MODES:
        raise ValueError(
            f"load_folder: expected grey or colour, but {file} has Pillow's mode {image.mode!r}. Save it as grey or RGB."
        )
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        least = image.convert("RGBA").getchannel("A").getextrema()[0]
        if least != 255:
            raise ValueError(
                f"load_folder: expected opaque images, but {file} has pixels of opacity {least} of 255. Put it on a "
                "background first."
            )
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    colours = image.convert("RGB")
    return colours.getchannel(0) if image.mode in ("P", "PA") and _is_grey(colours) else colours


def _is_grey(image: Image) -> bool:
    pixels = np.asarray(image)
    return bool((pixels == pixels[..., :1]).all())
