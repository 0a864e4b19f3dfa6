"""Beards and moustaches: short strands that grow from the posed jaw and upper lip."""

import numpy as np
from jaxtyping import Float64

from render.people.hair.frame import HeadFrame, Solid
from render.people.hair.growth import Patch, Roots, sample_roots
from render.people.hair.strands import Bundle, coloured, frizzed, gathered_locks, settled
from render.people.mesh import unit
from render.people.spec import HairSpec

SEGMENTS = 4
STRANDS = {"beard": 7500, "chin": 2400, "moustache": 1700}
SOFT = 0.007  # metres over which a beard gets longer from its edge


def grow_beard(
    patch: Patch, place: str, hair: HairSpec, solid: Solid, frame: HeadFrame, rng: np.random.Generator
) -> Bundle:
    """Strands of one place (`beard`, `chin` or `moustache`)."""
    roots = sample_roots(patch, STRANDS[place], SOFT, rng)
    direction = _lie(roots, place) + rng.normal(size=(len(roots), 3)) * 0.22
    direction = unit(unit(direction) + roots.normal * (0.45 if place == "moustache" else 0.6))
    length = _lengths(roots, place, hair) / frame.scale * rng.uniform(0.6, 1.05, len(roots))
    down = frame.turned(np.array([0.0, 0.0, -1.0]))
    points, at = [roots.at], roots.at
    for _ in range(SEGMENTS):
        at = at + direction * (length / SEGMENTS)[:, None]
        points.append(at)
        direction = unit(direction + (0.35 if place == "moustache" else 0.22) * down - 0.10 * roots.normal)
    lines = np.stack(points, axis=1)
    lines, lock = gathered_locks(lines, roots.at, 0.011, 0.35, rng)
    lines = frizzed(lines, float(0.0008 + 0.09 * np.median(length)), rng)
    lines = settled(lines, solid, np.zeros(lines.shape[:2]))
    edge = 0.5 + 0.5 * np.clip(roots.level / SOFT, 0, 1)
    return coloured(lines, 0.00042 * edge, lock, min(1.0, 1.15 * hair.grey), rng)


def _lie(roots: Roots, place: str) -> Float64[np.ndarray, "n 3"]:
    """Downwards, forwards on the jaw, and from the middle to the sides on the upper lip."""
    side = np.clip(roots.template[:, :1] / 0.012, -1, 1)
    if place == "moustache":
        return np.concatenate([0.75 * side, -0.1 + 0 * side, -0.75 + 0 * side], axis=1)
    forward = np.clip((-0.04 - roots.template[:, 1:2]) / -0.05, 0, 1)
    return np.concatenate([-0.12 * side, -0.35 * forward, -1.0 + 0 * side], axis=1)


def _lengths(roots: Roots, place: str, hair: HairSpec) -> Float64[np.ndarray, " n"]:
    edge = 0.35 + 0.65 * np.clip(roots.level / SOFT, 0, 1)
    if place == "moustache":
        return np.asarray(hair.moustache * edge)
    chin = np.clip((0.660 - roots.template[:, 2]) / 0.03, 0, 1) * np.clip(
        (-0.08 - roots.template[:, 1]) / 0.04, 0, 1
    )
    share = 1.0 if place == "chin" else hair.cheeks + (1 - hair.cheeks) * chin
    return np.asarray(hair.beard * share * edge)
