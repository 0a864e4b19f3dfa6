"""The head's own frame, in which hair is styled: metres of the rest template, whatever the head's size, pose
and place; and what hair must stay off in it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from render.people.body import BodyModel, Skeleton
from render.people.mesh import subdivide, unit, vertex_normals
from render.people.parts import PART, region_weights
from render.person import Surface

NECK_Z = 0.55  # template height below which the skin is no longer refined, metres
CHEST_Z = 0.30  # lowest template height that hair may meet, metres
HEADWEAR = ("cap", "beanie", "hat", "headscarf")
"""Names of surfaces (class Apparel) that hair is worn under."""


@dataclass(frozen=True)
class HeadFrame:
    """A similarity between world and template: world = origin + scale * axes @ (local - middle)."""

    origin: Float64[np.ndarray, " 3"]
    middle: Float64[np.ndarray, " 3"]
    axes: Float64[np.ndarray, "3 3"]
    scale: float

    def local(self, points: Float64[np.ndarray, "*n 3"]) -> Float64[np.ndarray, "*n 3"]:
        """World points in the template's metres."""
        return np.asarray(self.turned(points - self.origin) / self.scale + self.middle)

    def turned(self, vectors: Float64[np.ndarray, "*n 3"]) -> Float64[np.ndarray, "*n 3"]:
        """World directions in the head's axes."""
        columns = [(vectors * self.axes[:, i]).sum(-1) for i in range(3)]
        return np.stack(columns, axis=-1)

    def world(self, points: Float64[np.ndarray, "*n 3"]) -> Float64[np.ndarray, "*n 3"]:
        """Inverse of `local`."""
        return np.asarray(self.origin + self.scale * self.returned(points - self.middle))

    def returned(self, vectors: Float64[np.ndarray, "*n 3"]) -> Float64[np.ndarray, "*n 3"]:
        """Inverse of `turned`."""
        columns = [(vectors * self.axes[i]).sum(-1) for i in range(3)]
        return np.stack(columns, axis=-1)


def head_frame(posed: Float64[np.ndarray, "v 3"], skeleton: Skeleton, model: BodyModel) -> HeadFrame:
    """The frame of a posed head: the head bone's rotation, and the size and place of the skull's vertices."""
    skull = (region_weights()["Face_Neck"] > 0.99) & (model.template[:, 2] > 0.70)
    skull[np.max(model.quads["body"]) + 1 :] = False
    here, there = posed[skull], model.template[skull]
    origin, middle = here.mean(0), there.mean(0)
    scale = float(np.sqrt(((here - origin) ** 2).sum() / ((there - middle) ** 2).sum()))
    return HeadFrame(origin, middle, skeleton.rotations[model.bones.index("head")], scale)


@dataclass(frozen=True)
class Solid:
    """What hair must stay off, as points with outward normals, in the head's frame."""

    points: Float64[np.ndarray, "n 3"]
    normals: Float64[np.ndarray, "n 3"]
    tree: cKDTree

    def gap(self, points: Float64[np.ndarray, "m 3"]) -> tuple[np.ndarray, Float64[np.ndarray, "m 3"]]:
        """Height above the nearest surface (negative inside) and that surface's normal."""
        _, nearest = self.tree.query(points)
        normal = self.normals[nearest]
        return ((points - self.points[nearest]) * normal).sum(1), normal


def hair_obstacles(
    posed: Float64[np.ndarray, "v 3"], clothes: tuple[Surface, ...], frame: HeadFrame, model: BodyModel
) -> Solid:
    """The posed skin from the chest upwards, refined on head and neck, and the clothes over it.

    The backs of the ears are left out: hair lies over ears or is cut around them.
    """
    faces = model.faces("body")
    height = model.template[faces, 2].min(1)
    columns = np.concatenate([posed, model.masks["ears"][:, None]], axis=1)
    fine, fine_faces = subdivide(columns, faces[height > NECK_Z])
    used = np.unique(fine_faces)
    normals = vertex_normals(np.ascontiguousarray(fine[:, :3]), fine_faces)[used]
    side = np.sign(frame.local(fine[used, :3])[:, 0])
    kept = (fine[used, 3] < 0.3) | (frame.turned(normals)[:, 0] * side > 0.3)
    low = np.unique(faces[(height > CHEST_Z) & (height <= NECK_Z)])
    points = [fine[used, :3][kept], posed[low]]
    outward = [normals[kept], vertex_normals(posed, faces)[low]]
    for cloth in clothes:
        if (cloth.part_ids == PART["Upper_Clothing"]).any() or cloth.name.startswith("scarf"):
            points.append(cloth.vertices)
            outward.append(cloth.normals)
    at = frame.local(np.concatenate(points))
    near = at[:, 2] > CHEST_Z
    return Solid(
        at[near], frame.turned(np.concatenate(outward))[near], cKDTree(at[near], balanced_tree=False)
    )


def headwear(clothes: tuple[Surface, ...], frame: HeadFrame) -> Solid | None:
    """The hats in `clothes`, or None. A headscarf hides all hair: see `covers_all`."""
    worn = [c for c in clothes if c.name.startswith(HEADWEAR)]
    if not worn:
        return None
    points = frame.local(np.concatenate([c.vertices for c in worn]))
    normals = unit(frame.turned(np.concatenate([c.normals for c in worn])))
    return Solid(points, normals, cKDTree(points, balanced_tree=False))


def covers_all(clothes: tuple[Surface, ...]) -> bool:
    """Whether a headscarf is worn."""
    return any(c.name.startswith("headscarf") for c in clothes)
