"""Guide strands: a few hundred hairs that grow from the scalp step by step, combed, bent by gravity, and
pushed off the head, the face, the shoulders and the clothes. Head's own frame, metres.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32

from render.people.hair.frame import HeadFrame, Solid
from render.people.hair.styles import Style, combed, fringe, strand_lengths, tie_of, top
from render.people.mesh import face_normals, unit
from render.people.spec import HairSpec

STEPS = 22
FACE = (np.array([0.0, -0.135, 0.688]), np.array([0.074, 0.075, 0.090]))
"""Centre and radii of a bubble before the face (rest template) that hair other than a fringe stays out of."""

Patch = tuple[Float64[np.ndarray, "n c"], Int32[np.ndarray, "m 3"]]


@dataclass(frozen=True)
class Roots:
    """Where strands start: points in the head's frame and on the template, normals, and metres inside the
    edge of the hair.
    """

    at: Float64[np.ndarray, "n 3"]
    template: Float64[np.ndarray, "n 3"]
    normal: Float64[np.ndarray, "n 3"]
    level: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.at)


def sample_roots(patch: Patch, count: int, soft: float, rng: np.random.Generator) -> Roots:
    """`count` points spread by area, thinner within `soft` metres of the edge.

    patch: columns are point, template point, normal (head's frame), level.
    """
    columns, faces = patch
    density = np.clip(columns[faces, 9].mean(1) / soft, 0.12, 1.0)
    area = np.sqrt((face_normals(np.ascontiguousarray(columns[:, :3]), faces) ** 2).sum(1)) * density
    edges = np.cumsum(area) / area.sum()
    pick = np.minimum(np.searchsorted(edges, (np.arange(count) + rng.random(count)) / count), len(faces) - 1)
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    weight = np.stack([1 - u, u * (1 - v), u * v], axis=1)
    values = (columns[faces[pick]] * weight[..., None]).sum(1)
    return Roots(values[:, :3], values[:, 3:6], unit(values[:, 6:9]), np.maximum(values[:, 9], 0.0))


def grow(
    roots: Roots, hair: HairSpec, style: Style, solid: Solid, frame: HeadFrame, rng: np.random.Generator
) -> Float64[np.ndarray, "n s 3"]:
    """Lines of STEPS + 1 points, evenly spaced along each guide."""
    if style.comb == "tied":
        return _gathered(roots, hair, style, solid, rng)
    count = len(roots)
    comb = combed(hair, style, roots.template, rng)
    comb = unit(comb - roots.normal * (comb * roots.normal).sum(1, keepdims=True))
    quiff = (1 + 1.5 * top(roots.template) * (style.fade < 1)) * (0.5 + hair.volume)
    direction = unit(comb + (style.lift * quiff)[:, None] * roots.normal)
    length = strand_lengths(hair, style, roots.template, frame.scale) * rng.uniform(0.88, 1.0, count)
    step = length / STEPS
    down = frame.turned(np.array([0.0, 0.0, -1.0]))
    weight = 1 - np.exp(-step * style.weight)[:, None]
    rank = np.clip((roots.template[:, 2] - 0.66) / 0.18, 0, 1)
    layer = 0.0015 + style.layer * (0.35 + 0.9 * hair.volume) * (0.25 + 0.75 * rank) * rng.uniform(
        0.6, 1.0, count
    )
    free = fringe(roots.template) * (hair.fringe > 0.05) > 0.5
    points, at, near = [roots.at], roots.at, roots.normal
    for i in range(STEPS):
        reach = (i + 1) * step
        combing = (0.5 * np.exp(-reach / 0.05))[:, None] * (style.comb != "out")
        direction = unit(direction + weight * (down - direction) + combing * weight * comb)
        rising = np.maximum((direction * near).sum(1, keepdims=True), 0.0)
        direction = unit(direction - style.cling * rising * near)
        moved = at + direction * step[:, None]
        moved, near = _kept_off(moved, solid, layer * np.minimum(1.0, reach / 0.03), style.cling)
        moved = np.where(free[:, None], moved, _out_of_face(moved))
        direction = unit(0.35 * direction + 0.65 * unit(moved - at))
        at = moved
        points.append(at)
    return np.stack(points, axis=1)


def _kept_off(
    points: Float64[np.ndarray, "n 3"], solid: Solid, layer: Float64[np.ndarray, " n"], cling: float
) -> tuple[Float64[np.ndarray, "n 3"], Float64[np.ndarray, "n 3"]]:
    """Points moved out to their layer above the nearest surface, and, clinging, some way back to it."""
    gap, normal = solid.gap(points)
    back = np.where(gap < 0.03, 0.25 * cling * np.minimum(layer - gap, 0.0), 0.0)
    return points + (np.clip(layer - gap, 0, 0.04) + back)[:, None] * normal, normal


def _out_of_face(points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
    """Points moved to the side, out of the bubble before the face."""
    centre, radii = FACE
    inside = (points - centre) / radii
    rest = np.clip(1 - inside[:, 1] ** 2 - inside[:, 2] ** 2, 0, 1)
    wide = np.sqrt(rest) * radii[0]
    side = np.where(points[:, 0] >= 0, 1.0, -1.0)
    lack = np.clip(wide - np.abs(points[:, 0]), 0, 0.012) * (points[:, 1] < centre[1] + radii[1])
    moved = points.copy()
    moved[:, 0] += side * lack
    moved[:, 1] += 0.5 * lack
    return moved


def _gathered(
    roots: Roots, hair: HairSpec, style: Style, solid: Solid, rng: np.random.Generator
) -> Float64[np.ndarray, "n s 3"]:
    """Guides drawn over the head to the tie, flat at first, in a bundle at the end."""
    goal = tie_of(roots.template, hair) + rng.normal(size=(len(roots), 3)) * 0.003
    at, near, points = roots.at, roots.normal, [roots.at]
    layer = (0.002 + style.layer * hair.volume) * rng.uniform(0.5, 1.0, len(roots))
    for i in range(STEPS):
        left = goal - at
        far = np.sqrt((left**2).sum(1, keepdims=True))
        flat = unit(left - 0.9 * near * np.minimum((left * near).sum(1, keepdims=True), 0.0))
        moved = at + flat * far * min(1.0, 1.12 / (STEPS - i))
        at, near = _kept_off(moved, solid, layer * min(1.0, (i + 1) / 4), 0.6 * (i < STEPS - 4))
        points.append(at)
    return np.stack(points, axis=1)


def trailing(
    start: Float64[np.ndarray, "n 3"],
    direction: Float64[np.ndarray, "n 3"],
    length: float,
    weight: float,
    solid: Solid,
    down: Float64[np.ndarray, " 3"],
    margin: float,
) -> Float64[np.ndarray, "n s 3"]:
    """Lines that leave a tie and fall: tails and braids."""
    points, at = [start], start
    bend = 1 - np.exp(-weight * length / STEPS)
    for _ in range(STEPS):
        direction = unit(direction + bend * (down - direction))
        moved, _ = _kept_off(at + direction * (length / STEPS), solid, np.full(len(at), margin), 0.0)
        direction = unit(0.3 * direction + 0.7 * unit(moved - at))
        at = moved
        points.append(at)
    return np.stack(points, axis=1)
