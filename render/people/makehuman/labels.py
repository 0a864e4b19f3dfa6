"""What each face of a garment asset is: its body-part class and the cloth it is cut from.

Decided by where a connected piece of mesh, or a panel (an island of its texture space), lies on the rest
template, in metres. What rules cannot see is in `TIES` and `ONE_GARMENT`, by the name of the asset's file.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Bool, Float64, Int32, UInt8

from render.people.makehuman.pattern import Pattern
from render.people.mesh import face_normals
from render.people.parts import PART

SLOTS = ("upper", "lower", "inner", "tie", "trim", "hat", "shoe", "lace", "sole", "sock")
"""Cloths that an asset is cut from; `render.people.makehuman.looks` says what each looks like."""

WAIST = 0.10  # pieces whose middle is below are worn on the legs
CHEST, THIGH = 0.30, -0.30  # a piece that reaches from one to the other is several garments, or overalls
BUTTON = 0.035  # nothing smaller is a garment
SOLE = 0.055  # soles end below this height over the ground
SOCK_GAP, SOCK_HEIGHT = 0.025, 0.10  # a sock starts higher over the ground, and is at least so tall

ONE_GARMENT = ("male_worksuit01",)
"""Overalls: what reaches from chest to thigh is one lower garment, straps and buckles with it."""

TIES = {"male_elegantsuit01": ((0.30, 0.024), (0.488, 0.024), (0.49, 0.016), (0.525, 0.015), (0.543, 0.008))}
"""Half width of a necktie by height, on the panel that is the shirt's front."""


@dataclass(frozen=True)
class FaceLabels:
    """Per face: class id, and index into `SLOTS`."""

    parts: UInt8[np.ndarray, " f"]
    slots: Int32[np.ndarray, " f"]


@dataclass(frozen=True)
class _Box:
    """Where groups of faces lie: bounds and area-weighted middle, per group."""

    low: Float64[np.ndarray, "g 3"]
    high: Float64[np.ndarray, "g 3"]
    middle: Float64[np.ndarray, "g 3"]
    area: Float64[np.ndarray, " g"]


def label_faces(pattern: Pattern, category: str, name: str) -> FaceLabels:
    """Classes and cloths of an asset of a category (garments, shoes, hats) and name."""
    slots = np.full(len(pattern.faces), SLOTS.index("hat"), dtype=np.int32)
    if category == "shoes":
        slots = _shoes(pattern)
    elif category == "garments":
        slots = _clothes(pattern, PurePosixPath(name).stem)
    right = pattern.template[pattern.faces, 0].mean(1) < 0
    parts = np.array([PART[_CLASSES[slot]] for slot in SLOTS], dtype=np.uint8)[slots]
    parts[right & (slots == SLOTS.index("sock"))] = PART["Right_Sock"]
    parts[right & np.isin(slots, [SLOTS.index(s) for s in ("shoe", "lace", "sole")])] = PART["Right_Shoe"]
    return FaceLabels(parts, slots)


_CLASSES = {
    "upper": "Upper_Clothing",
    "lower": "Lower_Clothing",
    "inner": "Upper_Clothing",
    "tie": "Apparel",
    "trim": "Apparel",
    "hat": "Apparel",
    "shoe": "Left_Shoe",
    "lace": "Left_Shoe",
    "sole": "Left_Shoe",
    "sock": "Left_Sock",
}


def _boxes(pattern: Pattern, group: Int32[np.ndarray, " f"]) -> _Box:
    corner = pattern.template[pattern.faces]
    count = int(group.max()) + 1
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(low, group, corner.min(1))
    np.maximum.at(high, group, corner.max(1))
    area = np.sqrt((face_normals(pattern.template, pattern.faces) ** 2).sum(1))
    total = np.maximum(np.bincount(group, area, count), 1e-12)
    middle = np.stack([np.bincount(group, area * corner[..., c].mean(1), count) for c in range(3)], axis=1)
    return _Box(low, high, middle / total[:, None], total)


def _clothes(pattern: Pattern, stem: str) -> Int32[np.ndarray, " f"]:
    """Upper and lower garments, what is under a jacket, ties and buttons."""
    pieces, panels = _boxes(pattern, pattern.piece), _boxes(pattern, pattern.panel)
    whole = (pieces.low[:, 2] < THIGH) & (pieces.high[:, 2] > CHEST)
    below = (pieces.middle[:, 2] < WAIST) | (whole & (stem in ONE_GARMENT))
    lower = below[pattern.piece]
    if stem not in ONE_GARMENT:
        lower = np.where(whole[pattern.piece], (panels.middle[:, 2] < WAIST)[pattern.panel], lower)
    slots = np.where(lower, SLOTS.index("lower"), SLOTS.index("upper")).astype(np.int32)
    outer = np.argmax(np.where(below, -1.0, pieces.area))
    slots[~lower & (pattern.piece != outer)] = SLOTS.index("inner")
    if stem in TIES:
        front = (np.abs(panels.middle[:, 0]) < 0.02) & (panels.high[:, 0] - panels.low[:, 0] < 0.16)
        front &= panels.low[:, 2] > CHEST
        slots[front[pattern.panel]] = SLOTS.index("inner")
        slots[_in_tie(pattern, stem) & front[pattern.panel]] = SLOTS.index("tie")
    button = (panels.high - panels.low).max(1) < BUTTON
    slots[button[pattern.panel]] = SLOTS.index("trim")
    return slots


def _in_tie(pattern: Pattern, stem: str) -> Bool[np.ndarray, " f"]:
    table = np.array(TIES[stem])
    centre = pattern.template[pattern.faces].mean(1)
    half = np.interp(centre[:, 2], table[:, 0], table[:, 1])
    return np.asarray((np.abs(centre[:, 0]) < half) & (centre[:, 2] < table[-1, 0]) & (centre[:, 1] < -0.05))


def _shoes(pattern: Pattern) -> Int32[np.ndarray, " f"]:
    """Shoes with soles and laces, and the socks in them."""
    pieces, panels = _boxes(pattern, pattern.piece), _boxes(pattern, pattern.panel)
    ground = float(pieces.low[:, 2].min())
    sock = (pieces.low[:, 2] > ground + SOCK_GAP) & (pieces.high[:, 2] - pieces.low[:, 2] > SOCK_HEIGHT)
    lace = (pieces.low[:, 2] > ground + SOCK_GAP) & ~sock
    slots = np.full(len(pattern.faces), SLOTS.index("shoe"), dtype=np.int32)
    slots[(panels.high[:, 2] < ground + SOLE)[pattern.panel]] = SLOTS.index("sole")
    slots[lace[pattern.piece]] = SLOTS.index("lace")
    slots[sock[pattern.piece]] = SLOTS.index("sock")
    return slots
