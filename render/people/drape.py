"""Draping: cloth pulled by gravity, held together by its edges and kept off what is beneath it.

Position-based dynamics (Mueller et al. 2007) with Jacobi steps: edges keep their tailored lengths, so cloth
that has room to spare folds where limbs bend and hangs from where it is held. All sums run in a fixed order
(sparse products of scipy go row by row).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from render.people.mesh import neighbours, smooth, vertex_normals

GRAVITY = 0.0007  # metres per step, downwards
STEPS, INNER = 18, 3
DAMPING = 0.75  # of the movement, carried from step to step
REACH = 0.09  # metres; solids farther away do not push
NEAREST, SAME_WAY = 6, -0.2  # solid points looked at; least cosine between the cloth's normal and theirs
CLEAR, THICK, BESIDE = (
    0.002,
    0.05,
    0.012,
)  # metres kept from what presses on cloth; deeper in it is a mistake; how far aside it presses
Solid = tuple[Float64[np.ndarray, "_ 3"], Float64[np.ndarray, "_ 3"]]
"""A surface to stay off: points and their outward normals."""


@dataclass(frozen=True)
class Feel:
    """How a cloth behaves. stretch: lengths against the tailored rest shape; stiffness: 0 silk .. 1 board."""

    margin: float  # metres kept from what lies beneath
    stretch: float
    stiffness: float


@dataclass(frozen=True)
class _Net:
    """Edges of a mesh with the sparse sums over them: `pull` adds per-edge vectors to their two ends."""

    first: Int32[np.ndarray, " e"]
    second: Int32[np.ndarray, " e"]
    pull: csr_array
    mean: csr_array


def _net(faces: Int32[np.ndarray, "f 3"], count: int) -> _Net:
    source, target = neighbours(faces, count)
    degree = np.maximum(np.bincount(source, minlength=count), 1).astype(np.float64)
    once = source < target
    first, second = source[once], target[once]
    edge = np.arange(len(first))
    rows, columns = np.concatenate([first, second]), np.concatenate([edge, edge])
    sign = np.concatenate([np.full(len(edge), 1.0), np.full(len(edge), -1.0)]) / degree[rows]
    pull = csr_array((sign, (rows, columns)), shape=(count, len(edge)))
    mean = csr_array((1.0 / degree[source], (source, target)), shape=(count, count))
    return _Net(first, second, pull, mean)


def drape(
    start: Float64[np.ndarray, "v 3"],
    tailored: Float64[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    hold: Float64[np.ndarray, " v"],
    under: Sequence[Solid],
    feel: Feel,
) -> Float64[np.ndarray, "v 3"]:
    """Where cloth comes to rest. start: skinned to the pose; tailored: its shape when cut, which gives edges
    their lengths. hold: 0 free .. 1 stays where it starts (waistbands, collars).
    """
    if not len(start):
        return start
    net = _net(faces, len(start))
    rest = _lengths(tailored, net) * feel.stretch
    solid, outward = np.concatenate([p for p, _ in under]), np.concatenate([n for _, n in under])
    tree = cKDTree(solid)
    free, held = (1.0 - hold)[:, None], hold[:, None]
    points, before = start, start
    contacts = _contacts(tree, outward, points, faces)
    for step in range(STEPS):
        moved = np.clip(points - before, -0.012, 0.012) * (DAMPING * free)
        before = points
        points = points + moved + free * np.array([0.0, 0.0, -GRAVITY])
        for _ in range(INNER):
            points = points + free * _tension(points, rest, net)
        points = points + held * (start - points)
        if step and step % 3 == 0:
            contacts = _contacts(tree, outward, points, faces)
        push = _push(points, solid, outward, contacts, feel.margin)
        points = points + push
        stuck = (push * push).sum(1) > 0
        before = np.where(stuck[:, None], points - 0.2 * (points - before - push), before)
    points = _relaxed(points, net, feel.stiffness)
    for _ in range(2):
        contacts = _contacts(tree, outward, points, faces)
        points = points + _push(points, solid, outward, contacts, feel.margin * 0.8)
    return points


def pressed(
    points: Float64[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    where: Bool[np.ndarray, " v"],
    limbs: Float64[np.ndarray, "n 3"],
) -> Float64[np.ndarray, "v 3"]:
    """Cloth pressed in by what lies on it from outside, as hands do: below all points of `limbs` beside it.

    where: cloth that may be; a sleeve is not pressed in by its own arm.
    """
    if not where.any():
        return points
    normals = vertex_normals(points, faces)
    distance, near = cKDTree(limbs).query(points, k=NEAREST, distance_upper_bound=THICK)
    known = np.isfinite(distance) & where[:, None]
    step = limbs[np.where(known, near, 0)] - points[:, None]
    height = (step * normals[:, None]).sum(2)
    beside = known & ((step * step).sum(2) - height * height < BESIDE * BESIDE)
    deep = np.where(beside, np.clip(CLEAR - height, 0.0, None), 0.0).max(1)
    dent = np.maximum(deep, smooth(deep[:, None], faces, 2)[:, 0])
    return np.asarray(points - dent[:, None] * normals)


def _lengths(points: Float64[np.ndarray, "v 3"], net: _Net) -> Float64[np.ndarray, " e"]:
    step = points[net.second] - points[net.first]
    return np.asarray(np.sqrt((step * step).sum(1)))


def _tension(
    points: Float64[np.ndarray, "v 3"], rest: Float64[np.ndarray, " e"], net: _Net
) -> Float64[np.ndarray, "v 3"]:
    """Moves ends of edges towards (or away from) each other; compression resists half as much as stretch."""
    step = points[net.second] - points[net.first]
    length = np.sqrt((step * step).sum(1)) + 1e-9
    strain = (length - rest) / length
    amount = np.where(strain > 0, 0.75, 0.4) * strain
    return np.asarray(net.pull @ (amount[:, None] * step))


Contacts = tuple[Int64[np.ndarray, " v"], Int64[np.ndarray, " v"]]
"""Per cloth point, what it lies on and what presses on it: solid points, -1 for none."""


def _contacts(
    tree: cKDTree,
    outward: Float64[np.ndarray, "s 3"],
    points: Float64[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
) -> Contacts:
    """The nearest solid points that look the way the cloth does there, and those that look at it.

    Between two thighs, or an arm and the trunk, the nearest point alone may belong to the other limb, and
    would push the cloth to the wrong side.
    """
    normals = vertex_normals(points, faces)
    distance, near = tree.query(points, k=NEAREST, distance_upper_bound=REACH)
    known = np.isfinite(distance)
    near = np.where(known, near, 0)
    agrees = (outward[near] * normals[:, None]).sum(2) > SAME_WAY
    rows = np.arange(len(points))
    on, against = (
        np.where(which.any(1), near[rows, np.argmax(which, axis=1)], -1).astype(np.int64)
        for which in (known & agrees, known & ~agrees)
    )
    return on, against


def _push(
    points: Float64[np.ndarray, "v 3"],
    solid: Float64[np.ndarray, "s 3"],
    outward: Float64[np.ndarray, "s 3"],
    contacts: Contacts,
    margin: float,
) -> Float64[np.ndarray, "v 3"]:
    """What brings points to `margin` above the tangent planes of what they lie on, and out of what presses on
    them.
    """
    on, against = contacts
    gap = ((points - solid[on]) * outward[on]).sum(1)
    lack = np.where(on >= 0, np.clip(margin - gap, 0.0, 0.03), 0.0)
    depth = -((points - solid[against]) * outward[against]).sum(1)
    pressed = (against >= 0) & (depth > -CLEAR) & (depth < THICK)
    give = np.where(pressed, np.clip(depth + CLEAR, 0.0, 0.03), 0.0)
    return np.asarray(lack[:, None] * outward[on] + give[:, None] * outward[against])


def _relaxed(points: Float64[np.ndarray, "v 3"], net: _Net, stiffness: float) -> Float64[np.ndarray, "v 3"]:
    """Smooths what is shorter than the cloth can fold; shrinkage is undone (Taubin 1995)."""
    for _ in range(round(1 + 5 * stiffness)):
        for weight in (0.5, -0.52):
            points = points + weight * (net.mean @ points - points)
    return points
