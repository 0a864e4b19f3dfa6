"""Close-ups of a person with keypoints, their numbers and names drawn, for docs/keypoints.md and for the eye.

    python tools/keypoint_closeups.py [--views face eye ...] [--out docs/images] [--width 3840] [--samples 16]

The person stands at rest, bald, and bare where clothes would hide the points. Dots are points that the depth
test calls visible, rings hidden ones. `--samples 0` draws the OpenGL preview instead of rendering.
"""

import argparse
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import cv2
import numpy as np

from annotation.camera import look_at
from annotation.keypoints import keypoint_vocabulary
from pipelines.cli import leave
from render.effects import encode_jpeg
from render.engine import Engine, built_person
from render.keypoints import label_keypoints
from render.people import PersonSpec, sample_person
from render.person import Person
from render.preview import preview
from render.recipe import RenderConfig, plan_specs
from render.spec import CameraSpec, Placement, SampleSpec, StageSpec

NAMES = keypoint_vocabulary(308).names
LIGHT_SEED = 5
PANEL = 0.30  # width of a column of names / that of the picture
LARGEST = 700_000  # bytes of a picture
BODY = ("nose", "neck", "*_eye", "*_ear", "*shoulder", "*elbow", "*wrist", "*hip", "*knee", "*ankle", "*heel")
BROWS = ("*_of_?_eyebrow", "?_center_of_iris", "?_*_end_of_upper_lash_line")
MOUTH = ("*_lip", "*mouth", "*cupid*")


@dataclass(frozen=True)
class View:
    """Patterns of the names of the points it frames; where it is seen from, in the person's axes; height /
    width; metres to the camera; margin as a share of the points' extent; what the person wears.
    """

    patterns: tuple[str, ...]
    towards: tuple[float, float, float]
    aspect: float = 0.75
    distance: float = 1.2
    margin: float = 0.1
    clothes: tuple[str, ...] = ()


VIEWS = {
    "face": View(
        (*BROWS, *MOUTH, "*nose*", "*nostril", "*glabella", "*chin", "*labiomental*"), (0, -1, 0), 1.15
    ),
    "eye": View(("l_*_line", "l_*iris*", "l_*pupil*"), (0.1, -1, 0), 0.7),
    "ear": View(
        ("l_*helix*", "l_*crus", "l_*tragus", "l_*concha", "l_*lobe", "l_*_22_15"), (1, -0.3, 0), 1.3
    ),
    "mouth": View((*MOUTH, "*labiomental*", "tip_of_chin"), (0, -1, 0), 0.75),
    "nose": View(("*nose*", "*nostril", "*glabella"), (0, -1, -0.2), 1.3),
    "hand": View(("left_*finger*", "left_thumb*", "left_wrist"), (0.75, -0.35, 0.55), 0.9),
    "foot": View(("left_*toe", "left_heel", "left_ankle"), (0.75, -0.85, 0.6), 0.75, margin=0.25),
    "body": View(
        (*BODY, "*toe", "*olecranon", "*cubital*", "*acromion"),
        (0.3, -1, 0.05),
        1.3,
        4.0,
        0.08,
        ("tshirt", "shorts"),
    ),
}


def main() -> None:
    """Write keypoints-VIEW.jpg of every view asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--views", nargs="+", default=list(VIEWS), choices=list(VIEWS))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--seed", type=int, default=325)
    parser.add_argument("--width", type=int, default=3840)
    parser.add_argument("--samples", type=int, default=16)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    engine = Engine()
    for name in options.views:
        spec = close_up(VIEWS[name], options.seed, options.width, options.samples)
        labels = engine.render_labels(spec) if options.samples else preview(spec)
        picture = annotated(labels.rgb, keypoints_in(spec, labels), chosen(VIEWS[name]))
        (options.out / f"keypoints-{name}.jpg").write_bytes(_small_jpeg(picture))


def chosen(view: View) -> list[int]:
    """Indices of the points that a view frames and names."""
    return [i for i, name in enumerate(NAMES) if any(fnmatchcase(name, p) for p in view.patterns)]


def close_up(view: View, seed: int, width: int, samples: int) -> SampleSpec:
    """The spec of a view of the person drawn with this seed, in a light of the people-v1 recipe."""
    base = next(plan_specs(RenderConfig(seed=LIGHT_SEED, identities=1, views=1), built_person))
    subject = _plain(sample_person(np.random.default_rng(seed)), view)
    settings = replace(base.settings, width=width, height=round(width * view.aspect), samples=max(samples, 1))
    return replace(
        base,
        people=(subject,),
        placements=(Placement(),),
        camera=_camera(view, built_person(subject)),
        settings=settings,
        stage=StageSpec(),
        effects=type(base.effects)(),
    )


def _plain(person: PersonSpec, view: View) -> PersonSpec:
    worn = tuple(g for g in person.garments if any(fnmatchcase(g.kind, p) for p in view.clothes))
    hair = replace(person.hair, style="bald", beard=0.0, asset=None)
    eyes = replace(person.eyes, yaw=0.0, pitch=0.0)
    return replace(person, pose={}, pose_name="rest", face={}, eyes=eyes, hair=hair, garments=worn)


def _camera(view: View, person: Person) -> CameraSpec:
    """The lens that fills the picture with the points, and the margin."""
    assert person.keypoints is not None
    points = person.keypoints[chosen(view)]
    middle = (points.min(0) + points.max(0)) / 2
    towards = np.array(view.towards) / np.linalg.norm(view.towards)
    pose = look_at(middle + view.distance * towards, middle, np.array([0.0, 0.0, 1.0]))
    seen = points @ pose[:3, :3].T + pose[:3, 3]
    flat = seen[:, :2] / seen[:, 2:]
    low, high = flat.min(0), flat.max(0)
    across = max((high - low)[0], (high - low)[1] / view.aspect) * (1 + 2 * view.margin)
    x, y = (low + high) / 2
    rows = tuple(tuple(float(v) for v in row) for row in pose)
    return CameraSpec(36.0 / float(across), rows, float(x / across), float(-y / across), "close_up")


def keypoints_in(spec: SampleSpec, labels: object) -> np.ndarray:
    """x, y, z, visibility (308, 4) of the person in a picture."""
    person = built_person(spec.people[0])
    return label_keypoints([person.keypoints], [person.height], labels.camera, labels.depth, labels.instance)[
        0
    ]


def annotated(picture: np.ndarray, points: np.ndarray, indices: list[int]) -> np.ndarray:
    """The picture between two columns of names, each joined to its point by a line of the point's colour."""
    height, width = picture.shape[:2]
    size = width / 3840
    column = round(PANEL * width)
    out = np.full((height, width + 2 * column, 3), 24, np.uint8)
    out[:, column : column + width] = picture
    middle = float(np.median(points[indices, 0]))
    for left in (True, False):
        side = sorted((i for i in indices if (points[i, 0] < middle) == left), key=lambda i: points[i, 1])
        rows = _spread(points[side, 1], height, round(64 * size))
        for index, row in zip(side, rows, strict=True):
            _callout(out, points[index], index, row, left, column, size)
    return out


def _spread(heights: np.ndarray, height: int, step: int) -> np.ndarray:
    """Rows for labels in the order of their points: as near to them as `step` between rows allows."""
    count = len(heights)
    step = min(step, (height - 2 * step) // max(count, 1))
    slack = np.maximum.accumulate(np.asarray(heights) - step * np.arange(count))
    highest = height - step * count
    return np.clip(slack, step, max(step, highest)) + step * np.arange(count)


def _callout(
    out: np.ndarray, point: np.ndarray, index: int, row: float, left: bool, column: int, size: float
) -> None:
    """One name, its line and its dot: filled when visible, a ring when hidden."""
    colour = _colour(index)
    at = (round(float(point[0])) + column, round(float(point[1])))
    text = f"{index} {NAMES[index]}"
    font, thick = 1.05 * size, max(1, round(2 * size))
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, font, thick)
    gap = round(24 * size)
    start = column - gap - wide if left else out.shape[1] - column + gap
    cv2.putText(
        out, text, (start, round(row) + high // 2), cv2.FONT_HERSHEY_SIMPLEX, font, colour, thick, cv2.LINE_AA
    )
    edge = (column - gap // 2 if left else out.shape[1] - column + gap // 2, round(row))
    cv2.line(out, edge, at, colour, max(1, round(1.5 * size)), cv2.LINE_AA)
    dot = max(2, round(8 * size))
    cv2.circle(out, at, dot + max(1, round(3 * size)), (0, 0, 0), -1, cv2.LINE_AA)
    cv2.circle(out, at, dot, colour, -1 if point[3] == 2 else max(1, dot // 3), cv2.LINE_AA)


def _colour(index: int) -> tuple[int, int, int]:
    """A bright colour, far from that of the numbers beside it."""
    red, green, blue = cv2.cvtColor(np.uint8([[[index * 47 % 180, 170, 255]]]), cv2.COLOR_HSV2RGB)[0, 0]
    return int(red), int(green), int(blue)


def _small_jpeg(picture: np.ndarray) -> bytes:
    """The best quality within `LARGEST` bytes."""
    for quality in range(90, 20, -4):
        data = encode_jpeg(picture, quality)
        if len(data) <= LARGEST:
            break
    return data


if __name__ == "__main__":
    main()
    leave(0)
