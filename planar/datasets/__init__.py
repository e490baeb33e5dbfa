"""Images with a class each: readers of the usual files, seeded splits and rotations."""

from planar.datasets.digits import load_digits
from planar.datasets.folder import load_folder
from planar.datasets.idx import load_idx
from planar.datasets.image_data import ImageData
from planar.datasets.npz import load_npz
from planar.datasets.source import load_images, load_parts, shrink
from planar.datasets.split import stratified_split
from planar.datasets.turns import quarter_turns

__all__ = [
    "ImageData",
    "load_digits",
    "load_folder",
    "load_idx",
    "load_images",
    "load_npz",
    "load_parts",
    "quarter_turns",
    "shrink",
    "stratified_split",
]
