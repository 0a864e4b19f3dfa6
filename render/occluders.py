"""Things that hide a bounded part of the people: where they hang or stand."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial import ConvexHull

from render.framing import Shot, Target, in_camera
from render.props import occluder_mesh
from render.ranges import Occluders
from render.regions import REACH
from render.spec import SENSOR_WIDTH_MM, OccluderSpec, Triple

_SHAPES: tuple[Literal["ball", "box", "cylinder", "ring"], ...] = ("ball", "box", "cylinder", "ring")
_ATTEMPTS = 12  # per thing; after that there is one less
_NEAREST = 0.25  # m from the camera
_BEHIND = 0.02  # m before the camera's plane
_FREE = 0.03  # m from any person
_CELLS = 48  # along the longer side of the framed region, to measure what is hidden of it


def draw_occluders(
    rng: np.random.Generator, ranges: Occluders, shot: Shot, target: Target, aspect: float
) -> tuple[OccluderSpec, ...]:
    """Occluders of one picture: clear of camera and people, together hiding no more of the framed region's
    silhouette than the recipe allows. One that finds no such place in 12 draws is left out.
    """
    wanted = int(rng.integers(ranges.count[0], ranges.count[1] + 1))
    if rng.random() >= ranges.probability:
        return ()
    silhouette = _silhouette(shot)
    hidden = np.zeros(len(silhouette), bool)
    found: list[OccluderSpec] = []
    for _ in range(wanted):
        for _ in range(_ATTEMPTS):
            thing = _draw(rng, ranges, shot, target, aspect)
            vertices, _, _ = occluder_mesh(thing)
            if not _has_room(vertices, thing, shot, target):
                continue
            with_it = hidden | _hides(vertices, shot, silhouette)
            if with_it.mean() <= ranges.hidden_share:
                hidden = with_it
                found.append(thing)
                break
    return tuple(found)


def _draw(
    rng: np.random.Generator, ranges: Occluders, shot: Shot, target: Target, aspect: float
) -> OccluderSpec:
    """One thing, hanging between camera and people or standing beside them, no wider than half the frame."""
    shape = _SHAPES[int(rng.integers(len(_SHAPES)))]
    hangs = rng.random() < ranges.between
    camera, subject = _eye(shot), shot.region.points[int(rng.integers(len(shot.region.points)))]
    share, aside = rng.uniform(0.3, 0.85), rng.uniform(-0.5, 0.5, size=3)
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.6)
    turn, extent = rng.uniform(-180, 180, size=3), rng.uniform(0.25, 1.0, size=3)
    largest = rng.uniform(*ranges.size_m)
    if hangs:
        away = share * float(np.linalg.norm(subject - camera))
        widest = SENSOR_WIDTH_MM / shot.camera.focal_mm * min(1.0, aspect) * away
        size = extent / extent.max() * min(largest, 0.5 * widest)
        position = camera + share * (subject - camera) + aside * size.max()
    else:
        size, turn = extent / extent.max() * largest, np.array([0.0, 0.0, turn[2]])
        middle = (target.surface.mins + target.surface.maxes)[:2] / 2
        position = np.append(middle + radius * np.array([np.cos(angle), np.sin(angle)]), size[2] / 2)
    return OccluderSpec(
        shape=shape,
        position=_triple(position),
        size=_triple(size),
        turn_deg=_triple(turn),
        colour=_triple(rng.uniform(0.02, 0.8, size=3)),
        roughness=round(float(rng.uniform(0.1, 0.9)), 6),
    )


def _has_room(vertices: Float64[np.ndarray, "v 3"], thing: OccluderSpec, shot: Shot, target: Target) -> bool:
    """Whether the ball around the thing is clear of camera and people, and the thing above the ground."""
    centre = np.array(thing.position)
    radius = float(np.linalg.norm(vertices - centre, axis=1).max())
    return bool(
        vertices[:, 2].min() > -1e-6
        and np.linalg.norm(centre - _eye(shot)) > radius + _NEAREST
        and target.surface.query(centre)[0] > radius + _FREE + REACH
    )


def _silhouette(shot: Shot) -> Float64[np.ndarray, "n 2"]:
    """The framed region as seen (on the plane z = 1): centres of the cells of a grid that it covers."""
    local = in_camera(shot.camera, shot.region.points)
    tangents = local[:, :2] / local[:, 2:]
    cell = float(np.ptp(tangents, axis=0).max()) / _CELLS
    return np.asarray((np.unique(np.floor(tangents / cell), axis=0) + 0.5) * cell)


def _hides(
    vertices: Float64[np.ndarray, "v 3"], shot: Shot, silhouette: Float64[np.ndarray, "n 2"]
) -> Bool[np.ndarray, " n"]:
    """Which points of the silhouette lie within the outline of a thing that is not behind all of it.

    The convex hull stands for the outline, so a ring hides its hole: never less than it really does.
    """
    local = in_camera(shot.camera, vertices)
    farthest = in_camera(shot.camera, shot.region.extreme)[:, 2].max()
    if local[:, 2].max() <= 0 or local[:, 2].min() > farthest:
        return np.zeros(len(silhouette), bool)
    if local[:, 2].min() <= _BEHIND:  # beside the camera: no outline
        return np.ones(len(silhouette), bool)
    hull = ConvexHull(local[:, :2] / local[:, 2:]).equations
    inside: Bool[np.ndarray, " n"] = (silhouette @ hull[:, :2].T + hull[:, 2] <= 0).all(axis=1)
    return inside


def _eye(shot: Shot) -> Float64[np.ndarray, "3"]:
    pose = np.array(shot.camera.world_to_camera)
    return np.asarray(-pose[:3, :3].T @ pose[:3, 3])


def _triple(values: Float64[np.ndarray, "3"]) -> Triple:
    x, y, z = (round(float(value), 6) for value in values)
    return x, y, z
