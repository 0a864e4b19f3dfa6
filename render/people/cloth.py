"""Cloth shells: pieces of MakeHuman's clothing helpers, cut by scalar fields of the template, posed and
kept off the body.

A `Shell` carries its template coordinates and bone weights through cutting and subdivision, so that one cut
means the
same place on every body, and so that an inner layer knows which of its parts an outer one hides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64, Int32
from scipy.spatial import cKDTree

from render.people.body import BodyModel, Shape, Skeleton, body_model
from render.people.mesh import (
    boundary_edges,
    clip,
    compact,
    scatter_add,
    smooth,
    snap,
    subdivide,
    unit,
    vertex_normals,
)

Level = Float64[np.ndarray, " v"]
Solid = tuple[Float64[np.ndarray, "_ 3"], Float64[np.ndarray, "_ 3"]]
"""A surface to stay off: points and their outward normals."""


@dataclass(frozen=True)
class Shell:
    """A piece of cloth. template, bare, rest: where it lies on the template, on this person's unposed skin,
    and as tailored; posed: in the world.
    """

    faces: Int32[np.ndarray, "f 3"]
    template: Float64[np.ndarray, "v 3"]
    arm: Float64[np.ndarray, " v"]
    weights: Float64[np.ndarray, "v b"]
    bare: Float64[np.ndarray, "v 3"]
    rest: Float64[np.ndarray, "v 3"]
    posed: Float64[np.ndarray, "v 3"]
    edge: Float64[np.ndarray, " v"]  # metres from the nearest cut, measured on the template

    def normals(self) -> Float64[np.ndarray, "v 3"]:
        """Unit normals of the posed shell."""
        return vertex_normals(self.posed, self.faces)


@lru_cache(maxsize=1)
def arm_weight() -> Float64[np.ndarray, " v"]:
    """How much of each template vertex moves with an arm beyond the shoulder, 0..1."""
    model = body_model()
    arms = np.array(
        [b.startswith(("upperarm", "lowerarm", "wrist", "finger", "metacarpal")) for b in model.bones]
    )
    return np.asarray(np.where(arms[model.weight_bones], model.weights, 0.0).sum(1))


@lru_cache(maxsize=4)
def dense_weights(first: int, last: int) -> tuple[Float64[np.ndarray, "n b"], Int32[np.ndarray, " b"]]:
    """Skin weights of template vertices first..last-1 as a table over the bones that occur there."""
    model = body_model()
    weights, index = model.weights[first:last], model.weight_bones[first:last]
    bones = np.unique(index[weights > 1e-6]).astype(np.int32)
    return np.stack([np.where(index == b, weights, 0.0).sum(1) for b in bones], axis=1), bones


def helper_shell(group: str, shape: Shape, refine: int) -> tuple[Shell, Int32[np.ndarray, " b"]]:
    """The shell of a helper group on this body, each triangle split 4**refine times; and the bones of its
    weights.
    """
    model = body_model()
    faces = model.faces(group)
    first, last = int(faces.min()), int(faces.max()) + 1
    weights, bones = dense_weights(first, last)
    arm = arm_weight()[first:last, None]
    columns = np.concatenate([model.template[first:last], shape.vertices[first:last], arm, weights], axis=1)
    faces = (faces - first).astype(np.int32)
    for _ in range(refine):
        columns, faces = subdivide(columns, faces)
    return _unpack(columns, faces, np.full(len(columns), 1.0)), bones


def _unpack(columns: Float64[np.ndarray, "v c"], faces: Int32[np.ndarray, "f 3"], edge: Level) -> Shell:
    template, rest, arm, weights = columns[:, :3], columns[:, 3:6], columns[:, 6], columns[:, 7:]
    return Shell(faces, template, arm, weights, rest, rest.copy(), rest.copy(), edge)


def cut_shell(shell: Shell, level: Level) -> Shell:
    """The part where `level` (metres on the template, roughly) is positive; `edge` becomes the distance to
    the cut.
    """
    columns = np.concatenate(
        [shell.template, shell.rest, shell.arm[:, None], shell.weights, level[:, None]], axis=1
    )
    columns, level = snap(columns, shell.faces, level)
    columns[:, -1] = level
    columns, faces = clip(columns, shell.faces, level)
    return _unpack(columns[:, :-1], faces, np.maximum(columns[:, -1], 0.0))


def drop_hidden(shell: Shell, hidden: Bool[np.ndarray, " v"]) -> Shell:
    """The shell without the triangles whose corners are all hidden."""
    faces = shell.faces[~hidden[shell.faces].all(1)]
    used, faces = compact(faces, len(shell.template))
    return Shell(
        faces,
        shell.template[used],
        shell.arm[used],
        shell.weights[used],
        shell.bare[used],
        shell.rest[used],
        shell.posed[used],
        shell.edge[used],
    )


def pose_shell(shell: Shell, bones: Int32[np.ndarray, " b"], skeleton: Skeleton) -> Shell:
    """The shell skinned to the posed skeleton."""
    out = np.zeros_like(shell.rest)
    for column, bone in enumerate(bones):
        near = np.flatnonzero(shell.weights[:, column] > 1e-7)
        moved = ((shell.rest[near] - skeleton.rest_heads[bone])[:, None, :] * skeleton.rotations[bone]).sum(2)
        out[near] += shell.weights[near, column, None] * (moved + skeleton.heads[bone])
    total = shell.weights.sum(1, keepdims=True)
    return replace(shell, posed=out / total)


def push_out(
    points: Float64[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    under: Sequence[Solid],
    margin: float,
    rounds: int = 3,
) -> Float64[np.ndarray, "v 3"]:
    """Moves points until they lie at least `margin` outside the surfaces under them, given as (points,
    normals).
    """
    solid = np.concatenate([p for p, _ in under])
    outward = np.concatenate([n for _, n in under])
    tree = cKDTree(solid)
    for turn in range(rounds):
        _, nearest = tree.query(points, k=4)
        gap = ((points[:, None] - solid[nearest]) * outward[nearest]).sum(2)
        worst = np.argmin(gap, axis=1)
        rows = np.arange(len(points))
        lack = np.clip(margin - gap[rows, worst], 0.0, 0.06)
        move = lack[:, None] * outward[nearest[rows, worst]]
        if turn < rounds - 1:
            move = np.maximum(1.0, 1.0) * smooth(move, faces, 2, 0.5)
        points = points + move
    return points


def even_edges(
    points: Float64[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], steps: int
) -> Float64[np.ndarray, "v 3"]:
    """Smooths open edges along themselves: draping leaves hems less even than a needle does."""
    edges = boundary_edges(faces)
    if not len(edges):
        return points
    before, after = edges[:, 0], edges[:, 1]
    degree = np.bincount(edges.reshape(-1), minlength=len(points))
    along = (degree == 2)[:, None]
    source, target = np.concatenate([before, after]), np.concatenate([after, before])
    for _ in range(steps):
        mean = scatter_add(source, points[target], len(points)) / np.maximum(degree, 1)[:, None]
        points = np.where(along, 0.5 * points + 0.5 * mean, points)
    return points


def waves(
    where: Float64[np.ndarray, "v 3"], seed: int, lengths: Sequence[float]
) -> Float64[np.ndarray, " v"]:
    """A smooth pseudo-random field in about -1..1: warped plane waves of the given lengths, in metres."""
    rng = np.random.default_rng(seed)
    total = np.zeros(len(where))
    for length in lengths:
        direction = unit(rng.normal(size=(2, 3)))
        phase = rng.uniform(0, 2 * np.pi, 2)
        warp = np.sin((where * direction[1]).sum(1) * (2.1 / length) + phase[1])
        total += np.sin((where * direction[0]).sum(1) * (2 * np.pi / length) + 2.0 * warp + phase[0])
    return total / len(lengths)


def with_hem(
    vertices: Float64[np.ndarray, "v 3"],
    normals: Float64[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    thickness: float,
    depth: float,
) -> tuple[Float64[np.ndarray, "w 3"], Int32[np.ndarray, "g 3"], Int32[np.ndarray, " w"]]:
    """Folds every open edge inwards: over the edge (`thickness`) and back up inside (`depth`).

    Returns vertices, faces and, per vertex, the vertex it was made from.
    """
    edges = boundary_edges(faces)
    if not len(edges):
        return vertices, faces, np.arange(len(vertices), dtype=np.int32)
    rim = np.unique(edges)
    slot = np.full(len(vertices), -1)
    slot[rim] = np.arange(len(rim))
    inward = _away_from_edge(vertices, faces, rim, slot)
    lower = vertices[rim] - thickness * normals[rim] - 0.15 * thickness * inward
    upper = lower + depth * inward - 0.3 * thickness * normals[rim]
    count, size = len(vertices), len(rim)
    rows = [edges, count + slot[edges], count + size + slot[edges], count + 2 * size + slot[edges]]
    strips = []
    for outer, inner in ((rows[1], rows[2]), (rows[2], rows[3])):
        strips += [
            np.stack([outer[:, 1], outer[:, 0], inner[:, 0]], axis=1),
            np.stack([outer[:, 1], inner[:, 0], inner[:, 1]], axis=1),
        ]
    made = np.concatenate([vertices, vertices[rim], lower, upper])
    return (
        made,
        np.concatenate([faces, *strips]).astype(np.int32),
        np.concatenate([np.arange(count), rim, rim, rim]).astype(np.int32),
    )


def _away_from_edge(
    vertices: Float64[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    rim: Int32[np.ndarray, " r"],
    slot: np.ndarray,
) -> Float64[np.ndarray, "r 3"]:
    """Per rim vertex, the direction into the cloth: towards the centres of the triangles around it."""
    centre = vertices[faces].mean(1)
    total = np.zeros((len(rim), 3))
    for corner in range(3):
        at = slot[faces[:, corner]]
        on = at >= 0
        np.add.at(total, at[on], centre[on] - vertices[faces[on, corner]])
    return unit(total)


def body_solid(model: BodyModel, posed: Float64[np.ndarray, "v 3"]) -> Solid:
    """(points, outward normals) of the posed skin that cloth must stay off."""
    faces = model.faces("body")
    used, local = compact(faces, len(posed))
    points = posed[used]
    return points, vertex_normals(points, local)
