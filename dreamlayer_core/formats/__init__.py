"""Saved layer stacks: a folder with stack.json and pictures, PSD and OpenRaster.

The door of the package: `save_stack` and `save_file` write, `load_stack` reads, `flatten_saved` reads and merges.
"""

from .document import FORMAT_VERSION, StackDocument, read_document
from .folder import FORMATS, flatten_saved, load_document, load_stack, load_trajectory, save_file, save_stack
from .limits import Limits
from .overview import draw_overview
from .png import image_from_tensor, tensor_from_image, write_png
from .trajectory import StoredTrajectory, TrajectorySettings

__all__ = [
    "FORMATS",
    "FORMAT_VERSION",
    "Limits",
    "StackDocument",
    "StoredTrajectory",
    "TrajectorySettings",
    "draw_overview",
    "flatten_saved",
    "image_from_tensor",
    "load_document",
    "load_stack",
    "load_trajectory",
    "read_document",
    "save_file",
    "save_stack",
    "tensor_from_image",
    "write_png",
]
