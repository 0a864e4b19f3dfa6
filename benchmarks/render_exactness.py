"""How exact the labels are: depth, both normals, masks and reprojection under ten camera set-ups.

    python -P benchmarks/render_exactness.py [--quick] [--scale N]

Labels of real renders, before any codec, against two truths of its own kind: a sphere's formula, and an
independent ray cast (embree finds the triangle, float64 solves for the point) of dressed people. The set-ups
(`render.crosscheck.RIGS`) are portrait and landscape, shifted principal points, 14 mm to 200 mm, rolled,
0.3 m to 30 m away. "Interior" pixels have their eight neighbours on the person.

Maxima are over every interior pixel, less what moving the ray by a thousandth of a pixel changes there:
Cycles computes in float32, so on a crease, an edge or a surface seen edge-on its ray may meet another point.
`unsettled` counts the pixels that are within tolerance (1e-5 of the distance, 0.05 degrees) only with that
allowance, and `raw` holds the maxima without it. (The unsettled pixels of the sphere are its facets, seen
from 0.3 m.) Reprojection: Cycles' own surface positions through the stored K and pose, at interior pixels of
images of 192 x 256 whose surface is not seen edge-on (3 degrees); float32 positions make it grow with the
focal length in pixels.

Last printed line: one JSON object.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from pipelines.cli import leave
from render.crosscheck import (
    RIGS,
    Cast,
    Disagreement,
    RayCaster,
    Rig,
    ball,
    cast_ball,
    disagreement,
    interior,
)
from render.engine import Engine, built_person
from render.people import PersonSpec, sample_person
from render.person import Person
from render.scene import shared_scene
from render.spec import Placement, SampleSpec

RADIUS, CENTRE = 0.5, np.array([0.0, 0.0, 0.9])
SUBDIVISIONS = 8  # facets at most 2.3 micrometres under the sphere
REPROJECTED = 4  # scale
EDGE_ON = 0.05  # cosine: under it a float32 position slides along its surface
WORST = ("depth_rel", "normal_deg", "geometric_normal_deg", "normal_length")


class BallEngine(Engine):
    """Renders a sphere, whoever the spec asks for."""

    def people(self, spec: SampleSpec) -> tuple[Person, ...]:
        """The sphere, in the first person's skin."""
        return (ball(RADIUS, CENTRE, built_person(spec.people[0]).surfaces[0].material, SUBDIVISIONS),)


def target(rig: Rig, person: Person) -> np.ndarray:
    """The middle of the body; up close, half a metre behind the nose."""
    assert person.keypoints is not None
    return person.keypoints[0] + [0.0, 0.5, 0.0] if rig.distance < 1 else np.array([0, 0, person.height / 2])


def reprojection_px(engine: Engine, spec: SampleSpec) -> float:
    """Farthest that Cycles' surface position of a pixel projects from the pixel's centre."""
    scene = shared_scene()
    layer = scene.scene.view_layers[0]
    labels = engine.render_labels(spec)
    assert labels.camera is not None and labels.depth is not None
    scene.set_camera(labels.camera)
    layer.use_pass_position = True
    try:
        position = scene.render_truth()["Position"]
    finally:
        layer.use_pass_position = False
    assert labels.geometric_normal is not None
    toward = labels.camera.world_normals_to_label(-labels.camera.rays())
    cosine = np.einsum("hwc,hwc->hw", labels.geometric_normal, toward) / np.linalg.norm(toward, axis=-1)
    rows, columns = np.nonzero(interior(labels.depth > 0) & (cosine > EDGE_ON))
    xy = labels.camera.project(position[rows, columns].astype(np.float64))[:, :2]
    return float(np.abs(xy - np.stack([columns, rows], axis=1)).max(initial=0))


def against_sphere(someone: PersonSpec, scale: int) -> list[Disagreement]:
    """Each set-up's labels of the ball, against its formula and that of slightly displaced rays."""
    found, engine = [], BallEngine()
    shared_scene().cast = None
    for rig in RIGS.values():
        labels = engine.render_labels(rig.probe(someone, CENTRE, scale))
        assert labels.camera is not None
        smooth = replace(labels, geometric_normal=None)  # that of a facet, which no sphere has
        found.append(disagreement(smooth, _ball_casts(labels.camera)))
    shared_scene().cast = None  # the spec names a person, the scene holds a ball
    return found


def _ball_casts(camera: Any) -> Sequence[Cast]:
    """The sphere, and the one that its facets are tangent to from inside."""
    sagitta = 0.3 * RADIUS / 4**SUBDIVISIONS
    return [cast_ball(RADIUS - inward, CENTRE, camera) for inward in (0.0, sagitta)]


def against_embree(someone: PersonSpec, scale: int) -> tuple[list[Disagreement], float]:
    """Each set-up's labels of a dressed person against the ray cast, and the worst reprojection (px)."""
    found, engine, person = [], Engine(), built_person(someone)
    caster, worst = RayCaster([person], [Placement()]), 0.0
    for rig in RIGS.values():
        labels = engine.render_labels(rig.probe(someone, target(rig, person), scale))
        assert labels.camera is not None
        found.append(disagreement(labels, caster.cast_around(labels.camera)))
        worst = max(worst, reprojection_px(engine, rig.probe(someone, target(rig, person), REPROJECTED)))
    return found, worst


def summary(found: Sequence[Disagreement]) -> dict[str, Any]:
    """Worst of each maximum, sum of each count."""
    counts = {name: sum(getattr(one, name) for one in found) for name in ("pixels", "unsettled", "mask_px")}
    return {
        **counts,
        "instance_px": sum(one.instance_px for one in found),
        "parts_px": sum(one.parts_px for one in found),
        **{name: float(f"{max(getattr(one, name) for one in found):.3g}") for name in WORST},
        "raw": {name: float(f"{max(one.raw[name] for one in found):.3g}") for name in found[0].raw},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one person, small images")
    parser.add_argument("--scale", type=int, help="of the set-ups' 48 x 64 pixels (default: 12, quick: 4)")
    given = parser.parse_args()
    scale = given.scale or (4 if given.quick else 12)
    people = [sample_person(np.random.default_rng(seed)) for seed in ((11,) if given.quick else (11, 3, 5))]
    sphere = against_sphere(people[0], scale)
    for name, one in zip(RIGS, sphere, strict=True):
        print("sphere", name, asdict(one), flush=True)
    person: list[Any] = []
    reprojection = 0.0
    for someone in people:
        found, worst = against_embree(someone, scale)
        for name, one in zip(RIGS, found, strict=True):
            print("person", name, asdict(one), flush=True)
        person, reprojection = person + found, max(reprojection, worst)
    both = sphere + person
    figures = {
        "benchmark": "render_exactness",
        "scale": scale,
        "depth_max_rel": max(one.depth_rel for one in both),
        "normal_max_deg": max(max(one.normal_deg, one.geometric_normal_deg) for one in person),
        "mask_mismatch_px": sum(one.mask_px for one in both),
        "reprojection_max_px": round(reprojection, 6),
        "sphere": summary(sphere),
        "person": summary(person),
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
    leave(0)
