"""Procedural people: a frozen `PersonSpec` in, plain meshes with labels and 3-D keypoints out. No bpy."""

from render.people.build import build_person
from render.people.library import NOTHING, Library, Shares, library_digest, open_library
from render.people.sampling import sample_person
from render.people.spec import PersonSpec

__all__ = [
    "NOTHING",
    "Library",
    "PersonSpec",
    "Shares",
    "build_person",
    "library_digest",
    "open_library",
    "sample_person",
]
