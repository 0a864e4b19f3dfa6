"""Brows and lashes as fine hairs on the posed skin, so that they follow expressions."""

from dataclasses import replace
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
LASHES = {"1": (7, 1.15, 0.45), "2": (4, 0.75, -0.25)}
"""Of the two rows of lash helpers: hairs per quad, length as a share of the helper's, curl upwards."""


def build_brows(
    hair: HairSpec, posed: Float64[np.ndarray, "v 3"], skeleton: Skeleton, model: BodyModel
) -> tuple[Surface, Surface]:
    """The surfaces `brows` and `lashes`, both parts of the face."""
    frame = head_frame(posed, skeleton, model)
    rng = np.random.default_rng(hair.seed + 17)
    own = replace(hair, tips=0.0)
    brows = join([_brow(side, hair, posed, frame, model, rng) for side in (1.0, -1.0)], SEGMENTS)
    lashes = join([_lashes(s, lid, posed, frame, model, rng) for s in "lr" for lid in LASHES], SEGMENTS)
    dark = replace(own, colour=_darker(hair.colour), grey=0.0)
    return (
        ribbons(brows, frame, own, "brows", "Face_Neck", rng),
        ribbons(lashes, frame, dark, "lashes", "Face_Neck", rng),
    )


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
    """Hairs that fan out along the quads of a lash helper, which starts at the lid, and curl."""
    each, reach, curl = LASHES[lid]
    corner = frame.local(posed[model.quads[f"helper-{side}-eyelashes-{lid}"]])
    eye = frame.local(posed[np.unique(model.quads[f"helper-{side}-eye"])])
    far = ((corner - (eye.min(0) + eye.max(0)) / 2) ** 2).sum(2)
    order = np.argsort(far, axis=1, kind="stable")
    near = np.take_along_axis(corner, order[:, :2, None], axis=1)
    away = np.take_along_axis(corner, order[:, 2:, None], axis=1).mean(1) - near.mean(1)
    along = np.tile((np.arange(each) + 0.5) / each, len(corner)) + rng.normal(size=each * len(corner)) * 0.05
    quad = np.repeat(np.arange(len(corner)), each)
    root = near[quad, 0] * (1 - along[:, None]) + near[quad, 1] * along[:, None]
    out = away[quad] * (reach * rng.uniform(0.65, 1.1, len(root)))[:, None]
    out += rng.normal(size=out.shape) * 0.0005
    t = np.linspace(0, 1, SEGMENTS + 1)[None, :, None]
    size = np.sqrt((out**2).sum(1))[:, None, None]
    lift = np.array([0.0, 0.0, 1.0]) * curl * size * t**2
    points = root[:, None] + out[:, None] * t + lift
    count = len(root)
    return Bundle(points, np.full(count, 0.00024), rng.normal(size=count) * 0.1, np.zeros(count))


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
