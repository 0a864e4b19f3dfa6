"""Tails, buns and braids: what tied hair does beyond its tie. Head's own frame, metres."""

import numpy as np
from jaxtyping import Float64

from render.people.hair.frame import HeadFrame, Solid
from render.people.hair.growth import trailing
from render.people.hair.strands import (
    Bundle,
    along,
    coiled,
    coloured,
    frizzed,
    gathered_locks,
    settled,
    stations,
    tangents,
)
from render.people.hair.styles import TIES
from render.people.mesh import unit
from render.people.spec import HairSpec

TAIL, KNOT, PLAIT = 3600, 2600, 3300  # strands
TAIL_SEGMENTS, KNOT_SEGMENTS, PLAIT_SEGMENTS = 12, 12, 20


def beyond_tie(hair: HairSpec, solid: Solid, frame: HeadFrame, rng: np.random.Generator) -> Bundle:
    """The strands behind the tie of a tied style."""
    x, y, z = TIES[hair.style]
    ties = [np.array([x * s, y, z]) for s in ((1.0, -1.0) if x else (1.0,))]
    if hair.style in ("bun", "topknot"):
        return _knot(ties[0], hair, rng)
    if hair.style == "ponytail":
        return _tail(ties[0], hair, solid, frame, rng)
    made = [_braid(tie, len(ties), hair, solid, frame, rng) for tie in ties]
    return Bundle(
        *(np.concatenate([getattr(b, f) for b in made]) for f in ("points", "width", "shade", "grey"))
    )


def _outward(tie: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, " 3"]:
    return unit(tie - np.array([0.0, -0.05, 0.745]))


def _down(frame: HeadFrame) -> Float64[np.ndarray, " 3"]:
    return frame.turned(np.array([0.0, 0.0, -1.0]))


def _tail(
    tie: Float64[np.ndarray, " 3"], hair: HairSpec, solid: Solid, frame: HeadFrame, rng: np.random.Generator
) -> Bundle:
    """A tail: strands leave the tie in a fan and fall."""
    length = max(hair.length / frame.scale - 0.12, 0.08)
    guides = 60
    spread = rng.normal(size=(guides, 3))
    start = tie + spread * 0.0035
    direction = unit(_outward(tie) + 0.16 * spread + np.array([0.0, 0.0, 0.25]))
    lines = trailing(start, direction, length, 14.0, solid, _down(frame), 0.006)
    pick = rng.integers(0, guides, (TAIL, 2))
    mix = rng.random((TAIL, 1, 1))
    t = stations(TAIL_SEGMENTS)[None] * (0.72 + 0.28 * rng.random((TAIL, 1)) ** 0.6)
    points = along(lines, pick[:, 0], t) * mix + along(lines, pick[:, 1], t) * (1 - mix)
    points += rng.normal(size=(TAIL, 1, 3)) * 0.007 * np.sin(np.pi * np.clip(t * 1.1, 0, 1) ** 0.6)[..., None]
    seeds = points[:, 3] * 4
    points, lock = gathered_locks(points, seeds, 0.022, 0.55, rng)
    points = coiled(points, lock, 0.016 * hair.curl**1.5, 0.06, rng)
    points = frizzed(points, 0.006, rng)
    points = settled(points, solid, np.zeros(points.shape[:2]))
    return coloured(points, np.full(TAIL, 0.0008), lock, hair.grey, rng)


def _knot(tie: Float64[np.ndarray, " 3"], hair: HairSpec, rng: np.random.Generator) -> Bundle:
    """Strands wound around a flattened ball in a few thick twists."""
    normal = _outward(tie)
    radius = 0.023 + 0.014 * hair.volume
    side = unit(np.cross(normal, np.array([0.0, 0.3, 1.0])))
    up = np.cross(side, normal)
    twist = rng.integers(0, 7, KNOT)
    base = np.linspace(-0.25, 1.55, 7)[twist]  # latitude of each twist
    tilt = rng.normal(size=7)[twist] * 0.15
    turn = rng.uniform(0, 2 * np.pi, KNOT)[:, None] + np.linspace(0, 2.4, KNOT_SEGMENTS + 1)[None]
    place = rng.normal(size=(KNOT, 2)) * 0.5
    wind = 2.5 * turn + rng.uniform(-0.3, 0.3, (KNOT, 1))
    around, over = place[:, :1] * np.cos(wind) - place[:, 1:] * np.sin(wind), 0.0
    over = place[:, :1] * np.sin(wind) + place[:, 1:] * np.cos(wind)
    latitude = base[:, None] + 0.17 * around + tilt[:, None] * np.sin(turn)
    height = radius * (1 + 0.10 * np.clip(over, -1.5, 1.5))
    flat = np.cos(latitude)[..., None] * (np.cos(turn)[..., None] * side + np.sin(turn)[..., None] * up)
    points = (
        tie + normal * radius * 0.55 + height[..., None] * (flat + 0.8 * np.sin(latitude)[..., None] * normal)
    )
    points = frizzed(points, 0.0022, rng)
    return coloured(points, np.full(KNOT, 0.0009), twist, hair.grey, rng)


def _braid(
    tie: Float64[np.ndarray, " 3"],
    braids: int,
    hair: HairSpec,
    solid: Solid,
    frame: HeadFrame,
    rng: np.random.Generator,
) -> Bundle:
    """Three locks that cross in turn around a falling line: the lateral place of lock k is sin(a), its depth
    sin(2 a), a being 2 pi (s / pitch + k / 3).
    """
    count = PLAIT // braids
    length = max(hair.length / frame.scale - 0.10, 0.10)
    direction = _outward(tie)[None] * np.array([1.0, 1.0, 0.3])
    core = trailing(tie[None], unit(direction), length, 30.0, solid, _down(frame), 0.014)
    t = np.linspace(0, 1, 121)[None]
    line = along(core, np.zeros(1, dtype=np.int64), t)
    tangent = tangents(line)[0]
    back = unit(line[0] - np.array([0.0, -0.05, 0.0]) - line[0] * np.array([0.0, 0.0, 1.0]))
    side = unit(np.cross(tangent, back))
    deep = np.cross(side, tangent)
    wide = (0.014 if braids == 1 else 0.011) * (0.8 + 0.4 * hair.volume)
    slim = np.interp(t[0], (0, 0.08, 0.8, 0.93, 1), (0.6, 1.0, 0.75, 0.35, 0.7))[:, None]
    strand = rng.integers(0, 3, count)
    begin = rng.uniform(-0.12, 0.93, count)
    ends = begin[:, None] + np.linspace(0, 0.24, PLAIT_SEGMENTS + 1)[None]
    s = np.clip(ends, 0, 1)
    row = np.minimum((s * 120).astype(np.int64), 119)
    angle = 2 * np.pi * (s * length / (4.4 * wide) + strand[:, None] / 3)
    place = rng.normal(size=(count, 2)) * 0.42
    place /= np.maximum(1.0, np.sqrt((place**2).sum(1, keepdims=True)))
    across = np.sin(angle) + 0.55 * place[:, :1]
    depth = 0.55 * np.sin(2 * angle) + 0.55 * place[:, 1:]
    points = line[0][row] + (wide * slim[row]) * (
        across[..., None] * side[row] + depth[..., None] * deep[row]
    )
    points = settled(frizzed(points, 0.0012, rng), solid, np.zeros(points.shape[:2]))
    return coloured(points, np.full(count, 0.0009), strand, hair.grey, rng)
