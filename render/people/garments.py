"""Garments: pieces of cloth by kind, layered from the skin outwards, and what they hide of the body.

`render.people.cuts` says what a cut's parameters mean; `ease` (room) and `flare` are in 0..1, `seed` is a
whole number.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64, Int32
from scipy.spatial import cKDTree

from render.people.accessories import ACCESSORIES, Wearer
from render.people.body import BodyModel, Shape, Skeleton, body_model
from render.people.cloth import (
    Shell,
    Solid,
    arm_weight,
    body_solid,
    cut_shell,
    drop_hidden,
    even_edges,
    helper_shell,
    pose_shell,
    push_out,
    waves,
    with_hem,
)
from render.people.cuts import (
    ELBOW,
    SHOULDER,
    Cut,
    Edges,
    Field,
    Points,
    along_arm,
    high_neck_edges,
    leg_edges,
    level,
    skirt_edges,
    sock_edges,
    tights_edges,
    upper_edges,
)
from render.people.drape import Feel, drape, pressed
from render.people.looks import cloth_material
from render.people.mesh import constant_parts, smooth, unit, vertex_normals
from render.people.parts import PART, region_weights
from render.people.shoes import SHOES, build_shoes, shoe_top
from render.people.spec import GarmentSpec
from render.people.tailoring import leg_shape, skirt_shape, tight_shape, upper_shape
from render.people.trimmings import MARKS, trimmings
from render.person import Surface

HIDDEN_DEPTH = 0.022  # skin this far inside a garment's cut is removed, metres
SKIRT_DEPTH = 0.25  # under skirts, which show far up when sitting
SUNK = 0.003  # metres that skin inside a cut is drawn in, and lies under cloth at least
BESIDE = 0.03  # metres outside a cut in which skin may hang over its edge
BLOUSE = 0.03  # above a waistband, over which a tucked top comes away from the body, metres
TOE_Z = -0.735  # template height below which tights are socks


@dataclass(frozen=True)
class Piece:
    """One piece of a garment. edges: its cut. fit: "upper", "legs", "skirt" or "tight". Lengths in metres.

    offset: off the skin at the tightest; slack: more where it hangs loose, at ease 1. stretch: room in its
    lengths; stiffness: 0 silk .. 1 board.
    """

    edges: Callable[[Points, Field, Cut], Edges]
    fit: str
    part: str
    offset: float
    slack: float
    thickness: float
    stretch: float = 1.03
    stiffness: float = 0.3


def _upper(offset: float, slack: float, thickness: float, stretch: float, stiffness: float) -> Piece:
    return Piece(upper_edges, "upper", "Upper_Clothing", offset, slack, thickness, stretch, stiffness)


def _legs(offset: float, slack: float, thickness: float, stretch: float, stiffness: float) -> Piece:
    return Piece(leg_edges, "legs", "Lower_Clothing", offset, slack, thickness, stretch, stiffness)


_COAT_SKIRT = Piece(skirt_edges, "skirt", "Upper_Clothing", 0.016, 0.02, 0.005, 1.0, 0.8)

STYLES: dict[str, tuple[Piece, ...]] = {
    "socks": (Piece(sock_edges, "tight", "Sock", 0.0024, 0.0, 0.002),),
    "tights": (Piece(tights_edges, "tight", "Lower_Clothing", 0.0022, 0.0, 0.001),),
    "leggings": (Piece(leg_edges, "tight", "Lower_Clothing", 0.003, 0.0, 0.0015),),
    "briefs": (Piece(leg_edges, "tight", "Lower_Clothing", 0.004, 0.0, 0.002),),
    "trousers": (_legs(0.006, 0.03, 0.003, 1.04, 0.3),),
    "chinos": (_legs(0.006, 0.022, 0.003, 1.04, 0.3),),
    "jeans": (_legs(0.005, 0.016, 0.004, 1.03, 0.35),),
    "joggers": (_legs(0.007, 0.03, 0.004, 1.05, 0.4),),
    "shorts": (_legs(0.006, 0.035, 0.003, 1.02, 0.4),),
    "skirt": (Piece(skirt_edges, "skirt", "Lower_Clothing", 0.006, 0.02, 0.003, 1.0, 0.3),),
    "bra": (Piece(upper_edges, "tight", "Upper_Clothing", 0.004, 0.0, 0.003),),
    "tshirt": (_upper(0.007, 0.016, 0.003, 1.02, 0.3),),
    "tank": (_upper(0.006, 0.010, 0.003, 1.01, 0.3),),
    "polo": (_upper(0.007, 0.014, 0.003, 1.02, 0.3),),
    "shirt": (_upper(0.008, 0.016, 0.003, 1.04, 0.25),),
    "sweater": (_upper(0.011, 0.020, 0.006, 1.04, 0.5),),
    "turtleneck": (Piece(high_neck_edges, "upper", "Upper_Clothing", 0.009, 0.016, 0.005, 1.03, 0.4),),
    "hoodie": (_upper(0.012, 0.024, 0.007, 1.05, 0.5),),
    "vest": (_upper(0.014, 0.012, 0.005, 1.0, 0.7),),
    "cardigan": (_upper(0.013, 0.018, 0.005, 1.04, 0.5),),
    "jacket": (_upper(0.016, 0.020, 0.006, 1.03, 0.6),),
    "blazer": (_upper(0.015, 0.016, 0.006, 1.02, 0.8),),
    "coat": (_COAT_SKIRT, _upper(0.018, 0.020, 0.007, 1.02, 0.8)),
    "dress": (
        Piece(skirt_edges, "skirt", "Upper_Clothing", 0.006, 0.02, 0.003, 1.0, 0.2),
        _upper(0.007, 0.008, 0.003, 1.01, 0.25),
    ),
}


@dataclass(frozen=True)
class Dressed:
    """What a person wears: surfaces; per template vertex whether they hide it, how far skin is drawn in under
    them, and how deep it lies inside their cuts (negative outside), metres.
    """

    surfaces: tuple[Surface, ...]
    hidden: Bool[np.ndarray, " v"]
    sunk: Float64[np.ndarray, " v"]
    depth: Float64[np.ndarray, " v"]


def dress(
    garments: tuple[GarmentSpec, ...], shape: Shape, skeleton: Skeleton, posed: Points, model: BodyModel
) -> Dressed:
    """Builds the garments from the skin outwards, shoes and accessories; each keeps off the body and off
    those below it. Kinds that are not known here (assets) are left to others.
    """
    cloths = [g for g in garments if g.kind in STYLES]
    floor = shoe_top(garments, shape, model)
    under = [body_solid(model, posed)]
    arm, arms = arm_weight(), posed[_arm_skin()]
    hidden = shape.vertices[:, 2] < floor
    depth = np.where(hidden, 1.0, -1.0)
    surfaces: list[Surface] = []
    for index, garment in enumerate(cloths):
        for piece in STYLES[garment.kind]:
            shell, bones = _cut_and_shaped(garment, piece, shape)
            tuck = _tuck(shell, piece, cloths[index + 1 :])
            shell = _tucked(shell, tuck, piece)
            shell = _fit(pose_shell(shell, bones, skeleton), garment, piece, under, tuck)
            shell = replace(shell, posed=pressed(shell.posed, shell.faces, shell.arm < 0.3, arms))
            under.append((shell.posed, shell.normals()))
            buried = _buried(shell, cloths[index + 1 :])
            if piece.part == "Sock" or garment.kind == "tights":
                buried |= shell.rest[:, 2] < floor
            surfaces += _finish(drop_hidden(shell, buried), garment, piece, under)
        hidden |= _hides(garment, model.template, arm)
        depth = np.maximum(depth, _depth(garment, model.template, arm))
    sunk = _sunk(np.where(hidden, -1.0, depth), under[0], under[1:], model)
    surfaces += [
        s for g in garments if g.kind in SHOES for s in build_shoes(g, shape, skeleton, posed, model)
    ]
    wearer = Wearer(shape, skeleton, posed, tuple(under), model)
    surfaces += [s for g in garments if g.kind in ACCESSORIES for s in ACCESSORIES[g.kind](g, wearer)]
    return Dressed(tuple(surfaces), hidden, sunk, depth)


@lru_cache(maxsize=1)
def _arm_skin() -> Int32[np.ndarray, " n"]:
    """Template vertices of forearms and hands."""
    model, weights = body_model(), region_weights()
    part = sum(weights[f"{region}.{side}"] for region in ("Lower_Arm", "Hand") for side in "LR")
    skin = np.unique(model.quads["body"])
    return np.asarray(skin[np.asarray(part)[skin] > 0.5], dtype=np.int32)


def _sunk(depth: Field, body: Solid, cloths: list[Solid], model: BodyModel) -> Field:
    """How far skin inside cuts is drawn in: 3 mm, and more where it would come through the cloth over it, as
    folds do beside a waistband.
    """
    sunk = np.where(depth > 0, SUNK, 0.0)
    skin = np.unique(model.quads["body"])
    beside = depth[skin] > -BESIDE
    if not cloths or not beside.any():
        return sunk
    points, normals = body[0][beside], body[1][beside]
    over, outward = (np.concatenate([solid[i] for solid in cloths]) for i in range(2))
    _, near = cKDTree(over).query(points, k=4)
    step = points[:, None] - over[near]
    height = (step * outward[near]).sum(2)
    aside = (step * step).sum(2) - height * height
    through = (aside < 0.02**2) & (height < 0.04) & ((outward[near] * normals[:, None]).sum(2) > 0.2)
    lack = np.where(through & (height > -SUNK), height + SUNK, 0.0).max(1)
    sunk[skin[beside]] = np.maximum(sunk[skin[beside]], lack)
    return sunk


def _depth(garment: GarmentSpec, template: Points, arm: Field) -> Field:
    """How deep template points lie inside a garment's cut, metres; negative outside."""
    depths = [level(p.edges, template, arm, garment.cut) for p in STYLES[garment.kind]]
    return np.asarray(np.max(np.stack(depths), axis=0))


def _hides(garment: GarmentSpec, template: Points, arm: Field) -> Bool[np.ndarray, " v"]:
    """What is so far inside a garment that it cannot be seen through its openings."""
    hidden = np.zeros(len(template), dtype=bool)
    for piece in STYLES[garment.kind]:
        depth = SKIRT_DEPTH if piece.fit == "skirt" else HIDDEN_DEPTH
        hidden |= level(piece.edges, template, arm, garment.cut) > depth
    return hidden


def _buried(shell: Shell, over: list[GarmentSpec]) -> Bool[np.ndarray, " v"]:
    buried = np.zeros(len(shell.arm), dtype=bool)
    for garment in over:
        buried |= _hides(garment, shell.template, shell.arm)
    return buried


def _cut_and_shaped(
    garment: GarmentSpec, piece: Piece, shape: Shape
) -> tuple[Shell, Int32[np.ndarray, " b"]]:
    """A piece of a garment on the unposed body, and the bones of its weights."""
    shell, bones = helper_shell("helper-skirt" if piece.fit == "skirt" else "helper-tights", shape, 1)
    shell = cut_shell(shell, level(piece.edges, shell.template, shell.arm, garment.cut))
    if piece.fit == "upper":
        return upper_shape(shell, garment.cut, piece.offset, piece.slack), bones
    if piece.fit == "legs":
        return leg_shape(shell, garment.cut, piece.offset, piece.slack), bones
    if piece.fit == "skirt":
        return skirt_shape(shell, garment.cut), bones
    return tight_shape(shell, piece.offset), bones


def _tuck(shell: Shell, piece: Piece, over: list[GarmentSpec]) -> Field:
    """How much of a top is held against the body by trousers or a skirt over it, 0..1."""
    tuck = np.zeros(len(shell.arm))
    for garment in over if piece.fit == "upper" else []:
        for outer in STYLES[garment.kind]:
            if outer.part == "Lower_Clothing":
                depth = level(outer.edges, shell.template, shell.arm, garment.cut)
                tuck = np.maximum(tuck, np.clip(1.0 + depth / BLOUSE, 0.0, 1.0))
    return tuck


def _tucked(shell: Shell, tuck: Field, piece: Piece) -> Shell:
    """The shell with what is tucked in lying on the body, and blousing above."""
    if not tuck.any():
        return shell
    flat = shell.bare + piece.offset * vertex_normals(shell.bare, shell.faces)
    return replace(shell, rest=shell.rest + tuck[:, None] * (flat - shell.rest))


def _fit(shell: Shell, garment: GarmentSpec, piece: Piece, under: list[Solid], tuck: Field) -> Shell:
    """Posed cloth: draped over everything below it; what is tight just lies on it."""
    if not len(shell.faces):
        return shell
    posed = smooth(shell.posed, shell.faces, 2, np.where(shell.edge > 0.004, 0.5, 0.1))
    if piece.fit == "tight":
        return replace(shell, posed=push_out(posed, shell.faces, under[:1], piece.offset * 0.75))
    if piece.fit == "skirt":
        posed = _spanned(posed, shell)
    normals = vertex_normals(posed, shell.faces)
    field = waves(shell.rest * np.array([1.0, 1.0, 0.55]), int(garment.cut["seed"]), (0.16, 0.1, 0.07))
    posed = posed + normals * (0.003 * field * np.clip(shell.edge / 0.02, 0.1, 1))[:, None]
    feel = Feel(piece.offset * 0.8, piece.stretch, piece.stiffness)
    hold = np.maximum(_hold(shell, garment, piece), 0.9 * tuck)
    draped = drape(posed, shell.rest, shell.faces, hold, under, feel)
    return replace(shell, posed=even_edges(draped, shell.faces, 5))


def _hold(shell: Shell, garment: GarmentSpec, piece: Piece) -> Field:
    """How firmly cloth stays where the body's skinning puts it: waistbands, necklines, cuffs."""
    edges = piece.edges(shell.template, shell.arm, garment.cut)
    hold = np.full(len(shell.arm), 0.0 if piece.fit == "skirt" else 0.05)
    for name, firmness in (("waist", 0.8), ("neck", 0.35), ("top", 0.5), ("sleeve", 0.1), ("front", 0.1)):
        if name in edges:
            hold = np.maximum(hold, firmness * np.clip(1 - edges[name] / 0.035, 0, 1))
    return np.asarray(hold)


def _spanned(posed: Points, shell: Shell) -> Points:
    """Evens out what single legs did to a skirt: it spans between them."""
    weight = np.clip((0.05 - shell.template[:, 2]) / 0.2, 0, 1) * 0.5
    even = smooth(posed, shell.faces, 16, weight)
    return np.concatenate([even[:, :2], 0.5 * (even[:, 2:] + posed[:, 2:])], axis=1)


def _finish(shell: Shell, garment: GarmentSpec, piece: Piece, under: list[Solid]) -> list[Surface]:
    """Hems, normals, uv, labels and trimmings."""
    if not len(shell.faces):
        return []
    normals = vertex_normals(shell.posed, shell.faces)
    vertices, faces, source = with_hem(shell.posed, normals, shell.faces, piece.thickness, 0.02)
    edges = piece.edges(shell.template, shell.arm, garment.cut)
    top = np.min(np.stack([edges[n] for n in ("neck", "waist", "top") if n in edges]), axis=0)
    cloth = Surface(
        name=garment.kind,
        vertices=vertices,
        faces=faces,
        normals=vertex_normals(vertices, faces),
        uv=_uv(shell.template[source], shell.arm[source], faces, legs=piece.fit != "skirt"),
        part_ids=_parts(shell.template[source], faces, piece, garment),
        material=cloth_material(garment.fabric, MARKS.get(garment.kind, ()), garment.cut),
        attributes={"edge": np.clip(shell.edge, 0, 0.1)[source], "top": np.clip(top, 0, 0.1)[source]},
    )
    return [cloth, *trimmings(shell, garment, piece.fit, under)]


def _parts(
    template: Points, faces: Int32[np.ndarray, "f 3"], piece: Piece, garment: GarmentSpec
) -> np.ndarray:
    """Class per triangle: one for all, but socks by side; the feet of tights are socks."""
    corner = template[faces]
    if piece.part != "Sock":
        parts = constant_parts(faces, PART[piece.part])
        sock = corner[..., 2].mean(1) < (TOE_Z if garment.kind == "tights" else -9.0)
    else:
        parts = constant_parts(faces, 0)
        sock = np.ones(len(faces), dtype=bool)
    side = np.where(corner[..., 0].mean(1) < 0, PART["Right_Sock"], PART["Left_Sock"])
    return np.asarray(np.where(sock, side, parts), dtype=np.uint8)


def _uv(
    template: Points, arm: Field, faces: Int32[np.ndarray, "f 3"], *, legs: bool
) -> Float64[np.ndarray, "f 3 2"]:
    """Texture coordinates in metres, by cloth panel: front and back of the trunk, sleeves, and trouser legs
    where there are some.
    """
    corner, centre = template[faces], template[faces].mean(1)
    sleeve = arm[faces].mean(1) > 0.5
    leg = ~sleeve & (centre[:, 2] < -0.02) & legs
    side = np.where(centre[:, :1] >= 0, 1.0, -1.0)
    flank = np.clip(corner[..., 0] / 0.1, -1, 1)
    front = corner[..., 0] + 0.7 * flank * (corner[..., 1] + 0.12)
    back = 1.0 + corner[..., 0] - 0.7 * flank * (corner[..., 1] - 0.08)
    around = np.where(centre[:, 1:2] < -0.01, front, back)
    along = corner[..., 2]
    fore = unit(ELBOW - SHOULDER)
    mirrored = corner * np.stack([side, np.ones_like(side), np.ones_like(side)], axis=2) - SHOULDER
    across = mirrored - fore * (mirrored * fore).sum(2, keepdims=True)
    around_arm = 2.0 + _wrap(np.arctan2(across[..., 1], -across[..., 2])) * 0.055
    around_leg = 4.0 + _wrap(np.arctan2(corner[..., 0] - side * 0.14, -corner[..., 1])) * 0.085
    along_sleeve = along_arm(corner.reshape(-1, 3)).reshape(along.shape) * 0.23 + 1.0
    u = np.where(sleeve[:, None], around_arm, np.where(leg[:, None], around_leg, around))
    return np.stack([u, np.where(sleeve[:, None], along_sleeve, along)], axis=2)


def _wrap(angle: Float64[np.ndarray, "f 3"]) -> Float64[np.ndarray, "f 3"]:
    """Angles of a triangle's corners without a jump of a full turn between them."""
    return np.asarray(angle - 2 * np.pi * np.rint((angle - angle[:, :1]) / (2 * np.pi)))
