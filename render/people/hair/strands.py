"""Strands: thousands of thin hairs between the guides, gathered into locks, curled and frizzed, and their
ribbons. Head's own frame, metres.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from render.people.hair.frame import HeadFrame, Solid
from render.people.hair.growth import Roots
from render.people.hair.styles import Style, part_side
from render.people.looks import hair_material
from render.people.mesh import constant_parts, unit
from render.people.parts import PART
from render.people.spec import HairSpec
from render.person import Surface

MARGIN = 0.0007  # of every strand above the skin, metres
ROUND = 0.75  # how far the normals at a ribbon's edges turn, so that it shades as a round hair
NEIGHBOURS = 3
SCALP_AREA = 0.075  # m2


@dataclass(frozen=True)
class Bundle:
    """Strands as lines with widths (m) and, per strand, their place in the colours: `shade` lightness about
    0, `grey` 0 or 1.
    """

    points: Float64[np.ndarray, "n s 3"]
    width: Float64[np.ndarray, " n"]
    shade: Float64[np.ndarray, " n"]
    grey: Float64[np.ndarray, " n"]


def join(bundles: list[Bundle], segments: int) -> Bundle:
    """Bundles as one; all must have the same number of segments."""
    assert all(b.points.shape[1] == segments + 1 for b in bundles)
    return Bundle(
        *(np.concatenate([getattr(b, f) for b in bundles]) for f in ("points", "width", "shade", "grey"))
    )


def stations(segments: int) -> Float64[np.ndarray, " s"]:
    """Where along a strand its points are: closer at the root, which bends most."""
    return np.asarray(np.linspace(0, 1, segments + 1) ** 1.25)


def along(
    lines: Float64[np.ndarray, "g s 3"], index: np.ndarray, t: Float64[np.ndarray, "n k"]
) -> Float64[np.ndarray, "n k 3"]:
    """Points at t (0..1) along lines[index]."""
    last = lines.shape[1] - 1
    place = t * last
    low = np.minimum(place.astype(np.int64), last - 1)
    mix = (place - low)[..., None]
    flat = lines.reshape(-1, 3)
    base = index[:, None] * (last + 1) + low
    return np.asarray(flat[base] * (1 - mix) + flat[base + 1] * mix)


def between(
    guides: Float64[np.ndarray, "g s 3"],
    guide_roots: Roots,
    roots: Roots,
    trim: Float64[np.ndarray, " n"],
    hair: HairSpec,
    style: Style,
) -> Float64[np.ndarray, "n k 3"]:
    """Children: the shapes of the nearest guides on the same side of the parting, carried to other roots."""
    apart = 0.06 * (style.comb in ("parted", "across"))

    def keys(r: Roots) -> np.ndarray:
        return np.concatenate([r.at, apart * part_side(r.template, hair.part)[:, None]], axis=1)

    gap, near = cKDTree(keys(guide_roots)).query(keys(roots), k=NEIGHBOURS)
    share = 1 / (gap + 1e-4) ** 2
    share /= share.sum(1, keepdims=True)
    t = trim[:, None] * stations(style.segments)[None]
    shapes = guides - guides[:, :1]
    if style.comb == "tied":
        shapes = guides
    total = np.zeros((len(roots), style.segments + 1, 3))
    for k in range(NEIGHBOURS):
        total += share[:, k, None, None] * along(shapes, near[:, k], t)
    if style.comb == "tied":
        ease = (1 - np.clip(t / 0.6, 0, 1)) ** 2
        start = (share[:, :, None] * guide_roots.at[near]).sum(1)
        return np.asarray(total + ease[..., None] * (roots.at - start)[:, None])
    return np.asarray(total + roots.at[:, None])


def gathered_locks(
    lines: Float64[np.ndarray, "n k 3"],
    seeds: Float64[np.ndarray, "n 3"],
    spacing: float,
    clump: float,
    rng: np.random.Generator,
) -> tuple[Float64[np.ndarray, "n k 3"], np.ndarray]:
    """Lines drawn towards the middle one of their lock, more so at the tip; and the lock of each."""
    count = int(np.clip(SCALP_AREA / spacing**2, 12, len(seeds)))
    centres = np.sort(rng.choice(len(seeds), count, replace=False))
    # locks have no straight borders: a strand looks for its lock from a little beside its root
    wander = seeds + rng.normal(size=seeds.shape) * 0.18 * spacing
    _, lock = cKDTree(seeds[centres]).query(wander)
    middle = lines[centres][lock]
    strength = clump * np.clip(rng.normal(0.85, 0.2, len(seeds)), 0.2, 1.0)
    pull = strength[:, None] * np.linspace(0, 1, lines.shape[1])[None] ** 1.2
    return lines + pull[..., None] * (middle - lines), lock


def coiled(
    lines: Float64[np.ndarray, "n k 3"],
    lock: np.ndarray,
    radius: float,
    coil: float,
    rng: np.random.Generator,
) -> Float64[np.ndarray, "n k 3"]:
    """Lines wound around themselves; strands of a lock wind together."""
    if radius < 1e-4:
        return lines
    count = int(lock.max()) + 1
    phase = rng.uniform(0, 2 * np.pi, count)[lock] + rng.normal(size=len(lines)) * 0.35
    pitch = coil * rng.uniform(0.8, 1.3, count)[lock] * rng.normal(1.0, 0.04, len(lines))
    hand = rng.choice([-1.0, 1.0], count)[lock]
    arc = np.concatenate([np.zeros((len(lines), 1)), np.cumsum(_lengths(lines), axis=1)], axis=1)
    turn = phase[:, None] + hand[:, None] * arc * (2 * np.pi / pitch)[:, None]
    tangent = tangents(lines)
    one = unit(np.cross(tangent, np.array([0.31, 0.87, 0.38])))
    two = np.cross(tangent, one)
    grown = radius * np.clip(arc / (2.5 * radius + 0.01), 0, 1)
    wave = np.cos(turn)[..., None] * one + np.sin(turn)[..., None] * two
    return np.asarray(lines + grown[..., None] * wave)


def frizzed(
    lines: Float64[np.ndarray, "n k 3"], amount: float, rng: np.random.Generator
) -> Float64[np.ndarray, "n k 3"]:
    """Lines that wander, each in its own way; a few of them far (flyaways)."""
    count, rows = lines.shape[:2]
    t = np.linspace(0, 1, rows)
    wild = amount * (0.5 + 1.6 * (rng.random(count) ** 9))
    total = np.zeros_like(lines)
    for waves in (1.1, 2.7):
        phase = rng.uniform(0, 2 * np.pi, count)[:, None] + waves * 2 * np.pi * t[None] * rng.uniform(
            0.6, 1.2, (count, 1)
        )
        total += np.sin(phase)[..., None] * rng.normal(size=(count, 1, 3)) / waves
    return np.asarray(lines + total * (wild[:, None] * t[None] ** 0.8)[..., None])


def settled(
    lines: Float64[np.ndarray, "n k 3"], solid: Solid, reach: Float64[np.ndarray, "n k"]
) -> Float64[np.ndarray, "n k 3"]:
    """Lines with every point but the root at least MARGIN outside the surfaces; only points with `reach`
    below 4 cm are looked at.
    """
    near = np.flatnonzero((reach < 0.04).ravel())
    flat = lines.reshape(-1, 3).copy()
    for _ in range(2):
        gap, normal = solid.gap(flat[near])
        lack = np.clip(MARGIN - gap, 0, 0.05)
        flat[near] += lack[:, None] * normal
        near = near[lack > 0.0003]
    settled_lines = flat.reshape(lines.shape)
    settled_lines[:, 0] = lines[:, 0]
    return np.asarray(settled_lines)


def tangents(lines: Float64[np.ndarray, "n k 3"]) -> Float64[np.ndarray, "n k 3"]:
    """Unit directions along lines."""
    ahead = np.empty_like(lines)
    ahead[:, 1:-1] = lines[:, 2:] - lines[:, :-2]
    ahead[:, 0], ahead[:, -1] = lines[:, 1] - lines[:, 0], lines[:, -1] - lines[:, -2]
    return unit(ahead)


def _lengths(lines: Float64[np.ndarray, "n k 3"]) -> Float64[np.ndarray, "n _"]:
    return np.asarray(np.sqrt((np.diff(lines, axis=1) ** 2).sum(2)))


def ribbons(
    bundle: Bundle, frame: HeadFrame, hair: HairSpec, name: str, part: str, rng: np.random.Generator
) -> Surface:
    """The strands' tapered ribbons in the world, two vertices a point and one at the tip."""
    lines = bundle.points
    count, rows = lines.shape[:2]
    tangent = tangents(lines)
    axis = np.stack([0.0 * lines[..., 0], 0.0 * lines[..., 1] - 0.05, 0.6 * lines[..., 2] + 0.29], axis=2)
    outward = unit(lines - axis)
    across = unit(np.cross(tangent, outward))
    facing = np.cross(across, tangent)
    roll = np.clip(rng.normal(size=count) * 0.45, -1.1, 1.1)[:, None, None]
    across, facing = (
        across * np.cos(roll) + facing * np.sin(roll),
        facing * np.cos(roll) - across * np.sin(roll),
    )
    taper = np.minimum(1.0, 1.25 - 0.95 * np.linspace(0, 1, rows) ** 2.5)
    half = (0.5 * bundle.width[:, None] * taper[None])[..., None] * across
    pair = np.stack([lines - half, lines + half], axis=2)[:, :-1].reshape(count, -1, 3)
    bent = unit(np.stack([facing - ROUND * across, facing + ROUND * across], axis=2))[:, :-1].reshape(
        count, -1, 3
    )
    vertices = np.concatenate([pair, lines[:, -1:]], axis=1)
    normals = np.concatenate([bent, facing[:, -1:]], axis=1)
    size = 2 * (rows - 1) + 1
    left = np.arange(rows - 2) * 2
    piece = np.stack([left, left + 1, left + 3, left, left + 3, left + 2], axis=1).reshape(-1, 3)
    piece = np.concatenate([piece, [[size - 3, size - 2, size - 1]]])
    faces = (np.arange(count)[:, None, None] * size + piece[None]).reshape(-1, 3).astype(np.int32)
    t = np.repeat(np.linspace(0, 1, rows), 2)[:size]
    tint = bundle.shade[:, None] - 0.45 * (1 - t[None]) ** 2 + hair.tips * np.clip(t[None] - 0.35, 0, 1)
    return Surface(
        name=name,
        vertices=frame.world(vertices.reshape(-1, 3)),
        faces=faces,
        normals=unit(frame.returned(normals.reshape(-1, 3))),
        uv=None,
        part_ids=constant_parts(faces, PART[part]),
        material=hair_material(hair),
        attributes={"tint": tint.reshape(-1), "grey": np.repeat(bundle.grey, size)},
    )


def coloured(
    points: Float64[np.ndarray, "n s 3"],
    width: Float64[np.ndarray, " n"],
    lock: np.ndarray,
    grey: float,
    rng: np.random.Generator,
) -> Bundle:
    """Strands with their own lightness, near that of their lock, and some of them grey."""
    count = len(points)
    locks = rng.normal(size=int(lock.max(initial=0)) + 1) * 0.14
    shade = locks[lock] + rng.normal(size=count) * 0.18
    return Bundle(points, width, shade, (rng.random(count) < grey).astype(np.float64))
