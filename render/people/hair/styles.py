"""Hair styles: how strands are dense, thick, combed, cut and curled."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from render.people.mesh import unit
from render.people.scalp import CROWN
from render.people.spec import HairSpec

Points = Float64[np.ndarray, "n 3"]
Field = Float64[np.ndarray, " n"]
TIES = {
    "ponytail": (0.0, 0.052, 0.790),
    "bun": (0.0, 0.055, 0.785),
    "topknot": (0.0, 0.005, 0.862),
    "braid": (0.0, 0.040, 0.685),
    "braids": (0.066, 0.012, 0.672),
}
"""Where hair is gathered, rest template; with x > 0, on both sides."""


@dataclass(frozen=True)
class Style:
    """One style. Lengths in metres, of the head's own frame.

    comb: a key of `COMBS`, the direction that hair is combed in. strands, segments: how many, and of how many
    pieces each. width: of a strand at its root. lift: out of the scalp at the root. weight: how quickly
    gravity bends a strand, per metre. cling: how closely strands follow the head, 0..1. fade: length at the
    sides as a share of that on top. cut: 1 = one length at the bottom (blunt), 0 = every strand as long as
    the next. lock: distance between the strands that others gather around. clump: how far they do, 0..1.
    frizz: waywardness at the tip. curl: radius of the coils at curl 1; coil: their length. layer: how high
    the outer hair lies above the head.
    """

    comb: str
    strands: int
    segments: int
    width: float
    lift: float
    weight: float
    cling: float
    fade: float
    cut: float
    lock: float
    clump: float
    frizz: float
    curl: float
    coil: float
    layer: float


STYLES: dict[str, Style] = {
    "buzz": Style(
        "whorl", 12800, 2, 0.00045, 0.55, 0.0, 0.0, 0.8, 0.0, 0.004, 0.1, 0.0006, 0.000, 0.02, 0.003
    ),
    "ring": Style(
        "whorl", 10200, 4, 0.00049, 0.30, 6.0, 0.5, 1.0, 0.0, 0.007, 0.4, 0.0012, 0.002, 0.03, 0.004
    ),
    "crop": Style(
        "forward", 10500, 5, 0.00066, 0.45, 4.0, 0.3, 0.45, 0.0, 0.008, 0.55, 0.002, 0.003, 0.02, 0.006
    ),
    "side": Style(
        "across", 9800, 7, 0.00066, 0.30, 5.0, 0.6, 0.35, 0.0, 0.010, 0.55, 0.0022, 0.003, 0.03, 0.008
    ),
    "slick": Style(
        "back", 9800, 7, 0.00066, 0.25, 3.0, 0.8, 0.35, 0.0, 0.010, 0.6, 0.0016, 0.002, 0.04, 0.008
    ),
    "textured": Style(
        "tousled", 9800, 7, 0.00072, 0.60, 4.0, 0.3, 0.45, 0.0, 0.012, 0.75, 0.004, 0.006, 0.03, 0.010
    ),
    "bob": Style(
        "parted", 10200, 8, 0.0007, 0.10, 26.0, 0.8, 1.0, 1.0, 0.012, 0.4, 0.003, 0.006, 0.07, 0.012
    ),
    "shoulder": Style(
        "parted", 9400, 9, 0.00072, 0.10, 24.0, 0.8, 1.0, 0.85, 0.013, 0.5, 0.005, 0.007, 0.08, 0.013
    ),
    "long": Style(
        "parted", 9400, 9, 0.00078, 0.08, 24.0, 0.8, 1.0, 0.7, 0.014, 0.5, 0.006, 0.007, 0.09, 0.013
    ),
    "wavy": Style(
        "parted", 7000, 12, 0.0009, 0.10, 22.0, 0.75, 1.0, 0.6, 0.018, 0.75, 0.007, 0.016, 0.085, 0.017
    ),
    "curly": Style(
        "parted", 5600, 15, 0.00096, 0.16, 18.0, 0.6, 1.0, 0.5, 0.015, 0.85, 0.008, 0.013, 0.040, 0.022
    ),
    "ponytail": Style(
        "tied", 6000, 8, 0.00072, 0.03, 0.0, 1.0, 1.0, 0.0, 0.010, 0.3, 0.0010, 0.000, 0.05, 0.006
    ),
    "bun": Style("tied", 6000, 8, 0.00072, 0.03, 0.0, 1.0, 1.0, 0.0, 0.010, 0.3, 0.0010, 0.000, 0.05, 0.006),
    "topknot": Style(
        "tied", 6000, 8, 0.00072, 0.03, 0.0, 1.0, 1.0, 0.0, 0.010, 0.3, 0.0012, 0.000, 0.05, 0.006
    ),
    "braid": Style(
        "tied", 6000, 8, 0.00072, 0.03, 0.0, 1.0, 1.0, 0.0, 0.010, 0.35, 0.0012, 0.000, 0.05, 0.007
    ),
    "braids": Style(
        "tied", 6000, 8, 0.00072, 0.03, 0.0, 1.0, 1.0, 0.0, 0.010, 0.35, 0.0012, 0.000, 0.05, 0.007
    ),
    "afro": Style(
        "out", 10200, 9, 0.00065, 1.60, 0.0, 0.0, 0.85, 0.0, 0.010, 0.35, 0.005, 0.008, 0.020, 0.01
    ),
    "coily": Style(
        "out", 10600, 8, 0.00065, 1.20, 0.0, 0.0, 0.70, 0.0, 0.007, 0.75, 0.003, 0.006, 0.014, 0.006
    ),
}
"""All styles but `bald`, which has no strands."""


def combed(hair: HairSpec, style: Style, roots: Points, rng: np.random.Generator) -> Points:
    """Unit directions in which hair lies at each root (rest template)."""
    return unit(COMBS[style.comb](roots, hair, rng))


def top(roots: Points) -> Field:
    """1 on top of the head, 0 at its sides and back."""
    x, y, z = np.abs(roots[:, 0]), roots[:, 1], roots[:, 2]
    side = np.clip((z - 0.772) / 0.03, 0, 1) * np.clip((0.085 - x) / 0.02, 0, 1)
    return np.asarray(side * np.clip((0.035 - y) / 0.03, 0, 1))


def fringe(roots: Points) -> Field:
    """1 where a fringe grows, at the front of the top; 0 elsewhere."""
    x, y = np.abs(roots[:, 0]), roots[:, 1]
    front = np.clip((-0.085 - y) / 0.012, 0, 1)
    return np.asarray(front * np.clip((0.050 - x) / 0.012, 0, 1) * (roots[:, 2] > 0.77))


def part_side(roots: Points, part: float) -> Field:
    """+1 on the person's left of the parting, -1 on its right."""
    return np.where(roots[:, 0] > 0.065 * part, 1.0, -1.0)


def _whorl(roots: Points, hair: HairSpec, rng: np.random.Generator) -> Points:
    away = roots - CROWN
    turn = np.stack([-away[:, 1], away[:, 0], np.zeros(len(roots))], axis=1)
    return np.asarray(unit(away) + 0.35 * unit(turn))


def _forward(roots: Points, hair: HairSpec, rng: np.random.Generator) -> Points:
    front = np.array([0.35 * hair.part, -1.0, 0.10])
    share = 0.8 * top(roots)[:, None]
    return np.asarray(unit(_whorl(roots, hair, rng)) * (1 - share) + front * share)


def _across(roots: Points, hair: HairSpec, rng: np.random.Generator) -> Points:
    """Away from a parting at the side, and a little back."""
    side = part_side(roots, hair.part)
    swept = np.stack([side, np.full(len(roots), 0.35 - 0.5 * hair.fringe), np.full(len(roots), 0.3)], axis=1)
    share = top(roots)[:, None]
    return np.asarray(unit(_whorl(roots, hair, rng)) * (1 - share) + swept * share)


def _back(roots: Points, hair: HairSpec, rng: np.random.Generator) -> Points:
    side = np.sign(roots[:, 0]) * np.clip(np.abs(roots[:, 0]) / 0.05, 0, 1)
    swept = np.stack([0.2 * side, np.full(len(roots), 1.0), np.full(len(roots), 0.25)], axis=1)
    share = np.clip(top(roots) + np.clip((-0.05 - roots[:, 1]) / 0.04, 0, 1) * 0.5, 0, 1)[:, None]
    return np.asarray(unit(_whorl(roots, hair, rng)) * (1 - share) + swept * share)


def _tousled(roots: Points, hair: HairSpec, rng: np.random.Generator) -> Points:
    wild = rng.normal(size=(len(roots), 3)) * np.array([0.55, 0.55, 0.2])
    return np.asarray(_forward(roots, hair, rng) + wild * (0.3 + 0.7 * top(roots)[:, None]))


def _parted(roots: Points, hair: HairSpec, rng: np.random.Generator) -> Points:
    """To both sides of the parting and down; a fringe forwards."""
    side = part_side(roots, hair.part)
    back = np.clip((roots[:, 1] - 0.0) / 0.05, 0, 1)
    front = np.clip((-0.06 - roots[:, 1]) / 0.05, 0, 1)
    lie = np.stack([side * (1.0 - 0.8 * back), 0.35 + 0.9 * front + 0.5 * back, -0.45 + 0.45 * front], axis=1)
    bangs = (fringe(roots) * (hair.fringe > 0.05))[:, None]
    forward = np.stack(
        [0.25 * side * (hair.fringe < 0.6), np.full(len(roots), -1.0), np.full(len(roots), 0.1)], axis=1
    )
    return np.asarray(lie * (1 - bangs) + forward * bangs)


def _tied(roots: Points, hair: HairSpec, rng: np.random.Generator) -> Points:
    return np.asarray(tie_of(roots, hair) - roots)


def _out(roots: Points, hair: HairSpec, rng: np.random.Generator) -> Points:
    return np.asarray(roots - np.array([0.0, -0.05, 0.745]) + rng.normal(size=(len(roots), 3)) * 0.02)


def tie_of(roots: Points, hair: HairSpec) -> Points:
    """The point (rest template) that each root's hair is drawn to, of a tied style."""
    x, y, z = TIES[hair.style]
    side = np.where(roots[:, 0] > 0.0, 1.0, -1.0)
    return np.stack([x * side, np.full(len(roots), y), np.full(len(roots), z)], axis=1)


COMBS: dict[str, Callable[[Points, HairSpec, np.random.Generator], Points]] = {
    "whorl": _whorl,
    "forward": _forward,
    "across": _across,
    "back": _back,
    "tousled": _tousled,
    "parted": _parted,
    "tied": _tied,
    "out": _out,
}


def strand_lengths(hair: HairSpec, style: Style, roots: Points, scale: float) -> Field:
    """Length of the hair at each root in the head's own metres, of a head `scale` times the template's."""
    length = hair.length / scale
    rise = np.clip((roots[:, 2] - 0.725) / 0.075, 0, 1)
    result = length * (style.fade + (1 - style.fade) * rise * rise)
    if style.comb == "parted":
        level = np.clip(0.845 - roots[:, 2], 0, 0.2) * 1.25
        result = np.maximum(length - style.cut * level, 0.35 * length)
        bangs = fringe(roots) * (hair.fringe > 0.05)
        result = result * (1 - bangs) + bangs * np.minimum(0.045 + 0.045 * hair.fringe, length)
    return np.asarray(result)
