"""Files of predictions: whole, resumed, bad pictures counted; depth in space; from finetune to a picture."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from annotation.camera import Camera
from annotation.codecs import decode_depth, decode_mask, decode_normal, encode_mask, encode_rgb
from annotation.labels import Labels
from shards.errors import UsageError
from tests.train.random_models import Photo, save_model
from train.data.augment import AugmentConfig
from train.engine.checkpoint import full_state, save_weights
from train.finetune import FinetuneConfig, finetune, load_task_model
from train.models.heads import HeadConfig
from train.predict import PredictConfig, load, predict
from train.prediction.boxes import BoxesFile
from train.prediction.picture import Picture
from train.prediction.points import choose_focal, normals_of, unproject
from train.prediction.sources import ahead
from train.tasks import TASKS


def test_the_focal_length_is_given_or_the_files_or_assumed() -> None:
    assert choose_focal((300, 400), 512.0, 28.0).px == 512
    exif = choose_focal((300, 400), None, 36.0)
    assert exif.source == "exif" and exif.px == pytest.approx(36 * 500 / np.hypot(36, 24))
    assumed = choose_focal((300, 400), None, None)
    assert (assumed.px, assumed.source) == (480, "assumed")


def test_slopes_of_exact_depth_are_the_normals(
    label_scene: Callable[[Camera, int, int], Labels], camera_of: Callable[[tuple[int, int]], Camera]
) -> None:
    camera = camera_of((192, 144))
    labels = label_scene(camera, 0, 0)
    assert labels.depth is not None and labels.normal is not None
    found = normals_of(unproject(labels.depth, camera.K[0, 0]), labels.depth > 0)
    known = (found != 0).any(-1)
    cosine = (found[known] * labels.normal[known]).sum(-1).clip(-1, 1)
    assert known.mean() > 0.1 and np.median(np.degrees(np.arccos(cosine))) < 3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {task: save_model(folder / task, task) for task in TASKS}


@pytest.fixture
def photos(tmp_path: Path, photo: Photo) -> Path:
    folder = tmp_path / "photos"
    (folder / "trip").mkdir(parents=True)
    for number, name in enumerate(["1.png", "2.png", "trip/3.png"]):
        (folder / name).write_bytes(encode_rgb(photo(number, (80 + number, 60))))
    return folder


def run(task: str, models: dict[str, Path], inputs: list[Path], out: Path, **settings: Any) -> Any:
    config = PredictConfig(**({"batch": 2} | settings))
    return predict(task, models[task], [str(path) for path in inputs], out, config)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_depth_files_hold_the_prediction(models: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    kinds = ("png", "npy", "overlay", "ply", "pseudo-normals")
    result = run(
        "depth", models, [photos], tmp_path / "out", write=kinds, depth_range=(2.0, 3.0), focal=100.0
    )
    assert (result.predicted, result.skipped, result.rejects) == (3, 0, [])
    folder = tmp_path / "out/predictions"
    marker = json.loads((folder / "trip/3.png.json").read_text())
    assert sorted(marker["files"]) == sorted(
        f"trip/3.png.{suffix}"
        for suffix in (
            "depth.png",
            "depth.npy",
            "depth.jpg",
            "points.ply",
            "pseudo-normal.png",
            "pseudo-normal.jpg",
        )
    )
    raw = np.load(folder / "trip/3.png.depth.npy")
    image = np.asarray(Image.open(photos / "trip/3.png"))
    np.testing.assert_array_equal(raw, load(models["depth"])(image))
    label = decode_depth((folder / "trip/3.png.depth.png").read_bytes(), marker["near"], marker["far"])
    np.testing.assert_allclose(label, raw, atol=1e-4)
    ply = (folder / "trip/3.png.points.ply").read_bytes()
    head, _, body = ply.partition(b"end_header\n")
    assert b"element vertex %d\n" % raw.size in head and len(body) == 15 * raw.size
    vertices = np.frombuffer(body, [("xyz", "<f4", 3), ("rgb", "u1", 3)])
    height, width = raw.shape
    corner = raw[0, 0] + 2.0
    np.testing.assert_allclose(
        vertices["xyz"][0],
        np.array([-(width - 1) / 2 / 100, -(height - 1) / 2 / 100, 1]) * corner,
        rtol=1e-5,
    )
    np.testing.assert_array_equal(vertices["rgb"][1], image[0, 1])
    normal = decode_normal((folder / "trip/3.png.pseudo-normal.png").read_bytes())
    assert normal.shape == (height, width, 3) and (normal != 0).any()


@pytest.mark.parametrize("task", ["parts", "normal", "pointmap", "albedo", "alpha"])
def test_dense_files_are_of_the_pictures_size(
    task: str, models: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    run(task, models, [photos / "2.png"], tmp_path / "out", write=("png", "npy", "overlay"))
    label = cv2.imread(str(tmp_path / f"out/predictions/2.png.{task}.png"), cv2.IMREAD_UNCHANGED)
    overlay = cv2.imread(str(tmp_path / f"out/predictions/2.png.{task}.jpg"))
    raw = np.load(tmp_path / f"out/predictions/2.png.{task}.npy")
    assert label.shape[:2] == raw.shape[:2] == (81, 60) and overlay.shape[0] == 81
    assert np.ptp(label.astype(int)) > 0 or task == "parts"


def test_masks_cut_what_is_written(models: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    person = np.zeros((80, 60), np.uint8)
    person[20:60, 10:50] = 7
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/1.png.parts.png").write_bytes(encode_mask(person))
    result = run("normal", models, [photos], tmp_path / "out", masks=tmp_path / "masks")
    label = decode_normal((tmp_path / "out/predictions/1.png.normal.png").read_bytes())
    np.testing.assert_array_equal((label != 0).any(-1), person > 0)
    assert [reject.name for reject in result.rejects] == ["2.png", "trip/3.png"]
    assert "neither" in result.rejects[0].message


def test_pose_results_are_cocos(models: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    boxes = {"1.png": [[5, 5, 40, 70, 0.9], [10, 8, 50, 60, 0.1]], "3.png": [[0, 0, 60, 82]]}
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(boxes))
    config = PredictConfig(min_score=0.3)
    predict("pose", models["pose"], [str(photos)], tmp_path / "out", config, BoxesFile(path))
    results = json.loads((tmp_path / "out/keypoints.json").read_text())
    assert [entry["image_id"] for entry in results] == [
        1,
        3,
    ]  # nobody in 2, nobody sure in the second box of 1
    assert all(len(entry["keypoints"]) == 51 and entry["category_id"] == 1 for entry in results)
    image = np.asarray(Image.open(photos / "1.png"))
    expected = load(models["pose"])(image, np.array([[5.0, 5, 40, 70]]))[0]
    np.testing.assert_allclose(np.reshape(results[0]["keypoints"], (17, 3)), expected, atol=1e-3)
    lines = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]
    assert [(line["name"], line["people"]) for line in lines] == [
        ("1.png", 1),
        ("2.png", 0),
        ("trip/3.png", 1),
    ]


def test_boxes_are_read_in_three_forms(tmp_path: Path) -> None:
    picture = Picture("a/000000000785.jpg", np.zeros((4, 4, 3), np.uint8))
    forms: list[Any] = [
        {"000000000785.jpg": [[10, 20, 40, 60, 0.5]]},
        [
            {"image_id": 785, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.5},
            {"image_id": 785, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1},
        ],
        {
            "images": [{"id": 3, "file_name": "a/000000000785.jpg"}],
            "annotations": [
                {"image_id": 3, "bbox": [10, 20, 30, 40], "score": 0.5},
                {"image_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
            ],
        },
    ]
    for number, form in enumerate(forms):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(form))
        boxes = BoxesFile(path)(picture)
        assert boxes.xyxy.tolist() == [[10, 20, 40, 60]] and boxes.score.tolist() == [0.5]
    bad = tmp_path / "bad.json"
    bad.write_text('{"a.jpg": [[1, 2]]}')
    with pytest.raises(UsageError, match="expected COCO annotations"):
        BoxesFile(bad)


def test_a_second_run_does_nothing_and_a_changed_picture_is_done_again(
    models: dict[str, Path], photos: Path, tmp_path: Path, photo: Photo
) -> None:
    out = tmp_path / "out"
    run("parts", models, [photos], out)
    before = digests(out)
    stamps = {path: path.stat().st_mtime_ns for path in (out / "predictions").rglob("*.png")}
    again = run("parts", models, [photos], out, batch=1)  # how it is carried out is not what it is
    assert (again.predicted, again.skipped) == (0, 3)
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    (photos / "2.png").write_bytes(encode_rgb(photo(77, (50, 50))))
    (photos / "4.png").write_bytes(encode_rgb(photo(78, (50, 50))))
    changed = run("parts", models, [photos], out)
    assert (changed.predicted, changed.skipped) == (2, 2)
    after = digests(out)
    assert after["predictions/1.png.parts.png"] == before["predictions/1.png.parts.png"]
    assert after["predictions/2.png.parts.png"] != before["predictions/2.png.parts.png"]
    with pytest.raises(UsageError, match=r"predict.flip: there 'off', asked 'on'"):
        run("parts", models, [photos], out, flip="on")


def test_a_killed_run_leaves_whole_files_and_ends_the_same(
    models: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run("normal", models, [photos], whole)

    def stop(done: int, total: int | None) -> None:
        if done == 1:
            raise KeyboardInterrupt

    config, inputs = PredictConfig(batch=1), [str(photos)]
    with pytest.raises(KeyboardInterrupt):
        predict("normal", models["normal"], inputs, killed, config, report=stop)
    (killed / "predictions/1.png.normal.png").unlink()  # a marker without its file does not count
    predict("normal", models["normal"], inputs, killed, config)
    ours, theirs = digests(killed / "predictions"), digests(whole / "predictions")
    assert ours.keys() == theirs.keys()
    for name in ours:
        if name.endswith(".normal.png"):  # batches of 1 and 2 differ in the last digits
            one, other = (decode_normal((f / "predictions" / name).read_bytes()) for f in (killed, whole))
            np.testing.assert_allclose(one, other, atol=1e-3)
    assert not list(killed.rglob("*.tmp"))


def test_bad_pictures_are_counted_and_named(models: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    good = (photos / "1.png").read_bytes()
    (photos / "cut.png").write_bytes(good[: len(good) // 2])
    (photos / "text.jpg").write_text("not a picture")
    (photos / "huge.png").write_bytes(encode_rgb(np.zeros((300, 400, 3), np.uint8)))
    result = run("depth", models, [photos], tmp_path / "out", max_pixels=10_000)
    assert result.predicted == 3
    reasons = {reject.name: reject.reason for reject in result.rejects}
    assert reasons == {
        "cut.png": "decode:truncated",
        "text.jpg": "decode:unknown",
        "huge.png": "decode:size",
    }
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["this_run"] == {"predicted": 3, "skipped": 0, "rejected": 3}
    assert {row["name"] for row in summary["rejects"]} == reasons.keys()


def test_an_output_that_is_no_number_is_a_reject(
    models: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    model, _, description = load_task_model(models["depth"] / "model.safetensors")
    with torch.no_grad():
        model.head.last.weight[:] = float("nan")
    save_weights(folder / "model.safetensors", full_state(model), description.header())
    result = predict("depth", folder, [str(photos)], tmp_path / "out", PredictConfig())
    assert [reject.reason for reject in result.rejects] == ["output:invalid"] * 3
    assert not list((tmp_path / "out").rglob("*.depth.png"))


def test_pictures_are_upright(models: dict[str, Path], tmp_path: Path, photo: Photo) -> None:
    upright = photo(9, (40, 90))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    exif.get_ifd(0x8769)[0xA405] = 50
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    stored.save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(upright).save(tmp_path / "plain.png")
    inputs = [tmp_path / "turned.png", tmp_path / "plain.png"]
    run("pointmap", models, inputs, tmp_path / "out", write=("npy",))
    folder = tmp_path / "out/predictions"
    turned, plain = (json.loads((folder / f"{name}.png.json").read_text()) for name in ("turned", "plain"))
    assert turned["size"] == plain["size"] == [40, 90]
    assert turned["focal"]["source"] == "exif" and plain["focal"]["source"] == "assumed"
    metres = [np.load(folder / f"{name}.png.pointmap.npy") for name in ("turned", "plain")]
    ratio = turned["focal"]["px"] / plain["focal"]["px"]
    np.testing.assert_allclose(metres[0], metres[1] * ratio, rtol=1e-3)


def test_a_video_is_predicted_frame_by_frame(models: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))  # type: ignore[attr-defined]
    for number in range(7):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[:, :, 2], frame[:, : 8 * number] = 30 * number, (255, 80, 10)
        writer.write(frame)
    writer.release()
    (tmp_path / "not.mp4").write_bytes(b"no video at all")
    inputs = [path, tmp_path / "not.mp4"]
    result = run("parts", models, inputs, tmp_path / "out", every=3, write=("png", "npy"))
    assert result.predicted == 3 and [r.reason for r in result.rejects] == ["video:unreadable"]
    names = [path.name for path in sorted((tmp_path / "out/predictions/clip.avi").glob("*.png"))]
    assert names == ["000000.parts.png", "000003.parts.png", "000006.parts.png"]
    capture = cv2.VideoCapture(str(path))
    frames = [capture.read()[1][..., ::-1] for _ in range(7)]
    capture.release()
    expected = load(models["parts"])(np.ascontiguousarray(frames[3]))
    found = decode_mask((tmp_path / "out/predictions/clip.avi/000003.parts.png").read_bytes())
    assert (found == expected).mean() > 0.999
    again = run("parts", models, inputs, tmp_path / "out", every=3, write=("png", "npy"))
    assert (again.predicted, again.skipped) == (0, 3)


def test_standard_input_is_one_picture(
    models: dict[str, Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = io.TextIOWrapper(io.BytesIO((photos / "1.png").read_bytes()))
    monkeypatch.setattr("sys.stdin", data)
    result = predict("alpha", models["alpha"], ["-"], tmp_path / "out", PredictConfig())
    assert result.predicted == 1
    run("alpha", models, [photos / "1.png"], tmp_path / "file")
    found = (tmp_path / "out/predictions/stdin.alpha.png").read_bytes()
    assert found == (tmp_path / "file/predictions/1.png.alpha.png").read_bytes()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [(["nothing.png"], "no such file"), (["empty"], "no pictures"), (["a/x.png", "b/x.png"], "both")],
)
def test_inputs_that_make_no_sense_are_refused(
    inputs: list[str], message: str, models: dict[str, Path], tmp_path: Path
) -> None:
    for folder in ("empty", "a", "b"):
        (tmp_path / folder).mkdir()
    for folder in ("a", "b"):
        (tmp_path / folder / "x.png").write_bytes(b"")
    with pytest.raises(UsageError, match=message):
        run("depth", models, [tmp_path / name for name in inputs], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_outputs_a_task_does_not_have_are_refused(
    models: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    for task, settings, message in (
        ("parts", {"write": ("ply",)}, "has no ply"),
        ("depth", {"write": ("ply",)}, "which ones 0 and 1 stand for"),
    ):
        with pytest.raises(UsageError, match=message):
            run(task, models, [photos], tmp_path / task, **settings)
    with pytest.raises(UsageError, match="a model for 'parts'"):
        predict("depth", models["parts"], [str(photos)], tmp_path / "x", PredictConfig())


def test_reading_ahead_keeps_the_order_and_stops_early() -> None:
    made: list[int] = []

    def items() -> Any:
        for number in range(100):
            made.append(number)
            yield number

    assert list(ahead(range(10), 3)) == list(range(10))
    ahead_of = ahead(items(), 3)
    assert [next(ahead_of) for _ in range(5)] == [0, 1, 2, 3, 4]
    ahead_of.close()  # type: ignore[attr-defined]
    assert len(made) <= 5 + 3 + 1


def test_a_reader_that_fails_is_heard() -> None:
    def items() -> Any:
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(ahead(items(), 2))


def test_a_trained_model_finds_people_it_never_saw(
    training_people: Path, label_scene: Callable[[Camera, int, int], Labels], camera_of: Any, tmp_path: Path
) -> None:
    """From finetune's folder, through load, in three lines: better than saying background everywhere."""
    config = FinetuneConfig(
        image_size=(96, 64),
        size="tiny",
        head=HeadConfig(deconv_channels=(24, 24), conv_channels=(24,)),
        batch=8,
        steps=50,
        warmup_steps=5,
        learning_rate=3e-3,
        layer_decay=1.0,
        augment=AugmentConfig.off(),
        cache=64,
    )
    finetune("parts", config, training_people, None, tmp_path / "model")
    model = load(tmp_path / "model")
    labels = label_scene(camera_of((192, 144)), 300, 0)
    assert labels.rgb is not None and labels.parts is not None
    found = model(labels.rgb)
    person = labels.parts > 0
    overlap = (person & (found > 0)).sum() / (person | (found > 0)).sum()
    assert overlap > 0.4, overlap
