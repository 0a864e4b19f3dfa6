"""Draw what four task models say of held-out renders (beside the truth) and of photographs.

    python tools/prediction_sheets.py --models outputs/tasks/pretrained --heldout outputs/people/eval \\
        --photos ../shared/data/photos --plain 000000196141 [--out docs/images]

`--models` holds a folder of `vitruvian finetune` for each task, as TASK/model or TASK. Renders are taken
evenly over the data set, photographs all of those in the folder, their people from its coco_keypoints.json:
nothing is chosen. Depth and normals of photographs are shown where the parts model sees a person.
`--plain`: photographs whose licence does not let them be shown here; their predictions are drawn on white.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from annotation.codecs import decode_image
from annotation.draw import (
    captioned,
    colour_depth,
    colour_normals,
    draw_keypoints,
    letterbox,
    overlay_parts,
    tile,
)
from annotation.labels import Labels
from render.effects import encode_jpeg
from shards.errors import UsageError
from train.data.labelled import LabelledSet, open_source
from train.predict import load
from train.prediction.predictor import Predictor
from train.tasks.people import person_box

Picture = UInt8[np.ndarray, "_ _ 3"]
TASKS = ("pose", "parts", "depth", "normal")
WANTED = ("rgb", "keypoints", "parts", "depth", "normal", "alpha")
CONFIDENT = 0.3
CELL = (192, 256)
"""Width and height of a cell, px."""


def predictors(models: Path) -> dict[str, Predictor]:
    """The model of each task, flip-averaged as in the published evaluations."""
    folders = {name: models / name for name in TASKS}
    return {
        name: load(folder / "model" if (folder / "model").is_dir() else folder, flip="on")
        for name, folder in folders.items()
    }


def heldout_row(labels: Labels, models: dict[str, Predictor]) -> list[Picture]:
    """The render, then truth and prediction of each task; of the first person in pose."""
    assert labels.rgb is not None
    cells = [labels.rgb]
    for name, model in models.items():
        prepared = model.task.prepare(labels)
        boxes = person_box(prepared, 0)[None] if name == "pose" else None
        values = model(labels.rgb, boxes)
        prediction = values[0] if name == "pose" else values
        truth = model.task.truth(prepared, 0)
        cells += [model.task.draw(prepared, 0, truth), model.task.draw(prepared, 0, prediction)]
    return cells


def photo_row(
    rgb: Picture, boxes: Float64[np.ndarray, "people 4"], models: dict[str, Predictor], plain: bool
) -> list[Picture]:
    """The photograph and its predictions; plain: without the photograph."""
    canvas = np.full_like(rgb, 255) if plain else rgb
    points = models["pose"](rgb, boxes)
    shown = np.zeros((*points.shape[:2], 4), np.float32)
    shown[..., :2], shown[..., 3] = points[..., :2], 2 * (points[..., 2] >= CONFIDENT)
    parts = models["parts"](rgb)
    human = parts > 0
    depth, normal = models["depth"](rgb), models["normal"](rgb)
    nearest = depth[human].min() if human.any() else 0.0
    return [
        canvas,
        draw_keypoints(canvas, shown),
        overlay_parts(canvas, parts, models["parts"].task.config.classes),
        colour_depth(np.where(human, depth - nearest + 1, 0).astype(np.float32)),
        colour_normals(np.where(human[..., None], normal, 0).astype(np.float32)),
    ]


def boxes_by_name(annotations: Path) -> dict[str, Float64[np.ndarray, "people 4"]]:
    """COCO's boxes of people (no crowds) as corners, by the stem of the file's name."""
    content = json.loads(annotations.read_text(encoding="utf-8"))
    names = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
    found: dict[str, list[list[float]]] = {name: [] for name in names.values()}
    for person in content["annotations"]:
        if not person.get("iscrowd"):
            x, y, width, height = person["bbox"]
            found[names[person["image_id"]]].append([x, y, x + width, y + height])
    return {name: np.array(boxes, np.float64).reshape(-1, 4) for name, boxes in found.items()}


def heldout_sheet(data: str, models: dict[str, Predictor], count: int) -> Picture:
    """`count` rows."""
    labelled = LabelledSet(open_source(data, "evaluation"), WANTED[:-1], WANTED[-1:], lambda labels: labels)
    rows = [
        heldout_row(labelled[int(i)][1], models) for i in np.linspace(0, len(labelled) - 1, count).round()
    ]
    titles = ["render", *(f"{name}{what}" for name in models for what in (", truth", ""))]
    return _sheet(rows, titles, CELL)


def photo_sheet(folder: Path, models: dict[str, Predictor], plain: Sequence[str]) -> Picture:
    """A row for every photograph of the folder."""
    boxes = boxes_by_name(folder / "coco_keypoints.json")
    photos = sorted(folder.glob("*.jpg"))
    if not photos:
        raise UsageError(f"{folder}: expected photographs *.jpg; found none")
    rows = [
        photo_row(decode_image(path.read_bytes()), boxes[path.stem], models, path.stem in plain)
        for path in photos
    ]
    return _sheet(rows, ["photograph", *models], (360, 270))


def _sheet(rows: Sequence[Sequence[Picture]], titles: Sequence[str], cell: tuple[int, int]) -> Picture:
    cells = [letterbox(picture, *cell) for row in rows for picture in row]
    last = len(cells) - len(titles)
    named = [
        captioned(picture, titles[i - last]) if i >= last else picture for i, picture in enumerate(cells)
    ]
    table = tile(cells[:last], len(titles), 4) if last else None
    foot = tile(named[last:], len(titles), 4)
    return (
        foot
        if table is None
        else np.concatenate([table, np.full((4, table.shape[1], 3), 255, np.uint8), foot])
    )


def main() -> None:
    """Write predictions-heldout.jpg and predictions-photos.jpg."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--heldout", required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--plain", nargs="*", default=())
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    models = predictors(given.models)
    sheets = {"heldout": heldout_sheet(given.heldout, models, given.count)}
    if given.photos is not None:
        sheets["photos"] = photo_sheet(given.photos, models, given.plain)
    for name, picture in sheets.items():
        (given.out / f"predictions-{name}.jpg").write_bytes(encode_jpeg(picture, 88))


if __name__ == "__main__":
    main()
