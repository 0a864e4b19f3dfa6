"""Skin seen through clothes, counted with rays: the share that has no business to be seen."""

import numpy as np
from jaxtyping import Bool, Float64

from annotation.parts import part_vocabulary
from render.person import Person, Surface

DIRECTIONS = 8  # around the vertical, every second one from 25 degrees above
SPACING = 0.006  # metres between rays
BEHIND = 0.05  # metres behind skin in which the outside of cloth says that the skin is through it
LIMBS = ("Upper_Arm", "Lower_Arm", "Upper_Leg", "Lower_Leg")
CLOTH = frozenset({"Upper_Clothing", "Lower_Clothing"})
SKIN = frozenset({"Torso", *(f"{s}_{limb}" for s in ("Left", "Right") for limb in LIMBS)})


def skin_through(person: Person) -> float:
    """Of the pixels that show a garment or skin through one, the share that shows skin.

    Skin is through a garment when the ray that meets it meets the outside of cloth next, right behind it.
    Skin that cloth lies on is followed by the inside of that cloth, bare limbs by their other side. Hands,
    face and feet may lie on or in cloth and do not count; nor, where the body says how deep it lies inside
    what is worn (`covered`, metres), does skin outside all cuts, such as a belly over a waistband.
    """
    import trimesh

    surfaces = [surface for surface in person.surfaces if not surface.material.clear]
    starts = np.cumsum([0, *(len(s.vertices) for s in surfaces)])
    vertices = np.concatenate([s.vertices for s in surfaces])
    faces = np.concatenate([s.faces + start for s, start in zip(surfaces, starts, strict=False)])
    garment = np.concatenate([np.isin(s.part_ids, _ids(CLOTH, person.part_classes)) for s in surfaces])
    meant = np.concatenate([_meant_to_be_covered(s, person.part_classes) for s in surfaces])
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    cloth = skin = 0
    for turn in range(DIRECTIONS):
        origins, ahead = _rays(vertices, turn)
        at, _, first = mesh.ray.intersects_location(origins, ahead, multiple_hits=False)
        cloth += int(garment[first].sum())
        at = at[meant[first]]
        if not len(at):
            continue
        along = ahead[: len(at)]
        behind, ray, second = mesh.ray.intersects_location(at + 1e-5 * along, along, multiple_hits=False)
        near = ((behind - at[ray]) * along[ray]).sum(1) < BEHIND
        outside = (mesh.face_normals[second] * along[ray]).sum(1) < 0
        skin += int((near & outside & garment[second]).sum())
    return skin / (cloth + skin) if cloth else 0.0


def _ids(names: frozenset[str], classes: int) -> list[int]:
    vocabulary = part_vocabulary(classes).names
    return [vocabulary.index(name) for name in sorted(names)]


def _meant_to_be_covered(surface: Surface, classes: int) -> Bool[np.ndarray, " f"]:
    """Which triangles are skin that clothes over it should hide."""
    if surface.name != "body":
        return np.zeros(len(surface.faces), bool)
    skin = np.isin(surface.part_ids, _ids(SKIN, classes))
    depth = surface.attributes.get("covered")
    return np.asarray(skin if depth is None else skin & (depth[surface.faces].min(axis=1) > 0))


def _rays(
    vertices: Float64[np.ndarray, "v 3"], turn: int
) -> tuple[Float64[np.ndarray, "n 3"], Float64[np.ndarray, "n 3"]]:
    """Parallel rays at everything, from one of the directions."""
    azimuth, elevation = 2 * np.pi * turn / DIRECTIONS, np.radians(25.0 if turn % 2 else 0.0)
    level = np.cos(elevation)
    ahead = np.array([np.sin(azimuth) * level, np.cos(azimuth) * level, -np.sin(elevation)])
    side = np.array([np.cos(azimuth), -np.sin(azimuth), 0.0])
    up = np.cross(side, ahead)
    u, v = (vertices * side).sum(1), (vertices * up).sum(1)
    grid = np.stack(
        np.meshgrid(np.arange(u.min(), u.max(), SPACING), np.arange(v.min(), v.max(), SPACING)), axis=-1
    ).reshape(-1, 2)
    origins = grid[:, :1] * side + grid[:, 1:] * up + (((vertices * ahead).sum(1)).min() - 1.0) * ahead
    return origins, np.broadcast_to(ahead, origins.shape).copy()
