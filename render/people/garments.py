"""Garments: cuts as scalar fields on the template, fit (ease, flare, drape), wrinkles, hems, labels.

Cut parameters: hem, neck, rise, ease, flare in 0..1; sleeve and leg count joints (1 elbow or knee, 2 wrist
or ankle).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int32

from render.people.body import BodyModel, Shape, Skeleton
from render.people.cloth import (
    Shell,
    Solid,
    arm_weight,
    body_solid,
    cut_shell,
    drop_hidden,
    helper_shell,
    pose_shell,
    push_out,
    waves,
    with_hem,
)
from render.people.looks import fabric_material
from render.people.mesh import constant_parts, smooth, unit, vertex_normals
from render.people.parts import PART
from render.people.shoes import shoe_top
from render.people.spec import GarmentSpec
from render.person import Surface

HIP_Z, KNEE_Z, ANKLE_Z = 0.049, -0.369, -0.745  # joint heights of the rest template, metres
SHOULDER, ELBOW, WRIST = (
    np.array([0.168, -0.015, 0.525]),
    np.array([0.313, -0.013, 0.349]),
    np.array([0.431, -0.176, 0.245]),
)
HIDDEN_DEPTH = 0.022  # skin this far inside a garment's cut is removed, metres

Points = Float64[np.ndarray, "v 3"]
Field = Float64[np.ndarray, " v"]
Cut = Mapping[str, float]


@dataclass(frozen=True)
class Style:
    """What a kind of garment is: the field that cuts it (positive inside), its layer and its label."""

    level: Callable[[Points, Field, Cut], Field]
    part: str
    offset: float  # metres off the skin at the tightest
    slack: float  # metres more where it hangs loose, at ease 1
    thickness: float
    wrinkles: float  # metres


def along_arm(template: Points) -> Field:
    """Place along the arm: 0 shoulder, 1 elbow, 2 wrist (either side)."""
    mirrored = np.concatenate([np.abs(template[:, :1]), template[:, 1:]], axis=1)
    upper, fore = ELBOW - SHOULDER, WRIST - ELBOW
    first = ((mirrored - SHOULDER) * upper).sum(1) / (upper * upper).sum()
    second = ((mirrored - ELBOW) * fore).sum(1) / (fore * fore).sum()
    return np.asarray(np.where(second > 0, 1.0 + second, np.minimum(first, 1.0)))


def leg_height(leg: float) -> float:
    """Template height of a place along the leg: 0 hip joint, 1 knee, 2 ankle."""
    return float(np.interp(leg, (0, 1, 2), (HIP_Z, KNEE_Z, ANKLE_Z)))


def _top(template: Points, arm: Field, cut: Cut, hem: float, high: float = 0.0) -> Field:
    sleeve = (cut["sleeve"] - along_arm(template)) * 0.23
    if cut["sleeve"] <= 0.0:
        sleeve = (
            0.185
            - np.abs(template[:, 0])
            - 0.25 * (template[:, 2] - 0.52)
            - 0.4 * arm * (template[:, 2] < 0.45)
        )
    free = np.where(arm > 0.05, np.minimum(1.0, arm * 4), 0.0)
    bottom = template[:, 2] - hem + free
    sleeve = np.where(arm > 0.02, sleeve, 0.3) if cut["sleeve"] > 0 else sleeve
    depth = cut["neck"] * (1 - high)
    centre = np.array([0.0, -0.035 - 0.035 * depth, 0.605])
    radii = np.array([0.066 + 0.035 * depth, 0.072 + 0.022 * depth, 0.040 + 0.065 * depth])
    ball = np.sqrt((((template - centre) / radii) ** 2).sum(1))
    neck = (ball - 1.0) * 0.07 if high < 1 else np.full(len(template), 0.3)
    return np.asarray(np.minimum(np.minimum(bottom, sleeve), np.minimum(neck, 0.612 - template[:, 2] + free)))


def _tshirt(template: Points, arm: Field, cut: Cut) -> Field:
    return _top(template, arm, cut, 0.03 - 0.09 * cut["hem"])


def _jacket(template: Points, arm: Field, cut: Cut) -> Field:
    whole = _top(template, arm, cut, 0.02 - 0.1 * cut["hem"], 0.6)
    height = np.clip((template[:, 2] - 0.0) / 0.5, 0, 1)
    opening = np.abs(template[:, 0]) - (0.045 + 0.03 * np.abs(height - 0.55))
    front = np.where(template[:, 1] < -0.03, opening, 0.3)
    return np.minimum(whole, front)


def _dress_top(template: Points, arm: Field, cut: Cut) -> Field:
    return _top(template, arm, cut, 0.10)


def _trousers(template: Points, arm: Field, cut: Cut) -> Field:
    waist = 0.105 + 0.05 * cut["rise"] - template[:, 2]
    hem = template[:, 2] - leg_height(cut["leg"])
    return np.asarray(np.minimum(waist, hem) - 3.0 * (arm > 0.02))


def _skirt(template: Points, arm: Field, cut: Cut) -> Field:
    waist = 0.12 + 0.05 * cut.get("rise", 0.5) - template[:, 2]
    hem = template[:, 2] - leg_height(2 * cut["length"])
    return np.asarray(np.minimum(waist, hem) - 3.0 * (arm > 0.02))


def _socks(template: Points, arm: Field, cut: Cut) -> Field:
    top = -0.70 + 0.14 * cut["height"] - template[:, 2]
    return top - 3.0 * (arm > 0.02)


STYLES: dict[str, Style] = {
    "socks": Style(_socks, "sock", 0.0022, 0.0, 0.002, 0.0006),
    "trousers": Style(_trousers, "Lower_Clothing", 0.006, 0.03, 0.003, 0.004),
    "jeans": Style(_trousers, "Lower_Clothing", 0.005, 0.02, 0.004, 0.004),
    "shorts": Style(_trousers, "Lower_Clothing", 0.006, 0.035, 0.003, 0.003),
    "skirt": Style(_skirt, "Lower_Clothing", 0.006, 0.02, 0.003, 0.002),
    "tshirt": Style(_tshirt, "Upper_Clothing", 0.009, 0.018, 0.003, 0.003),
    "tank": Style(_tshirt, "Upper_Clothing", 0.008, 0.008, 0.003, 0.002),
    "shirt": Style(_tshirt, "Upper_Clothing", 0.010, 0.018, 0.003, 0.005),
    "sweater": Style(_tshirt, "Upper_Clothing", 0.012, 0.022, 0.006, 0.004),
    "dress": Style(_dress_top, "Upper_Clothing", 0.008, 0.006, 0.003, 0.002),
    "jacket": Style(_jacket, "Upper_Clothing", 0.017, 0.02, 0.006, 0.005),
}


@dataclass(frozen=True)
class Dressed:
    """The clothes of a person: surfaces, and what they hide of the body (per template vertex)."""

    surfaces: tuple[Surface, ...]
    hidden: Bool[np.ndarray, " v"]
    tucked: Bool[np.ndarray, " v"]


def dress(
    garments: tuple[GarmentSpec, ...], shape: Shape, skeleton: Skeleton, posed: Points, model: BodyModel
) -> Dressed:
    """Builds the garments from the skin outwards; each keeps off the body and off those below it."""
    cloths = [g for g in garments if g.kind in STYLES]
    floor = shoe_top(garments, shape, model)
    under = [body_solid(model, posed)]
    arm = arm_weight()
    hidden = shape.vertices[:, 2] < floor
    tucked = hidden.copy()
    surfaces: list[Surface] = []
    for index, garment in enumerate(cloths):
        style = STYLES[garment.kind]
        for piece in _pieces(garment, shape, skeleton, style):
            outer = [_covers(over, piece.template, piece.arm) for over in cloths[index + 1 :]]
            fitted = _fit(piece, garment, style, under)
            under.append((fitted.posed, fitted.normals()))
            buried = (
                np.any([c > HIDDEN_DEPTH for c in outer], axis=0) if outer else np.zeros(len(piece.arm), bool)
            )
            if style.part == "sock":
                buried |= piece.rest[:, 2] < floor
            surfaces += _finish(drop_hidden(fitted, buried), garment, style)
        depth = _covers(garment, model.template, arm)
        hidden |= depth > HIDDEN_DEPTH
        tucked |= depth > 0.0
    return Dressed(tuple(surfaces), hidden, tucked)


def _covers(garment: GarmentSpec, template: Points, arm: Field) -> Field:
    """How deep template points lie inside a garment's cut, metres; negative outside."""
    depth = STYLES[garment.kind].level(template, arm, garment.cut)
    if garment.kind == "dress":
        depth = np.maximum(depth, _skirt(template, arm, garment.cut))
    return depth


def _pieces(garment: GarmentSpec, shape: Shape, skeleton: Skeleton, style: Style) -> list[Shell]:
    """The garment's shells, fitted at rest and posed."""
    made = []
    if garment.kind != "skirt":
        shell, bones = helper_shell("helper-tights", shape, 1)
        shell = cut_shell(shell, style.level(shell.template, shell.arm, garment.cut))
        shell = _ease(shell, garment, style, shape)
        made.append(pose_shell(shell, bones, skeleton))
    if garment.kind in ("skirt", "dress"):
        shell, bones = helper_shell("helper-skirt", shape, 1)
        shell = cut_shell(shell, _skirt(shell.template, shell.arm, garment.cut))
        shell = _flare(shell, garment.cut)
        made.append(_settle_skirt(pose_shell(shell, bones, skeleton)))
    return made


def _ease(shell: Shell, garment: GarmentSpec, style: Style, shape: Shape) -> Shell:
    """Loosens a shell at rest: off the skin, wider at the waist, sleeves and legs as straight tubes."""
    cut, template = garment.cut, shell.template
    ease = cut.get("ease", 0.0)
    normals = vertex_normals(shell.rest, shell.faces)
    torso = np.clip((0.42 - template[:, 2]) / 0.25, 0, 1) * (1 - shell.arm)
    sleeve = np.clip(along_arm(template), 0, 2) / 2 * shell.arm
    upper = style.part == "Upper_Clothing"
    loose = np.maximum(torso, 0.75 * sleeve) if upper else np.clip((0.05 - template[:, 2]) / 0.2, 0, 1) * 0.4
    rest = shell.rest + normals * (style.offset + style.slack * ease * loose)[:, None]
    if garment.kind in ("trousers", "jeans", "shorts"):
        rest = _tube_legs(rest, template, cut)
    steps = 2 if garment.kind == "socks" else 10 if upper else 6
    return replace(shell, rest=smooth(rest, shell.faces, steps, np.where(shell.edge > 0.004, 0.5, 0.15)))


def _tube_legs(rest: Points, template: Points, cut: Cut) -> Points:
    """Widens trouser legs below the thigh towards a hanging tube of nearly constant width."""
    out = rest.copy()
    place = np.interp(-template[:, 2], (-HIP_Z, -KNEE_Z, -ANKLE_Z), (0.0, 1.0, 2.0))
    for sign in (1.0, -1.0):
        leg = np.flatnonzero((template[:, 0] * sign > 0.0) & (place > 0.3))
        if len(leg) < 20:
            continue
        levels = np.linspace(0.3, 2.0, 18)
        centres, radii = np.empty((18, 2)), np.empty(18)
        for i, level in enumerate(levels):
            near = leg[np.argsort(np.abs(place[leg] - level), kind="stable")[:40]]
            centres[i] = (rest[near, :2].min(0) + rest[near, :2].max(0)) / 2
            radii[i] = np.sqrt(((rest[near, :2] - centres[i]) ** 2).sum(1)).mean()
        wide = radii.copy()
        ratio = 0.80 + 0.14 * cut["ease"] + 0.12 * cut["flare"]
        wide = np.maximum(
            wide, radii[0] * np.interp(levels, (0.3, 2.0), (1.0, ratio * (0.72 + 0.25 * cut["flare"])))
        )
        scale = np.interp(place[leg], levels, wide / radii)
        middle = np.stack([np.interp(place[leg], levels, centres[:, c]) for c in range(2)], axis=1)
        blend = np.clip((place[leg] - 0.3) / 0.5, 0, 1)[:, None]
        out[leg, :2] += blend * (scale[:, None] - 1.0) * (rest[leg, :2] - middle)
    return out


def _flare(shell: Shell, cut: Cut) -> Shell:
    """Gives the helper skirt its width: from a pencil to an A line, with folds that grow towards the hem."""
    rest = shell.rest.copy()
    top = float(rest[:, 2].max())
    down = np.clip(top - rest[:, 2], 0, None)
    middle = rest[:, :2][shell.edge > -1].mean(0)
    angle = np.arctan2(rest[:, 0] - middle[0], middle[1] - rest[:, 1])
    folds = np.sin(angle * round(7 + 5 * cut["flare"]) + 1.7 * np.sin(angle * 3 + cut["seed"]))
    narrow = 0.80 + 0.35 * cut["flare"]
    width = 1.0 + np.clip(down / 0.35, 0, 1) * (narrow - 1.0)
    rest[:, :2] = (
        middle
        + (rest[:, :2] - middle) * (width + 0.11 * cut["flare"] * folds * np.clip(down / 0.5, 0, 1))[:, None]
    )
    return replace(shell, rest=smooth(rest, shell.faces, 2, np.where(shell.edge > 0.003, 0.5, 0.1)))


def _settle_skirt(shell: Shell) -> Shell:
    """Evens out what single legs did to the cloth: it spans between them."""
    weight = np.clip((0.05 - shell.template[:, 2]) / 0.2, 0, 1) * 0.5
    posed = shell.posed
    height = smooth(posed, shell.faces, 30, weight)
    return replace(shell, posed=np.concatenate([height[:, :2], 0.5 * (height[:, 2:] + posed[:, 2:])], axis=1))


def _fit(shell: Shell, garment: GarmentSpec, style: Style, under: list[Solid]) -> Shell:
    """Posed cloth: smoothed where it bunches, kept off everything below, with folds."""
    posed = smooth(shell.posed, shell.faces, 2, np.where(shell.edge > 0.004, 0.5, 0.1))
    posed = push_out(posed, shell.faces, under, style.offset * 0.75)
    normals = vertex_normals(posed, shell.faces)
    seed = int(garment.cut["seed"])
    field = waves(shell.rest * np.array([1.0, 1.0, 0.8]), seed, (0.21, 0.13, 0.09, 0.06))
    folds = 1.0 - 2.0 * np.abs(field)
    bend = _bending(shell)
    posed = (
        posed
        + normals
        * (style.wrinkles * folds * (0.5 + 1.5 * bend) * np.clip(shell.edge / 0.02, 0.15, 1))[:, None]
    )
    return replace(shell, posed=push_out(posed, shell.faces, under, style.offset * 0.6, rounds=2))


def _bending(shell: Shell) -> Field:
    """1 near elbows, knees, armpits and crotch, where cloth folds most."""
    at = along_arm(shell.template)
    elbow = np.exp(-(((at - 1.0) / 0.3) ** 2)) * (shell.arm > 0.5)
    knee = np.exp(-(((shell.template[:, 2] - KNEE_Z) / 0.09) ** 2)) * (shell.arm < 0.1)
    waist = np.exp(-(((shell.template[:, 2] - 0.12) / 0.08) ** 2)) * (shell.arm < 0.1) * 0.6
    return np.asarray(np.maximum(np.maximum(elbow, knee), waist))


def _finish(shell: Shell, garment: GarmentSpec, style: Style) -> list[Surface]:
    """Hems, normals, uv and labels; socks become one surface per side."""
    if not len(shell.faces):
        return []
    normals = vertex_normals(shell.posed, shell.faces)
    vertices, faces, source = with_hem(shell.posed, normals, shell.faces, style.thickness, 0.02)
    part = constant_parts(faces, PART["Left_Sock"] if style.part == "sock" else PART[style.part])
    if style.part == "sock":
        right = shell.template[source][faces, 0].mean(1) < 0
        part[right] = PART["Right_Sock"]
    seed = int(garment.cut["seed"])
    fold = np.clip(-waves(shell.rest, seed, (0.21, 0.13, 0.09, 0.06)), 0, 1)[source]
    seam = (np.abs(shell.edge - 0.018) < 0.0016).astype(np.float64)[source]
    return [
        Surface(
            name=garment.kind,
            vertices=vertices,
            faces=faces,
            normals=vertex_normals(vertices, faces),
            uv=_uv(shell.template[source], shell.arm[source], faces),
            part_ids=part,
            material=fabric_material(garment.fabric),
            attributes={"fold": fold, "seam": seam},
        )
    ]


def _uv(template: Points, arm: Field, faces: Int32[np.ndarray, "f 3"]) -> Float64[np.ndarray, "f 3 2"]:
    """Texture coordinates in metres, by cloth panel: front and back of the trunk, sleeves, trouser legs."""
    corner, centre = template[faces], template[faces].mean(1)
    sleeve = arm[faces].mean(1) > 0.5
    leg = ~sleeve & (centre[:, 2] < -0.02)
    side = np.where(centre[:, :1] >= 0, 1.0, -1.0)
    flank = np.clip(corner[..., 0] / 0.1, -1, 1)
    front = corner[..., 0] + 0.7 * flank * (corner[..., 1] + 0.12)
    back = 1.0 + corner[..., 0] - 0.7 * flank * (corner[..., 1] - 0.08)
    around = np.where(centre[:, 1:2] < -0.01, front, back)
    along = corner[..., 2]
    fore = unit(ELBOW - SHOULDER)
    mirrored = corner * np.stack([side, np.ones_like(side), np.ones_like(side)], axis=2) - SHOULDER
    across = mirrored - fore * (mirrored * fore).sum(2, keepdims=True)
    around_arm = _wrap(np.arctan2(across[..., 1], -across[..., 2])) * 0.055
    around_leg = _wrap(np.arctan2(corner[..., 0] - side * 0.14, -corner[..., 1])) * 0.085
    along_sleeve = along_arm(corner.reshape(-1, 3)).reshape(along.shape) * 0.23 + 1.0
    u = np.where(sleeve[:, None], around_arm, np.where(leg[:, None], around_leg, around))
    return np.stack([u, np.where(sleeve[:, None], along_sleeve, along)], axis=2)


def _wrap(angle: Float64[np.ndarray, "f 3"]) -> Float64[np.ndarray, "f 3"]:
    """Angles of a triangle's corners without a jump of a full turn between them."""
    return np.asarray(angle - 2 * np.pi * np.rint((angle - angle[:, :1]) / (2 * np.pi)))
