"""Garments at rest: how much room a cut leaves, before the cloth is draped over a pose."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from render.people.cloth import Shell
from render.people.cuts import ANKLE_Z, HIP_Z, KNEE_Z, along_arm
from render.people.mesh import smooth, vertex_normals

Points = Float64[np.ndarray, "v 3"]
Cut = Mapping[str, float]
ANGLES = 32
TRUNK_Z = (0.47, 0.37)  # template heights between which a top goes from lying on the chest to hanging


def upper_shape(shell: Shell, cut: Cut, offset: float, slack: float) -> Shell:
    """A top: off the skin, sleeves as tubes, the trunk hanging from chest, belly and seat."""
    ease = cut.get("ease", 0.0)
    normals = vertex_normals(shell.rest, shell.faces)
    sleeve = np.clip(along_arm(shell.template), 0, 2) / 2
    loose = 0.25 + 0.6 * np.sin(np.pi * np.clip(sleeve, 0, 1)) * shell.arm  # at the elbow, not at the cuff
    rest = shell.rest + normals * (offset + slack * ease * loose)[:, None]
    rest = _hung(rest, shell, ease, offset + 0.5 * slack * ease)
    return replace(shell, rest=smooth(rest, shell.faces, 6, np.where(shell.edge > 0.004, 0.5, 0.2)))


def leg_shape(shell: Shell, cut: Cut, offset: float, slack: float) -> Shell:
    """Trousers: off the skin, from the thigh down a hanging tube."""
    normals = vertex_normals(shell.rest, shell.faces)
    low = np.clip((0.05 - shell.template[:, 2]) / 0.2, 0, 1) * 0.4
    rest = shell.rest + normals * (offset + slack * cut["ease"] * low)[:, None]
    rest = _tube_legs(rest, shell.template, cut)
    return replace(shell, rest=smooth(rest, shell.faces, 6, np.where(shell.edge > 0.004, 0.5, 0.15)))


def tight_shape(shell: Shell, offset: float) -> Shell:
    """Tights, socks and what else lies on the skin."""
    rest = shell.rest + offset * vertex_normals(shell.rest, shell.faces)
    return replace(shell, rest=smooth(rest, shell.faces, 2, np.where(shell.edge > 0.004, 0.5, 0.15)))


def skirt_shape(shell: Shell, cut: Cut) -> Shell:
    """A skirt's width, from a pencil to a circle, with folds or pleats that grow towards the hem."""
    rest = shell.rest.copy()
    top = float(rest[:, 2].max())
    down = np.clip(top - rest[:, 2], 0, None)
    middle = rest[:, :2].mean(0)
    angle = np.arctan2(rest[:, 0] - middle[0], middle[1] - rest[:, 1])
    soft = np.sin(angle * round(7 + 5 * cut["flare"]) + 1.7 * np.sin(angle * 3 + cut["seed"]))
    pleats = 2 / np.pi * np.arcsin(np.sin(angle * 26))
    folds = np.where(cut.get("pleats", 0.0) > 0.5, 0.5 * pleats, soft)
    width = 1.0 + np.clip(down / 0.35, 0, 1) * (0.86 + 0.5 * cut["flare"] - 1.0)
    depth = 0.12 * cut["flare"] * folds * np.clip(down / 0.45, 0, 1)
    rest[:, :2] = middle + (rest[:, :2] - middle) * (width + depth)[:, None]
    return replace(shell, rest=smooth(rest, shell.faces, 1, np.where(shell.edge > 0.003, 0.5, 0.1)))


def _hung(rest: Points, shell: Shell, ease: float, room: float) -> Points:
    """Moves the trunk out to the convex outline of the body at each height, and of what is above it when
    loose.
    """
    template = shell.template
    amount = np.clip((TRUNK_Z[0] - template[:, 2]) / (TRUNK_Z[0] - TRUNK_Z[1]), 0, 1) * np.clip(
        1 - 2.5 * shell.arm, 0, 1
    )
    trunk = np.flatnonzero(amount > 0)
    if len(trunk) < 50:
        return rest
    low = float(template[trunk, 2].min())
    levels = np.linspace(TRUNK_Z[0], low, max(4, round((TRUNK_Z[0] - low) / 0.025)))
    centre = np.array([0.0, float(np.median(rest[trunk, 1]))])
    flat = rest[trunk, :2] - centre
    reach = _supports(flat, template[trunk, 2], levels)
    fall = 0.0015 + 0.011 * (1 - ease) ** 1.5
    for i in range(1, len(levels)):
        reach[i] = np.maximum(reach[i], reach[i - 1] - fall)
    outline = _outlines(reach) + room
    row = np.interp(-template[trunk, 2], -levels, np.arange(len(levels)))
    turn = np.arctan2(flat[:, 1], flat[:, 0]) / (2 * np.pi) * ANGLES
    target = _bilinear(outline, row, turn)
    radius = np.sqrt((flat * flat).sum(1)) + 1e-9
    wanted = np.maximum(radius, radius + amount[trunk] * (target - radius))
    out = rest.copy()
    out[trunk, :2] = centre + flat * (wanted / radius)[:, None]
    return out


def _supports(
    flat: Float64[np.ndarray, "n 2"], heights: Float64[np.ndarray, " n"], levels: Float64[np.ndarray, " k"]
) -> Float64[np.ndarray, "k a"]:
    """How far the points near each level reach in each direction."""
    angles = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    reach = flat[:, :1] * np.cos(angles) + flat[:, 1:] * np.sin(angles)
    rows: list[np.ndarray] = []
    for height in levels:
        near = np.abs(heights - height) < 0.018
        rows.append(reach[near].max(0) if near.any() else rows[-1])
    return np.stack(rows)


def _outlines(reach: Float64[np.ndarray, "k a"]) -> Float64[np.ndarray, "k a"]:
    """Radii of the convex outlines with the given supports."""
    step = 2 * np.pi / ANGLES
    turns = np.arange(-7, 8)
    around = np.stack([np.roll(reach, -t, axis=1) / np.cos(t * step) for t in turns])
    return np.asarray(around.min(0))


def _bilinear(
    table: Float64[np.ndarray, "k a"], row: Float64[np.ndarray, " n"], turn: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    low, first = np.floor(row).astype(int), np.floor(turn).astype(int)
    s, t = row - low, turn - first
    high, second = np.minimum(low + 1, len(table) - 1), (first + 1) % ANGLES
    first = first % ANGLES
    upper = table[low, first] * (1 - t) + table[low, second] * t
    return np.asarray(upper * (1 - s) + (table[high, first] * (1 - t) + table[high, second] * t) * s)


def _tube_legs(rest: Points, template: Points, cut: Cut) -> Points:
    """Widens trouser legs below the thigh towards a hanging tube of nearly constant width."""
    out = rest.copy()
    place = np.interp(-template[:, 2], (-HIP_Z, -KNEE_Z, -ANKLE_Z), (0.0, 1.0, 2.0))
    levels = np.linspace(0.3, 2.0, 18)
    for sign in (1.0, -1.0):
        leg = np.flatnonzero((template[:, 0] * sign > 0.0) & (place > 0.3))
        if len(leg) < 20:
            continue
        centres, radii = _leg_axis(rest[leg], place[leg], levels)
        ratio = 0.80 + 0.14 * cut["ease"] + 0.12 * cut["flare"]
        wanted = np.interp(levels, (0.3, 2.0), (1.0, ratio * (0.72 + 0.25 * cut["flare"])))
        wide = np.maximum(radii, radii[0] * wanted)
        scale = np.interp(place[leg], levels, wide / radii)
        middle = np.stack([np.interp(place[leg], levels, centres[:, c]) for c in range(2)], axis=1)
        blend = np.clip((place[leg] - 0.3) / 0.5, 0, 1)[:, None]
        out[leg, :2] += blend * (scale[:, None] - 1.0) * (rest[leg, :2] - middle)
    return out


def _leg_axis(
    points: Points, place: Float64[np.ndarray, " v"], levels: Float64[np.ndarray, " k"]
) -> tuple[Float64[np.ndarray, "k 2"], Float64[np.ndarray, " k"]]:
    """Middle and mean radius of a leg at each level."""
    centres, radii = np.empty((len(levels), 2)), np.empty(len(levels))
    for i, at in enumerate(levels):
        near = points[np.argsort(np.abs(place - at), kind="stable")[:40], :2]
        centres[i] = (near.min(0) + near.max(0)) / 2
        radii[i] = np.sqrt(((near - centres[i]) ** 2).sum(1)).mean()
    return centres, radii
