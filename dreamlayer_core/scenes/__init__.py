"""Layered scenes with exact ground truth, made from a seed."""

from .backgrounds import GROUNDS, SKIES, WALLS
from .objects import COLORS, KINDS, MATERIALS
from .scene import Scene, SceneObject, make_scene, move_object

__all__ = ["COLORS", "GROUNDS", "KINDS", "MATERIALS", "SKIES", "WALLS", "Scene", "SceneObject", "make_scene", "move_object"]
