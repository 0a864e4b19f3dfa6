"""Hair as geometry: thousands of thin tapered ribbons over a dark scalp.

Strands are opaque. Depth, normals and part of a pixel that shows hair are those of the strand, or of the
scalp between strands, that the ray through the pixel's centre meets first; a pixel whose ray passes between
strands has the labels of what is behind them, though its picture mixes both.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from render.people.body import BodyModel, Skeleton
from render.people.hair.beard import grow_beard
from render.people.hair.frame import HeadFrame, Solid, covers_all, hair_obstacles, head_frame, headwear
from render.people.hair.growth import Patch, Roots, grow, sample_roots
from render.people.hair.strands import (
    Bundle,
    along,
    between,
    coiled,
    coloured,
    frizzed,
    gathered_locks,
    ribbons,
    settled,
)
from render.people.hair.styles import STYLES, Style, fringe
from render.people.hair.tied import beyond_tie
from render.people.looks import scalp_material
from render.people.mesh import clip, constant_parts, vertex_normals
from render.people.parts import PART
from render.people.scalp import SOFT, beard_levels, scalp_level
from render.people.spec import HairSpec, PersonSpec
from render.person import Surface

__all__ = ["STYLES", "build_hair"]

GUIDES = 380
CAP_INSET, CAP_RISE = (
    0.004,
    0.0009,
)  # of the scalp's surface from the edge of the hair, above the skin, metres
BROW_Z, BROW_Y = 0.752, -0.085  # hair before the face is cut above the brows, rest template
UNDER_HAT = 0.045  # farther from a hat than this, hair is not under it, metres
TALLEST, BESIDE_HAT = (
    0.15,
    0.02,
)  # hair that would stand out of a hat: how far, and how far beside a point of it
PRESSED = 0.0012  # height of hair under a hat, metres


def build_hair(
    spec: PersonSpec,
    posed: Float64[np.ndarray, "v 3"],
    skeleton: Skeleton,
    clothes: tuple[Surface, ...],
    model: BodyModel,
) -> tuple[Surface, ...]:
    """Scalp, strands and beard of a person; no hair of the head for the bald, under a headscarf, and where
    it is an asset.
    """
    hair = spec.hair
    rng = np.random.default_rng(hair.seed)
    frame = head_frame(posed, skeleton, model)
    solid = hair_obstacles(posed, clothes, frame, model)
    surfaces: list[Surface] = []
    if hair.asset is None and hair.style in STYLES and not covers_all(clothes):
        patch = _patch(scalp_level(hair.hairline), posed, frame, model)
        surfaces.append(_scalp(patch, spec, frame))
        hat = headwear(clothes, frame)
        for bundle in _scalp_hair(patch, hair, STYLES[hair.style], solid, hat, frame, rng):
            surfaces.append(ribbons(bundle, frame, hair, "hair", "Hair", rng))
    for place in _beard_places(hair):
        patch = _patch(beard_levels()[place], posed, frame, model)
        bundle = grow_beard(patch, place, hair, solid, frame, rng)
        surfaces.append(ribbons(bundle, frame, hair, "beard", "Face_Neck", rng))
    return tuple(surfaces)


def _beard_places(hair: HairSpec) -> Iterator[str]:
    if hair.beard > 0.001:
        yield "beard" if hair.cheeks > 0.05 else "chin"
    if hair.moustache > 0.001:
        yield "moustache"


def _patch(
    level: Float64[np.ndarray, " v"], posed: Float64[np.ndarray, "v 3"], frame: HeadFrame, model: BodyModel
) -> Patch:
    """The skin where level > 0, in the head's frame: columns are point, template point, normal, level."""
    faces = model.faces("body")
    near = faces[(level[faces] > 0).any(1) & (level[faces] > -0.5).all(1)]
    normals = vertex_normals(posed, near)
    columns = [frame.local(posed), model.template, frame.turned(normals), level[:, None]]
    return clip(np.concatenate(columns, axis=1), near, level)


def _scalp(patch: Patch, spec: PersonSpec, frame: HeadFrame) -> Surface:
    """The skin between the strands: a thin layer over the head that is labelled hair and looks like what is
    under hair. It starts inside the hairline, where strands are dense.
    """
    columns, faces = clip(*patch, patch[0][:, 9] - CAP_INSET)
    dense = np.clip((columns[:, 9] - CAP_INSET) / (0.6 * SOFT), 0, 1)
    rise = CAP_RISE * (0.15 + 0.85 * dense)  # no step that would cast a shadow at its edge
    vertices = frame.world(columns[:, :3] + rise[:, None] * columns[:, 6:9])
    return Surface(
        name="scalp",
        vertices=vertices,
        faces=faces,
        normals=vertex_normals(vertices, faces),
        uv=None,
        part_ids=constant_parts(faces, PART["Hair"]),
        material=scalp_material(spec.skin, spec.hair),
        attributes={"dense": dense},
    )


def _scalp_hair(
    patch: Patch,
    hair: HairSpec,
    style: Style,
    solid: Solid,
    hat: Solid | None,
    frame: HeadFrame,
    rng: np.random.Generator,
) -> Iterator[Bundle]:
    guide_roots = sample_roots(patch, GUIDES, 0.002, rng)
    guides = grow(guide_roots, hair, style, solid, frame, rng)
    roots = sample_roots(patch, style.strands, SOFT, rng)
    trim = _trims(roots, hair, style, rng)
    lines = between(guides, guide_roots, roots, trim, hair, style)
    lines, lock = gathered_locks(lines, roots.at, style.lock, style.clump, rng)
    lines = coiled(lines, lock, style.curl * _curliness(hair, style), style.coil, rng)
    lines = frizzed(lines, style.frizz * (0.6 + 0.8 * hair.volume), rng)
    lines = _cut_before_face(lines, roots, hair, rng)
    if hat is not None:
        lines = _pressed(lines, solid, hat)
    lines = settled(lines, solid, np.zeros(lines.shape[:2]))
    edge = np.clip(roots.level / SOFT, 0, 1)
    width = style.width * (0.5 + 0.5 * edge) * rng.uniform(0.75, 1.15, len(roots))
    yield coloured(lines, width, lock, hair.grey, rng)
    if style.comb == "tied" and hat is None:
        yield beyond_tie(hair, solid, frame, rng)


def _curliness(hair: HairSpec, style: Style) -> float:
    """Styles that are curly by themselves have at least half their curls."""
    own = 0.6 if style.curl >= 0.01 else 0.0
    return max(own, hair.curl)


def _trims(roots: Roots, hair: HairSpec, style: Style, rng: np.random.Generator) -> np.ndarray:
    """Length of each strand as a share of its guides': shorter at the hairline; blunt cuts vary least."""
    edge = np.clip(roots.level / SOFT, 0, 1)
    if style.comb == "tied":
        wisp = (rng.random(len(roots)) < 0.15 * (1 - edge)) * 0.75
        return np.asarray(1.0 - wisp * rng.random(len(roots)))
    ragged = (1 - rng.random(len(roots)) ** 2 * (0.30 - 0.16 * style.cut)) * 1.0
    baby = rng.random(len(roots)) < 0.35 * (1 - edge)
    young = np.where(baby, rng.uniform(0.08, 0.4, len(roots)), 1.0)
    short = 0.45 + 0.55 * edge if style.comb != "parted" else np.ones(len(roots))
    return np.asarray(ragged * young * short)


def _cut_before_face(
    lines: Float64[np.ndarray, "n k 3"], roots: Roots, hair: HairSpec, rng: np.random.Generator
) -> Float64[np.ndarray, "n k 3"]:
    """Strands end where they would hang over eyes, nose and mouth; those of a fringe at the brows."""
    bangs = (fringe(roots.template) > 0.3) & (hair.fringe > 0.05)
    limit = (
        np.where(bangs, BROW_Z + 0.018 * (1 - hair.fringe), BROW_Z + 0.008)
        + rng.normal(size=len(roots)) * 0.003
    )
    wide = np.where(bangs, 0.060, 0.052)[:, None]
    before = (lines[..., 1] < BROW_Y) & (np.abs(lines[..., 0]) < wide) & (lines[..., 2] < limit[:, None])
    count = lines.shape[1]
    first = np.where(before.any(1), np.argmax(before, axis=1), count)
    end = np.maximum(first - 0.5, 0.6)[:, None] / (count - 1)
    t = np.linspace(0, 1, count)[None] * np.minimum(end, 1.0)
    cut = np.flatnonzero(first < count)
    lines = lines.copy()
    lines[cut] = along(lines, cut, t[cut])
    return lines


def _pressed(lines: Float64[np.ndarray, "n k 3"], solid: Solid, hat: Solid) -> Float64[np.ndarray, "n k 3"]:
    """Strands flat on the scalp wherever a hat is over them."""
    flat = lines.reshape(-1, 3)
    distance, nearest = hat.tree.query(flat, distance_upper_bound=TALLEST)
    close = np.flatnonzero(np.isfinite(distance))
    gap, normal = solid.gap(flat[close])
    away = hat.points[nearest[close]] - flat[close]
    toward = (away * normal).sum(1)
    beneath = (distance[close] < UNDER_HAT) & (gap < 0.06)
    through = (toward < 0) & ((away * away).sum(1) - toward * toward < BESIDE_HAT**2)  # as an afro would be
    under = (toward + gap > 0) & (beneath | through)
    pressed = flat.copy()
    at = close[under]
    pressed[at] -= (np.maximum(gap[under] - PRESSED, 0.0))[:, None] * normal[under]
    return np.asarray(pressed.reshape(lines.shape))
