"""Brows and lashes as fine hairs on the posed skin, so that they follow expressions."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int32
from scipy.spatial import cKDTree

from render.people.body import BodyModel, Skeleton, body_model
from render.people.hair.frame import HeadFrame, head_frame
from render.people.hair.strands import Bundle, join, ribbons
from render.people.mesh import unit, vertex_normals
from render.people.spec import HairSpec
from render.person import Surface

BROW = ((0.0135, 0.7455), (0.024, 0.7500), (0.035, 0.7525), (0.047, 0.7510), (0.0565, 0.7455))
"""Left eyebrow from nose to temple: (x, z) on the rest template's face, metres."""
THICK = (0.0033, 0.0034, 0.0029, 0.0021, 0.0008)
"""Half its height there, metres."""
HAIRS, SEGMENTS = 280, 3


@dataclass(frozen=True)
class Lash:
    """Lashes of a lid. reach: length as a share of the helper's; curl: upwards, as a share of the length."""

    hairs: int
    reach: float
    curl: float


LASHES = {"1": Lash(75, 0.65, -0.05), "2": Lash(130, 1.3, 0.25)}
"""By the helpers' numbers: the lower and the upper lid."""


def build_brows(
    hair: HairSpec, posed: Float64[np.ndarray, "v 3"], skeleton: Skeleton, model: BodyModel
) -> tuple[Surface, Surface]:
    """The surfaces `brows` and `lashes`, both parts of the face."""
    frame = head_frame(posed, skeleton, model)
    rng = np.random.default_rng(hair.seed + 17)
    own = replace(hair, tips=0.0, colour=_undyed(hair.colour))
    brows = join([_brow(side, hair, posed, frame, model, rng) for side in (1.0, -1.0)], SEGMENTS)
    lashes = join([_lashes(s, lid, posed, frame, model, rng) for s in "lr" for lid in LASHES], SEGMENTS)
    dark = replace(own, colour=_darker(hair.colour), grey=0.0)
    return (
        ribbons(brows, frame, own, "brows", "Face_Neck", rng),
        ribbons(lashes, frame, dark, "lashes", "Face_Neck", rng),
    )


def _undyed(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    """Brows keep their brown under hair dyed in a colour that does not grow."""
    red, green, blue = colour
    return colour if red >= green >= 0.8 * blue else (0.045, 0.028, 0.018)


def _darker(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    """Lashes are darker than the hair of the head, and never light."""
    r, g, b = (min(0.35 * c, 0.03) for c in colour)
    return r, g, b


def brow_place(
    rng: np.random.Generator, thickness: float, side: float
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n 2"]]:
    """Roots and tips of the hairs on the template's face, (x, z): upright beside the nose, then outwards, the
    upper ones slanting down and the lower ones up.
    """
    t = 4 * rng.random(HAIRS) ** 0.9
    line = np.array(BROW)
    root = np.stack([np.interp(t, range(5), line[:, c]) for c in range(2)], axis=1)
    across = np.clip(rng.normal(size=HAIRS) * 0.55, -1.15, 1.15)
    root[:, 1] += across * np.interp(t, range(5), THICK) * thickness
    steep = np.interp(t, (0.0, 0.5, 1.4, 4.0), (1.25, 0.85, 0.25, -0.45)) - 0.30 * across * np.clip(t, 0, 1)
    steep += rng.normal(size=HAIRS) * 0.14
    length = np.interp(t, (0, 1, 2.5, 4), (0.0060, 0.0080, 0.0080, 0.0055)) * rng.uniform(0.65, 1.1, HAIRS)
    tip = root + np.stack([np.cos(steep), np.sin(steep)], axis=1) * length[:, None]
    mirror = np.array([side, 1.0])
    return root * mirror, tip * mirror


def _brow(
    side: float,
    hair: HairSpec,
    posed: Float64[np.ndarray, "v 3"],
    frame: HeadFrame,
    model: BodyModel,
    rng: np.random.Generator,
) -> Bundle:
    root, tip = brow_place(rng, hair.brow, side)
    rows = []
    for t, height in ((0.0, 0.0), (0.33, 0.0011), (0.7, 0.0014), (1.0, 0.0012)):
        at, normal = on_face(root * (1 - t) + tip * t, posed, model)
        rows.append(frame.local(at + (height * frame.scale) * normal))
    points = np.stack(rows, axis=1)
    width = rng.uniform(0.00020, 0.00034, HAIRS)
    shade = rng.normal(size=HAIRS) * 0.25 - 0.25
    return Bundle(points, width, shade, (rng.random(HAIRS) < 0.6 * hair.grey).astype(np.float64))


def _lashes(
    side: str,
    lid: str,
    posed: Float64[np.ndarray, "v 3"],
    frame: HeadFrame,
    model: BodyModel,
    rng: np.random.Generator,
) -> Bundle:
    """Hairs that run down the columns of a lash helper, from the lid's edge outwards, and curl."""
    lash = LASHES[lid]
    columns = frame.local(posed[_lash_grid(f"helper-{side}-eyelashes-{lid}")])
    place = (np.arange(lash.hairs) + rng.uniform(0.1, 0.9, lash.hairs)) / lash.hairs * (columns.shape[1] - 1)
    left = np.minimum(place.astype(int), columns.shape[1] - 2)
    share = (place - left)[:, None]
    curve = columns[:, left] * (1 - share) + columns[:, left + 1] * share  # (rows, hairs, 3)
    root, edge = curve[0], curve[1]  # under the lid, and where it comes out in front of it
    reach = (lash.reach * rng.uniform(0.75, 1.1, lash.hairs))[:, None]
    half, tip = (edge + (at - edge) * reach for at in (0.4 * curve[2] + 0.6 * curve[3], curve[-1]))
    tip = tip + rng.normal(size=tip.shape) * 0.0004
    size = np.sqrt(((tip - edge) ** 2).sum(1))[:, None]
    lift = np.array([0.0, 0.0, lash.curl]) * size
    points = np.stack([root, edge, half + 0.3 * lift, tip + lift], axis=1)
    width = np.full(lash.hairs, 0.00015)
    return Bundle(points, width, rng.normal(size=lash.hairs) * 0.1, np.zeros(lash.hairs))


@lru_cache(maxsize=4)
def _lash_grid(group: str) -> Int32[np.ndarray, "rows columns"]:
    """The vertices of a lash helper, a strip of quads, in rows from the lid's edge outwards."""
    model = body_model()
    quads = model.quads[group]
    neighbours: dict[int, set[int]] = {}
    for quad in quads.tolist():
        for a, b in zip(quad, quad[1:] + quad[:1], strict=True):
            neighbours.setdefault(a, set()).add(b)
            neighbours.setdefault(b, set()).add(a)
    corners = sorted(v for v, near in neighbours.items() if len(near) == 2)
    sides = [_border(start, step, neighbours) for start in corners for step in sorted(neighbours[start])]
    eye = model.template[np.unique(model.quads[f"helper-{group[7]}-eye"])].mean(0)
    longest = max(len(side) for side in sides)
    row = min(
        (side for side in sides if len(side) == longest),
        key=lambda side: (float(((model.template[side] - eye) ** 2).sum(1).mean()), side[0]),
    )
    rows, seen = [row], set(row)
    while len(seen) < len(neighbours):
        row = [next(n for n in sorted(neighbours[v]) if n not in seen) for v in row]
        rows.append(row)
        seen |= set(row)
    return np.array(rows, dtype=np.int32)


def _border(start: int, step: int, neighbours: dict[int, set[int]]) -> list[int]:
    """Vertices along the border of a grid, from a corner to the next one."""
    path = [start, step]
    while len(neighbours[path[-1]]) > 2:
        path.append(next(n for n in sorted(neighbours[path[-1]]) if len(neighbours[n]) < 4 and n != path[-2]))
    return path


@lru_cache(maxsize=1)
def _face_triangles() -> tuple[Int32[np.ndarray, "f 3"], cKDTree]:
    """The triangles of the upper face and a tree over their centres, (x, z) on the template."""
    model = body_model()
    faces = model.faces("body")
    at = model.template[faces]
    front = (at[..., 1] < -0.08) & (at[..., 2] > 0.70) & (at[..., 2] < 0.80)
    chosen = faces[front.all(1) & (model.masks["inside-mouth"][faces].max(1) < 0.5)]
    return chosen, cKDTree(model.template[chosen].mean(1)[:, [0, 2]])


def on_face(
    flat: Float64[np.ndarray, "n 2"], posed: Float64[np.ndarray, "v 3"], model: BodyModel
) -> tuple[Float64[np.ndarray, "n 3"], Float64[np.ndarray, "n 3"]]:
    """World points and normals of (x, z) places on the template's face, by barycentric coordinates."""
    faces, tree = _face_triangles()
    _, candidates = tree.query(flat, k=8)
    a, b, c = (model.template[faces[candidates, i]][..., [0, 2]] for i in range(3))
    p = flat[:, None]

    def cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.asarray(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])

    whole = cross(b - a, c - a)
    whole = np.where(np.abs(whole) < 1e-12, 1e-12, whole)
    weight = (
        np.stack([cross(b - p, c - p), cross(c - p, a - p), cross(a - p, b - p)], axis=2) / whole[..., None]
    )
    best = np.argmax(weight.min(2), axis=1)
    rows = np.arange(len(flat))
    share = np.clip(weight[rows, best], 0, 1)
    share /= share.sum(1, keepdims=True)
    corner = faces[candidates[rows, best]]
    normals = vertex_normals(posed, faces)
    at = (posed[corner] * share[..., None]).sum(1)
    return at, unit((normals[corner] * share[..., None]).sum(1))
