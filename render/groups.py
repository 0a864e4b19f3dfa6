"""Who stands where: one to some people on a common ground, turned to each other or to the camera, not
touching.

Each newcomer walks in from outside toward someone who is there, never further at a time than the gap that is
left (conservative advancement). So nobody can pass into anybody, and no test of insides is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from render.person import Person
from render.ranges import Facing, People
from render.regions import REACH, surface_points
from render.spec import Placement
from shards.errors import VitruvianError

_ATTEMPTS = 24
_STEPS = 200
_CLOSE_ENOUGH = 0.005  # m
_FAR = 0.5  # m
_OUTSIDE = 20.0  # m: where newcomers come from


def place_people(
    rng: np.random.Generator, ranges: People, people: Mapping[str, Person]
) -> tuple[Placement, ...]:
    """A place for each of `people` (by name of identity), the first at the origin.

    The distance of anyone's surface to the nearest other one's is at least the gap drawn, and more by no more
    than 2 `REACH` and a bit. Raises VitruvianError when someone finds no place within reach.
    """
    names, bodies = list(people), list(people.values())
    if len(people) == 1:
        return (Placement(names[0]),)
    angle = rng.uniform(0, 2 * np.pi)
    first = Placement(names[0], 0.0, 0.0, _heading(rng, ranges.facing, angle))
    placements, trees = [first], [cKDTree(_at(surface_points(bodies[0]), first))]
    for name, body in zip(names[1:], bodies[1:], strict=True):
        cloud = surface_points(body)
        newcomer = _find_place(rng, ranges, angle, Placement(name), cloud, placements, trees)
        placements.append(newcomer)
        trees.append(cKDTree(_at(cloud, newcomer)))
        angle = rng.uniform(0, 2 * np.pi)
    return tuple(placements)


def clearance(points: Float64[np.ndarray, "n 3"], tree: Any) -> float:
    """Smallest distance (m) of `points` to those of the KD-tree; far away, of their boxes, which is less."""
    low, high = points.min(axis=0), points.max(axis=0)
    apart = float(np.linalg.norm(np.maximum(np.maximum(low - tree.maxes, tree.mins - high), 0.0)))
    if apart > _FAR:
        return apart
    coarse = float(tree.query(points[::50])[0].min())
    near = points[((points >= tree.mins - coarse) & (points <= tree.maxes + coarse)).all(axis=1)]
    return float(tree.query(near, distance_upper_bound=coarse)[0].min(initial=coarse))


def _find_place(
    rng: np.random.Generator,
    ranges: People,
    angle: float,
    newcomer: Placement,
    cloud: Float64[np.ndarray, "n 3"],
    placements: Sequence[Placement],
    trees: Sequence[Any],
) -> Placement:
    """Directions are tried until one leads to a place within reach; the first is `angle`."""
    for _ in range(_ATTEMPTS):
        anchor = placements[int(rng.integers(len(placements)))]
        heading = _heading(rng, ranges.facing, angle + np.pi)
        gap = rng.uniform(*ranges.gap_m)
        turned = replace(newcomer, heading_deg=heading)
        distance = _approach(_at(cloud, turned), trees, (anchor.x, anchor.y), angle, gap)
        x, y = anchor.x + distance * np.cos(angle), anchor.y + distance * np.sin(angle)
        if np.hypot(x, y) <= ranges.reach_m:
            return replace(turned, x=round(float(x), 6), y=round(float(y), 6))
        angle = rng.uniform(0, 2 * np.pi)
    raise VitruvianError(
        f"people: no place for {newcomer.identity!r} within reach_m = {ranges.reach_m} of the first in "
        f"{_ATTEMPTS} attempts; widen reach_m, or ask for smaller gaps or fewer people"
    )


def _approach(
    cloud: Float64[np.ndarray, "n 3"],
    trees: Sequence[Any],
    goal: tuple[float, float],
    angle: float,
    gap: float,
) -> float:
    """How far from `goal`, coming in along `angle`, `cloud` has the gap to everyone there."""
    inward = -np.array([np.cos(angle), np.sin(angle), 0.0])
    start = cloud + np.array([*goal, 0.0]) - _OUTSIDE * inward
    travelled = 0.0
    for _ in range(_STEPS):
        left = min(clearance(start + travelled * inward, tree) for tree in trees) - 2 * REACH - gap
        if left < _CLOSE_ENOUGH:
            break
        travelled += left
    return _OUTSIDE - travelled


def _heading(rng: np.random.Generator, facing: Facing, toward: float) -> float:
    """Degrees about z. toward: the direction (radians, from +x) in which the others are."""
    weights = np.array([facing.front, facing.each_other, facing.anywhere])
    jitter, anywhere = rng.normal(0.0, facing.jitter_deg), rng.uniform(-180, 180)
    choices = (jitter, np.rad2deg(toward) + 90 + jitter, anywhere)  # heading 0 looks along -90 degrees
    heading = choices[int(rng.choice(3, p=weights / weights.sum()))]
    return round(float((heading + 180) % 360 - 180), 6)


def _at(points: Float64[np.ndarray, "n 3"], placement: Placement) -> Float64[np.ndarray, "n 3"]:
    pose = placement.matrix()
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])
