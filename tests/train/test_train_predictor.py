"""The predictor: batches, mirror images, tiles and boxes change nothing that they should not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from annotation.parts import flip_parts
from shards.errors import UsageError
from tests.train.random_models import HEAD, SIZE, STRIDE, TARGET, Photo, predictor, save_model
from train.data.view import View
from train.finetune import assemble
from train.models.heads import TaskModel
from train.models.vit import ViT, ViTConfig
from train.predict import load
from train.prediction.picture import Boxes, Picture
from train.prediction.predictor import Predictor, PredictorConfig
from train.prediction.windows import (
    Canvas,
    decode_in_bands,
    native_grid,
    people_layout,
    tile_layout,
    whole_layout,
)
from train.tasks import TASKS, Task, TaskConfig, make_task


class Planted(TaskModel):
    """A network whose output is the picture itself, averaged over STRIDE x STRIDE pixels."""

    def __init__(self, task: Task, relative: bool = False) -> None:
        encoder = ViT(ViTConfig(width=32, depth=1, heads=2, image_size=SIZE, with_cls=False))
        super().__init__(encoder, assemble(task, encoder, HEAD).head)
        self.channels, self.relative = task.channels, relative

    def forward(self, images_BCHW: Tensor, noise_BN: Tensor | None = None) -> Tensor:
        shades = F.avg_pool2d(images_BCHW.float() / 255, STRIDE)
        output = shades[:, torch.arange(self.channels) % 3]
        if not self.relative:
            return output
        low, high = output.amin((2, 3), keepdim=True), output.amax((2, 3), keepdim=True)
        return (output - low) / (high - low).clamp(min=1e-6)


class PlantedHeatmaps(Planted):
    """Heat maps that are the picture's brightness, at the places where heat-map pixels lie."""

    def forward(self, images_BCHW: Tensor, noise_BN: Tensor | None = None) -> Tensor:
        size = (SIZE[0] // STRIDE, SIZE[1] // STRIDE)
        red = images_BCHW[:, :1].float() / 255
        return F.interpolate(red, size=size, mode="bilinear", align_corners=True).repeat(
            1, self.channels, 1, 1
        )


def ramp(size: tuple[int, int]) -> np.ndarray:
    """Red rises to the right, green downwards, blue both: affine up to the rounding to 8 bits."""
    y, x = np.linspace(0, 1, size[0])[:, None], np.linspace(0, 1, size[1])[None]
    planes = np.stack([40 + 170 * x + 0 * y, 40 + 170 * y + 0 * x, 40 + 85 * (x + y)], axis=-1)
    return np.asarray(np.rint(planes), np.uint8)


BOXES = np.array([[5.0, 8.0, 40.0, 80.0], [30.0, 2.0, 66.0, 71.5]])


@pytest.mark.parametrize("task", sorted(TASKS))
def test_batched_predictions_equal_single_ones(task: str, photo: Photo) -> None:
    """Also of pictures of different sizes, and with batches that cut through a picture's people."""
    pictures = [
        Picture(str(n), photo(n, (70 + 9 * n, 90 - 7 * n)), Boxes(BOXES[: 1 + n % 2], np.ones(1 + n % 2)))
        for n in range(5)
    ]
    batched = list(predictor(task, batch=3).stream(iter(pictures)))
    assert [prediction.picture.name for prediction in batched] == ["0", "1", "2", "3", "4"]
    single = predictor(task, batch=1)
    for picture, found in zip(pictures, batched, strict=True):
        assert picture.boxes is not None
        alone = single(picture.image, picture.boxes.xyxy if task == "pose" else None)
        if task == "parts":
            assert (alone == found.values).mean() > 0.999
        else:
            np.testing.assert_allclose(alone, found.values, atol=2e-4)
        assert np.ptp(found.values) > 0


def test_a_prediction_is_that_of_evaluation(photo: Photo) -> None:
    """Whole picture, resized without its aspect, decoded by the task: the published way."""
    model = predictor("normal")
    image = photo(3, (100, 60))
    view = View.whole((100, 60), SIZE)
    with torch.inference_mode():
        output = model.output(torch.from_numpy(view.colours(image).transpose(2, 0, 1)[None].copy()))[0]
    np.testing.assert_array_equal(model(image), model.task.decode(output, view, (100, 60)))


@pytest.mark.parametrize("task", ["depth", "normal", "parts", "alpha"])
def test_flip_averaging_is_equivariant(task: str, photo: Photo) -> None:
    image = photo(1, SIZE)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    model, plain = predictor(task, flip="on"), predictor(task)

    def flipped(values: np.ndarray) -> np.ndarray:
        if task == "parts":
            return flip_parts(values, 28)
        return values[:, ::-1] * (np.array([-1, 1, 1]) if task == "normal" else 1)

    if task == "parts":
        assert (model(mirrored) == flipped(model(image))).mean() > 0.999
        assert (plain(mirrored) == flipped(plain(image))).mean() < 0.9
    else:
        np.testing.assert_allclose(model(mirrored), flipped(model(image)), atol=1e-5)
        assert np.abs(plain(mirrored) - flipped(plain(image))).max() > 1e-2


def test_flip_averaging_swaps_the_keypoints() -> None:
    """Heat maps of the mirrored window are mirrored, and left and right trade names."""
    seeded = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8, generator=seeded)
    model, plain = predictor("pose", flip="on"), predictor("pose")
    mirrored = model.task.unmirror(model.output(images.flip(3)))
    torch.testing.assert_close(mirrored, model.output(images), atol=1e-5, rtol=0)
    assert not torch.allclose(
        plain.task.unmirror(plain.output(images.flip(3))), plain.output(images), atol=0.1
    )


@pytest.mark.parametrize("padding", [1.0, 1.25])
def test_a_planted_peak_returns_to_its_source_pixel(padding: float) -> None:
    task = make_task("pose", TaskConfig(blur=5, box_padding=padding))
    model = Predictor(PlantedHeatmaps(task), task, SIZE, STRIDE)
    y, x = np.mgrid[:240, :320].astype(float)
    errors = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x0, y0 = rng.uniform(20, 150), rng.uniform(5, 60)
        box = np.array([[x0, y0, x0 + rng.uniform(60, 120), y0 + rng.uniform(100, 170)]])
        target = rng.uniform(box[0, :2] + 20, box[0, 2:] - 20)
        spread = (box[0, 3] - box[0, 1]) / SIZE[0] * STRIDE * 1.5
        blob = np.exp(-((x - target[0]) ** 2 + (y - target[1]) ** 2) / (2 * spread**2))
        image = np.repeat(np.rint(250 * blob)[..., None], 3, axis=-1).astype(np.uint8)
        found = model(image, box)[0, 0, :2]
        errors.append(np.abs(found - target).max())
    assert max(errors) < 0.5, errors


@pytest.mark.parametrize("grid", ["2x2", "3x2", "auto"])
def test_tiles_of_an_affine_field_equal_the_whole(grid: str) -> None:
    """And have no seam: the second difference stays within the rounding of the picture."""
    image = ramp((200, 170))
    task = make_task("albedo", TARGET)
    tiled = Predictor(Planted(task), task, SIZE, STRIDE, PredictorConfig(tiles=grid))(image)
    inner = (slice(12, -12), slice(12, -12))  # the border of the whole is one coarse pixel flat
    np.testing.assert_allclose(tiled[inner], image[inner] / 255, atol=1.5 / 255)
    assert np.abs((tiled[inner] - image[inner] / 255).mean((0, 1))).max() < 0.15 / 255  # half a pixel: 0.5
    assert np.abs(np.diff(tiled[inner], n=2, axis=0)).max() < 1.5 / 255
    assert np.abs(np.diff(tiled[inner], n=2, axis=1)).max() < 1.5 / 255


def test_one_tile_is_the_whole_picture(photo: Photo) -> None:
    image = photo(4, (130, 90))
    np.testing.assert_allclose(predictor("normal", tiles="1x1")(image), predictor("normal")(image), atol=1e-4)


def test_relative_tiles_are_brought_to_one_scale() -> None:
    """Each window's depth runs from 0 to 1 of its own; the tiled picture runs from 0 to 1 as a whole."""
    image = ramp((200, 170))
    task = make_task("depth", TARGET)
    whole = Predictor(Planted(task, relative=True), task, SIZE, STRIDE)(image)
    tiled = Predictor(Planted(task, relative=True), task, SIZE, STRIDE, PredictorConfig(tiles="3x3"))(image)
    inner = (slice(12, -12), slice(12, -12))
    np.testing.assert_allclose(tiled[inner], whole[inner], atol=0.02)
    assert np.abs(np.diff(tiled[inner], n=2, axis=1)).max() < 0.01


def test_a_tile_that_contradicts_the_whole_takes_its_mean() -> None:
    guide = torch.linspace(0, 1, 24).expand(1, 32, 24).contiguous()
    layout = tile_layout((128, 96), SIZE, STRIDE, 1, (2, 2), 0.25, guided=True)
    assert layout.canvas is not None and len(layout.windows) == 5
    canvas = Canvas(1, layout.canvas, (128, 96))
    guide = F.interpolate(guide[None], size=layout.canvas)[0]
    backwards = torch.linspace(1, 0, SIZE[1] // STRIDE).expand(1, SIZE[0] // STRIDE, -1).contiguous()
    canvas.add_aligned(backwards, layout.windows[1], guide)
    seen = canvas.weight_rc > 0
    assert float(canvas.merged()[0][seen].std()) < 1e-5


def test_tiles_cover_the_picture_and_keep_every_pixel() -> None:
    assert native_grid((64, 48), SIZE, 0.25) == (1, 1)
    assert native_grid((2160, 3840), (1024, 768), 0.25) == (3, 7)
    layout = tile_layout((2160, 3840), (1024, 768), 2, 28, (3, 7), 0.25, guided=False)
    views = [window.view for window in layout.windows]
    assert max(view.width / view.size[1] for view in views) <= 1.0 + 1e-9
    assert min(view.centre[0] - view.width / 2 for view in views) == pytest.approx(-0.5)
    assert max(view.centre[0] + view.width / 2 for view in views) == pytest.approx(3839.5)
    assert max(view.centre[1] + view.height / 2 for view in views) == pytest.approx(2159.5)


def test_a_canvas_is_bounded() -> None:
    layout = tile_layout((20_000, 20_000), (1024, 768), 2, 308, (26, 35), 0.25, guided=False)
    assert layout.canvas is not None and 308 * layout.canvas[0] * layout.canvas[1] <= 64_000_000


@pytest.mark.parametrize("task", ["parts", "depth", "normal"])
def test_decoding_in_bands_changes_nothing(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_task(task, TARGET)
    output = torch.randn(made.channels, 16, 12, generator=torch.Generator().manual_seed(0))
    at_once = decode_in_bands(made, output, (131, 77))
    monkeypatch.setattr("train.prediction.windows.BAND_VALUES", made.channels * 77 * 10)
    in_bands = decode_in_bands(made, output, (131, 77))
    if task == "parts":
        assert (in_bands == at_once).mean() > 0.999
    else:
        np.testing.assert_allclose(in_bands, at_once, atol=1e-5)


def test_a_letterboxed_picture_keeps_its_aspect_and_place() -> None:
    image = ramp((150, 200))
    task = make_task("albedo", TARGET)
    found = Predictor(Planted(task), task, SIZE, STRIDE, PredictorConfig(fit="letterbox"))(image)
    inner = (slice(25, -25), slice(25, -25))  # beyond it an output pixel averages picture and margin
    np.testing.assert_allclose(found[inner], image[inner] / 255, atol=2 / 255)
    assert np.abs((found[inner] - image[inner] / 255).mean((0, 1))).max() < 0.2 / 255


def test_windows_around_people_return_to_their_place_and_nothing_is_said_elsewhere() -> None:
    image = ramp((200, 170))
    task = make_task("albedo", TARGET)
    model = Predictor(Planted(task), task, SIZE, STRIDE, PredictorConfig(fit="person", padding=1.0))
    found = model(image, np.array([[20.0, 30.0, 80.0, 110.0], [70.0, 60.0, 130.0, 140.0]]))
    assert (found[:20] == 0).all() and (found[150:] == 0).all() and (found[:, 140:] == 0).all()
    for inside in (np.s_[40:100, 50], np.s_[70:130, 100], np.s_[68:100, 68:78]):  # one, other, both
        np.testing.assert_allclose(found[inside], image[inside] / 255, atol=2 / 255)
        assert np.abs((found[inside] - image[inside] / 255).mean()) < 0.2 / 255
    assert (model(image, np.zeros((0, 4))) == 0).all()
    coverage = predictor("alpha", fit="person")(image, np.array([[20.0, 30.0, 80.0, 110.0]]))
    assert coverage[60, 50] > 0 and (coverage[150:] == 0).all()  # a logit of 0 would be a half
    layout = people_layout(BOXES, 1.0, (200, 170), SIZE, STRIDE, 3)
    assert len(layout.windows) == 2 and whole_layout((200, 170), SIZE).canvas is None


def test_canonical_depth_knows_how_wide_its_window_is(photo: Photo) -> None:
    """The same lens seen through a half as wide window is twice as long for it."""
    task = make_task("pointmap", TARGET)
    image = np.full((128, 96, 3), 90, np.uint8)
    whole = Predictor(Planted(task), task, SIZE, STRIDE)(image)
    tiled = Predictor(Planted(task), task, SIZE, STRIDE, PredictorConfig(tiles="2x2"))(image)
    layout = tile_layout((128, 96), SIZE, STRIDE, 1, (2, 2), 0.25, guided=False)
    ratio = 96 / layout.windows[0].view.width
    np.testing.assert_allclose(tiled, whole * ratio, rtol=1e-4)


def test_half_precision_stays_close_and_its_last_layer_exact(photo: Photo) -> None:
    image = photo(5, (100, 80))
    exact, half = predictor("normal")(image), predictor("normal", precision="bf16")(image)
    cosine = (exact * half).sum(-1).clip(-1, 1)
    assert np.degrees(np.arccos(cosine)).mean() < 5
    windows = torch.from_numpy(photo(6, SIZE).transpose(2, 0, 1)[None].copy())
    output = predictor("depth", precision="bf16").output(windows)
    assert output.dtype == torch.float32
    assert (output.bfloat16().float() != output).float().mean() > 0.9


def test_a_full_gpu_gets_smaller_batches(photo: Photo) -> None:
    task = make_task("depth", TARGET)

    class Small(Planted):
        def forward(self, images_BCHW: Tensor, noise_BN: Tensor | None = None) -> Tensor:
            if len(images_BCHW) > 1:
                raise torch.OutOfMemoryError("no memory")
            return super().forward(images_BCHW, noise_BN)

    pictures = [Picture(str(n), photo(n, (90, 70))) for n in range(3)]
    found = list(Predictor(Small(task), task, SIZE, STRIDE).stream(pictures))
    expected = list(Predictor(Planted(task), task, SIZE, STRIDE).stream(pictures))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("pose", {"tiles": "2x2"}, "top-down"),
        ("depth", {"fit": "person"}, "no common scale"),
        ("parts", {"fit": "person", "tiles": "auto"}, "choose one"),
    ],
)
def test_contradictions_are_refused(task: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        predictor(task, **settings)


def test_wrong_tiles_are_refused(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "parts")
    with pytest.raises(UsageError, match="rows x columns"):
        load(folder, tiles="2by3")
    with pytest.raises(UsageError, match="no such model"):
        load(tmp_path / "nothing")
