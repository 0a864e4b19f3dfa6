"""Which part of a person a framing shows: by part labels where there are any, by shape where there are none.

Lengths that find a head are absolute: from seven years on, heads differ by a few centimetres, people by a
metre, and raised arms make a standing person's box a quarter taller.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from annotation.parts import part_vocabulary
from render.person import Person

FramingName = Literal["face", "upper_body", "full_body"]
Points = Float64[np.ndarray, "n 3"]

WHOLE_BODY = 0.9
"""Metres: whoever is shorter is a scan of a part of a body and has no framing "full_body"."""
BUST = 0.45
"""Metres: a scan shorter than this is a head and has no framing "upper_body" either."""

SPACING = 0.02
VOXEL = 0.005
REACH = SPACING / 3**0.5 + VOXEL * 3**0.5
"""Metres: every point of a surface has one of its `surface_points` within this."""

_FACE_PARTS = frozenset(
    {"Face_Neck", "Eyeglass", "Hair", "Lower_Lip", "Upper_Lip", "Lower_Teeth", "Upper_Teeth", "Tongue"}
)
_UPPER_PARTS = _FACE_PARTS | {
    "Torso",
    "Upper_Clothing",
    *(f"{side}_{part}" for side in ("Left", "Right") for part in ("Upper_Arm", "Lower_Arm")),
}
_SLICE = 0.02  # m: thickness of the horizontal slices a head is looked for in
_CELL = 0.025  # m: points of a slice within neighbouring cells belong together
_HEAD_ACROSS = (
    0.11,
    0.33,
)  # m: extents of a slice of a head, hair included; arms are thinner, shoulders wider
_HEAD_HEIGHT = (0.12, 0.32)  # m: without the crown
_CROWN = 0.04  # m: slices above the first that is wide enough
_UPPER_SHARE = 0.47  # of the height of the head's top: hips and up, as the labelled upper body


def framing_regions(person: Person) -> dict[FramingName, Float64[np.ndarray, "_ 3"]]:
    """Framing name -> points (person frame, m) of the surfaces that it shows, for the framings there are.

    Labelled people have all three. Of others, a scan shorter than `WHOLE_BODY` has no "full_body", one
    shorter than `BUST` no "upper_body" either; "face" is there always, and of a bare head it is everything.
    """
    names = part_vocabulary(person.part_classes).names
    face = [names.index(name) for name in sorted(_FACE_PARTS & set(names))]
    if any(np.isin(surface.part_ids, names.index("Face_Neck")).any() for surface in person.surfaces):
        upper = [names.index(name) for name in sorted(_UPPER_PARTS & set(names))]
        return {
            "face": _vertices_of(person, face),
            "upper_body": _vertices_of(person, upper),
            "full_body": _vertices_of(person, list(range(256))),
        }
    return _regions_by_shape(person)


def surface_points(person: Person) -> Float64[np.ndarray, "_ 3"]:
    """Points (person frame, m) that cover every surface to within `REACH`, however coarse its triangles."""
    found = [points for surface in person.surfaces for points in _covered(surface.vertices, surface.faces)]
    points = np.concatenate(found)
    cells = np.floor((points - points.min(axis=0)) / VOXEL).astype(np.int64)
    _, first = np.unique(cells @ _packing(cells), return_index=True)
    thinned: Float64[np.ndarray, "_ 3"] = points[np.sort(first)]
    return thinned


def _regions_by_shape(person: Person) -> dict[FramingName, Points]:
    points = surface_points(person)
    if person.height < BUST:
        return {"face": points}
    head = find_head(points)
    regions: dict[FramingName, Points] = {"face": points[head.holds(points)]}
    if person.height < WHOLE_BODY:
        return regions | {"upper_body": points}
    regions["upper_body"] = points[points[:, 2] >= _UPPER_SHARE * head.high[2]]
    return regions | {"full_body": points}


@dataclass(frozen=True, eq=False)
class Box:
    """An upright box, in metres."""

    low: Float64[np.ndarray, "3"]
    high: Float64[np.ndarray, "3"]

    def holds(self, points: Float64[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Which points lie inside or on it."""
        inside: Bool[np.ndarray, " n"] = ((points >= self.low) & (points <= self.high)).all(axis=1)
        return inside

    @property
    def centre(self) -> Float64[np.ndarray, "3"]:
        middle: Float64[np.ndarray, "3"] = (self.low + self.high) / 2
        return middle


def find_head(points: Float64[np.ndarray, "n 3"]) -> Box:
    """The box of head and neck of someone upright, given points that cover them (`surface_points`).

    Slices from the top down fall into separate pieces; a head is a pile of pieces of a head's extent. Of
    several piles (sleeves of raised arms) it is the one nearest to the body's axis. Where there is none
    (hands on the head), it is the top of that axis.
    """
    axis = np.median(points[:, :2], axis=0)
    piles = [pile for pile in _piles(points) if _is_tall(pile)]
    if piles:
        nearest = min(piles, key=lambda pile: float(np.linalg.norm(pile.centre[:2] - axis)))
        return _with_crown(nearest, points)
    near = points[np.linalg.norm(points[:, :2] - axis, axis=1) < _HEAD_ACROSS[1] / 2]
    top = near if len(near) else points
    top = top[top[:, 2] >= top[:, 2].max() - _HEAD_HEIGHT[1]]
    return Box(top.min(axis=0), top.max(axis=0))


def _piles(points: Points) -> list[Box]:
    """Piles of head-sized pieces, from the top down, each at most a head high."""
    open_piles: list[Box] = []
    finished: list[Box] = []
    for pieces in _slices(points):
        heads = [piece for piece in pieces if _is_as_wide_as_a_head(piece)]
        still: list[Box] = []
        for pile in open_piles:
            below = next((p for p in heads if _overlap(p, pile)), None)
            if below is None or pile.high[2] - below.low[2] > _HEAD_HEIGHT[1]:
                finished.append(pile)
            else:
                still.append(Box(np.minimum(pile.low, below.low), np.maximum(pile.high, below.high)))
        taken = still + [pile for pile in finished if _is_tall(pile)]
        open_piles = still + [p for p in heads if not any(_overlap(p, q) for q in taken)]
    return finished + open_piles


def _with_crown(pile: Box, points: Points) -> Box:
    above = Box(pile.low, pile.high + np.array([0.0, 0.0, _CROWN]))
    return Box(pile.low, np.append(pile.high[:2], points[above.holds(points)][:, 2].max()))


def _slices(points: Points) -> Iterator[list[Box]]:
    """The pieces of each horizontal slice, from the top down."""
    level = np.floor((points[:, 2].max() - points[:, 2]) / _SLICE).astype(np.int64)
    order = np.argsort(level, kind="stable")
    edges = np.searchsorted(level[order], np.arange(level.max() + 2))
    for start, stop in itertools.pairwise(edges):
        yield _pieces(points[order[start:stop]]) if stop > start else []


def _pieces(points: Points) -> list[Box]:
    """Boxes of the connected pieces of one slice."""
    import cv2

    cells = np.floor((points[:, :2] - points[:, :2].min(axis=0)) / _CELL).astype(np.int64)
    grid = np.zeros(cells.max(axis=0) + 1, np.uint8)
    grid[cells[:, 0], cells[:, 1]] = 1
    count, labels = cv2.connectedComponents(grid, connectivity=8)
    piece = labels[cells[:, 0], cells[:, 1]]
    members = [points[piece == index] for index in range(1, count)]
    return [Box(found.min(axis=0), found.max(axis=0)) for found in members]


def _is_as_wide_as_a_head(piece: Box) -> bool:
    across = (piece.high - piece.low)[:2]
    return bool((across >= _HEAD_ACROSS[0]).all() and (across <= _HEAD_ACROSS[1]).all())


def _is_tall(pile: Box) -> bool:
    return bool(pile.high[2] - pile.low[2] >= _HEAD_HEIGHT[0])


def _overlap(a: Box, b: Box) -> bool:
    """Whether two boxes overlap seen from above."""
    return bool((a.low[:2] <= b.high[:2]).all() and (b.low[:2] <= a.high[:2]).all())


def _covered(vertices: Float64[np.ndarray, "v 3"], faces: np.ndarray) -> Iterator[Float64[np.ndarray, "_ 3"]]:
    """The used vertices, and of triangles with edges over SPACING a grid of points."""
    yield vertices[np.unique(faces)]
    corners = vertices[faces]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    steps = np.ceil(longest / SPACING).astype(np.int64)
    for count in np.unique(steps[steps > 1]):
        i, j = np.mgrid[: count + 1, : count + 1].reshape(2, -1)
        i, j = i[i + j <= count], j[i + j <= count]
        weights = np.stack([i, j, count - i - j], axis=1) / count
        yield (weights @ corners[steps == count]).reshape(-1, 3)


def _packing(cells: Int64[np.ndarray, "n 3"]) -> Int64[np.ndarray, "3"]:
    """Multipliers that make one number of a cell's three."""
    _, y, z = cells.max(axis=0) + 1
    return np.array([y * z, z, 1], np.int64)


def _vertices_of(person: Person, parts: list[int]) -> Points:
    kept = [
        surface.vertices[np.unique(surface.faces[np.isin(surface.part_ids, parts)])]
        for surface in person.surfaces
    ]
    points: Points = np.concatenate(kept).astype(np.float64)
    return points
