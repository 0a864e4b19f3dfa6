"""Skin seen through clothes, counted with rays: the share that has no business to be seen."""

import numpy as np
from jaxtyping import Bool, Float64

from render.person import Person

DIRECTIONS = 8  # around the vertical, every second one from 25 degrees above
SPACING = 0.006  # metres between rays
INSIDE = 0.02  # metres that skin has to lie inside a cut before seeing it is a fault: openings show some
BEHIND = 0.05  # metres behind such skin in which the outside of cloth says that the skin is through it
CLOTH = frozenset({"Upper_Clothing", "Lower_Clothing"})


def skin_through(person: Person) -> float:
    """Of the pixels that show a garment or skin through one, the share that shows skin.

    Skin is through a garment when it lies well inside the cut of what is worn (`covered`, metres, an
    attribute of the body's surface) and the ray that meets it meets the outside of cloth right behind it:
    legs seen through the opening of a skirt are not. 0 for who wears nothing.
    """
    import trimesh

    surfaces = [surface for surface in person.surfaces if not surface.material.clear]
    starts = np.cumsum([0, *(len(s.vertices) for s in surfaces)])
    vertices = np.concatenate([s.vertices for s in surfaces])
    faces = np.concatenate([s.faces + start for s, start in zip(surfaces, starts, strict=False)])
    garment = np.concatenate([np.isin(s.part_ids, _cloth_ids(person)) for s in surfaces])
    buried = np.concatenate([_buried(s.attributes.get("covered"), s.faces) for s in surfaces])
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    cloth = skin = 0
    for turn in range(DIRECTIONS):
        origins, ahead = _rays(vertices, turn)
        at, _, first = mesh.ray.intersects_location(origins, ahead, multiple_hits=False)
        cloth += int(garment[first].sum())
        at = at[buried[first]]
        if not len(at):
            continue
        along = ahead[: len(at)]
        behind, ray, second = mesh.ray.intersects_location(at + 1e-5 * along, along, multiple_hits=False)
        near = ((behind - at[ray]) * along[ray]).sum(1) < BEHIND
        outside = (mesh.face_normals[second] * along[ray]).sum(1) < 0
        skin += int((near & outside & garment[second]).sum())
    return skin / (cloth + skin) if cloth else 0.0


def _cloth_ids(person: Person) -> list[int]:
    from annotation.parts import part_vocabulary

    names = part_vocabulary(person.part_classes).names
    return [names.index(name) for name in sorted(CLOTH)]


def _buried(covered: Float64[np.ndarray, " v"] | None, faces: np.ndarray) -> Bool[np.ndarray, " f"]:
    if covered is None:
        return np.zeros(len(faces), bool)
    return np.asarray(covered[faces].min(axis=1) > INSIDE)


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
