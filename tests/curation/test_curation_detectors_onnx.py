"""The conventions of the ONNX detectors, on small networks that *see*.

No released weights can be had offline, so each test builds a network with the signature of a released one. It
finds a planted rectangle by its colour, as the convention should present it, to a fraction of a pixel, and
reports a score that collapses when a pixel it watches (padding, edges) has not the value that the convention
says. Channel order, means, resizing, padding, grids, strides, class slots, the way back are all in between.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from curation.boxes import Boxes, make_boxes
from curation.detectors import (
    DetectorConfig,
    detector_config,
    known_detectors,
    load_detector,
    pin_detector,
    registry,
)
from curation.detectors.network import OnnxConfig, suppress
from curation.detectors.resize import letterbox, stretch
from curation.detectors.rfdetr import RFDETRConfig
from curation.detectors.rtdetr import RTDETRConfig
from curation.detectors.rtmdet import RTMDetConfig
from curation.detectors.yolox import YOLOXConfig
from curation.weights import onnx_session
from shards.config import Config, parse_config
from shards.errors import UsageError

HEIGHT, WIDTH = 96, 160  # of every network: not square, so that swapped axes show
MARKER, BACKGROUND, GREY = (230, 40, 150), (60, 140, 90), (114, 114, 114)  # RGB
SCORE = 0.9  # what a network says when all it watches is right
Color = tuple[int, int, int]
ANY: list[tuple[int, int, Color]] = [(0, 0, BACKGROUND)]  # watch next to nothing


@dataclass(frozen=True)
class Scene:
    """An image with one rectangle, and how exactly a network of this size can know where it is."""

    height: int
    width: int
    box: tuple[int, int, int, int]
    tolerance: float  # px of the image

    @property
    def image(self) -> Any:
        image = np.full((self.height, self.width, 3), BACKGROUND, np.uint8)
        x0, y0, x1, y1 = self.box
        image[y0:y1, x0:x1] = MARKER
        return image


# Enlarged: edges become ramps whose centres are exact. Reduced without antialiasing: to a network's pixel.
UP = Scene(40, 27, (7, 11, 19, 31), tolerance=0.03)
DOWN = Scene(700, 1100, (130, 90, 520, 610), tolerance=7.4)
SCENES = {"up": UP, "down": DOWN}


class Net:
    """Builds an ONNX graph one operator at a time; arrays become initializers."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []

    def __call__(self, operator: str, *inputs: Any, **attributes: Any) -> str:
        names = [value if isinstance(value, str) else self._array(value) for value in inputs]
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [output], **attributes))
        return output

    def _array(self, value: Any) -> str:
        name = f"c{len(self.arrays)}"
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        self.arrays.append(numpy_helper.from_array(array, name))
        return name

    def save(
        self, path: Path, inputs: dict[str, list[Any]], outputs: dict[str, tuple[str, list[Any]]]
    ) -> Path:
        """Outputs: name -> (value, shape); shapes may hold names."""
        kinds = {"orig_target_sizes": TensorProto.INT64}
        if "orig_target_sizes" in inputs or ("dets" in outputs and outputs["dets"][1][-1] == 5):
            kinds["labels"] = TensorProto.INT64

        def describe(name: str, shape: list[Any]) -> Any:
            return helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape)

        for name, (value, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        graph = helper.make_graph(
            self.nodes,
            "test",
            [describe(name, shape) for name, shape in inputs.items()],
            [describe(name, shape) for name, (_, shape) in outputs.items()],
            self.arrays,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))
        return path


def see(
    net: Net, images: str, present: Callable[[Color], Any], watched: Sequence[tuple[int, int, Color]]
) -> tuple[list[str], str]:
    """(x0, y0, x1, y1 of the rectangle in px of the input, score), each (N, 1).

    `present`: RGB -> the three values that the network should be given for it. Each pixel is background +
    coverage x (marker - background) with one coverage for all channels, else it is not seen. Where the
    columns' coverage begins and ends is known from its sum and its centre.
    """
    background, marker = (
        np.array(present(color), float).reshape(1, 3, 1, 1) for color in (BACKGROUND, MARKER)
    )
    share = net("Div", net("Sub", images, background), marker - background)
    least = net("ReduceMin", share, axes=[1])
    agree = net("Cast", net("Less", net("Sub", net("ReduceMax", share, axes=[1]), least), 0.06), to=1)
    coverage = net("Mul", net("Clip", least, 0.0, 1.0), agree)
    corners = []
    for axis, length in ((2, WIDTH), (3, HEIGHT)):
        line = net("ReduceMax", coverage, axes=[1, axis], keepdims=0)
        extent = net("Max", net("ReduceSum", line, [1]), 1e-3)
        weighted = net("ReduceSum", net("Mul", line, np.arange(length) + 0.5), [1])
        centre, half = net("Div", weighted, extent), net("Mul", extent, 0.5)
        corners += [net("Sub", centre, half), net("Add", centre, half)]
    right: Any = 1.0
    for row, column, color in watched:
        pixel = net("Slice", images, [row, column], [row + 1, column + 1], [2, 3])
        off = net("Abs", net("Sub", pixel, np.array(present(color), float).reshape(1, 3, 1, 1)))
        worst = net("ReduceMax", net("Div", off, np.abs(marker - background)), axes=[1, 2, 3], keepdims=0)
        right = net("Mul", right, net("Clip", net("Sub", 1.0, net("Mul", worst, 10.0)), 0.0, 1.0))
    score = net("Unsqueeze", net("Mul", right, SCORE), [1])
    return [corners[0], corners[2], corners[1], corners[3]], score


def anchors() -> list[tuple[int, int, int]]:
    """(column, row, stride) in the order of YOLOX's output."""
    return [
        (column, row, stride)
        for stride in (8, 16, 32)
        for row in range(HEIGHT // stride)
        for column in range(WIDTH // stride)
    ]


def yolox(path: Path, watched: Any, batch: Any, anchor: int = 37, decoded: bool = False) -> Path:
    net = Net()
    (x0, y0, x1, y1), score = see(net, "images", lambda rgb: rgb[::-1], watched)
    (column, row, stride), count = anchors()[anchor], len(anchors())

    def place(low: str, high: str, cell: int) -> str:
        centre = net("Mul", net("Add", low, high), 0.5)
        return centre if decoded else net("Sub", net("Div", centre, float(stride)), float(cell))

    def extent(low: str, high: str) -> str:
        size = net("Sub", high, low)
        return size if decoded else net("Log", net("Div", size, float(stride)))

    classes = [net("Add", net("Mul", score, 0.0), value) for value in (0.8, 1.0, 0.1)]
    parts = [place(x0, x1, column), place(y0, y1, row), extent(x0, x1), extent(y0, y1), score, *classes]
    line = net("Unsqueeze", net("Concat", *parts, axis=1), [1])
    chosen = np.zeros((1, count, 1))
    chosen[0, anchor] = 1
    rest = np.tile(np.array([300.0, 300, 50, 50, 0, 0, 0, 0] if decoded else [0.0] * 8), (1, count, 1))
    # Another class, sure of itself, on the same spot of the next anchor: no person.
    rest[0, anchor + 1 - 2 * (anchor + 1 == count), 4:] = [1, 0, 1, 0]
    output = net("Add", net("Mul", line, chosen), rest * (1 - chosen))
    return net.save(path, {"images": [batch, 3, HEIGHT, WIDTH]}, {"output": (output, [batch, count, 8])})


def _bgr_normalised(rgb: Color) -> Any:
    return (np.array(rgb[::-1]) - [103.53, 116.28, 123.675]) / [57.375, 57.12, 58.395]


def rtmdet(path: Path, watched: Any, batch: Any) -> Path:
    net = Net()
    corners, score = see(net, "input", _bgr_normalised, watched)
    line = net("Unsqueeze", net("Concat", *corners, score, axis=1), [1])
    zero = net("Mul", line, 0.0)
    other = net("Add", zero, [5.0, 5, 50, 50, 0.99])
    dets = net("Concat", other, line, zero, axis=1)
    labels = net(
        "Cast", net("Add", net("ReduceSum", net("Mul", dets, 0.0), [2], keepdims=0), [1.0, 0, 0]), to=7
    )
    outputs = {"dets": (dets, [batch, "n", 5]), "labels": (labels, [batch, "n"])}
    return net.save(path, {"input": [batch, 3, HEIGHT, WIDTH]}, outputs)


def rtmdet_raw(path: Path, watched: Any, batch: Any, logits: bool) -> Path:
    net = Net()
    corners, score = see(net, "input", _bgr_normalised, watched)
    count, at = 12, 5
    low = net("Max", score, 0.01)
    said = net("Log", net("Div", low, net("Sub", 1.0, low))) if logits else low
    spots = np.zeros((1, count, 1))
    spots[0, at : at + 2] = 1  # twice the same person: one is suppressed
    line = net("Unsqueeze", net("Concat", *corners, axis=1), [1])
    boxes = net("Add", net("Mul", line, spots), (1 - spots) * np.array([1.0, 1, 9, 9]))
    silent = -6.0 if logits else 0.002
    person = net("Add", net("Mul", net("Unsqueeze", said, [1]), spots), (1 - spots) * silent)
    other = net("Add", net("Mul", person, 0.0), 6.0 if logits else 0.99)
    scores = net("Concat", person, other, axis=2)
    outputs = {"scores": (scores, [batch, count, 2]), "boxes": (boxes, [batch, count, 4])}
    return net.save(path, {"input": [batch, 3, HEIGHT, WIDTH]}, outputs)


def rfdetr(path: Path, watched: Any, batch: Any, names: Sequence[str] = ("input", "dets", "labels")) -> Path:
    net = Net()

    def present(rgb: Color) -> Any:
        return (np.array(rgb) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]

    (x0, y0, x1, y1), score = see(net, names[0], present, watched)
    queries = 6

    def half(a: str, b: str, operator: str, factor: float) -> str:
        return net("Mul", net(operator, a, b), factor)

    parts = [
        half(x1, x0, "Add", 0.5 / WIDTH),
        half(y1, y0, "Add", 0.5 / HEIGHT),
        half(x1, x0, "Sub", 1 / WIDTH),
        half(y1, y0, "Sub", 1 / HEIGHT),
    ]
    chosen = np.zeros((1, queries, 1))
    chosen[0, 4] = 1
    line = net("Unsqueeze", net("Concat", *parts, axis=1), [1])
    boxes = net("Add", net("Mul", line, chosen), (1 - chosen) * np.array([0.5, 0.5, 0.2, 0.2]))
    low = net("Max", score, 0.01)
    logit = net("Unsqueeze", net("Log", net("Div", low, net("Sub", 1.0, low))), [1])
    slot = np.zeros((1, 1, 91))
    slot[..., 1] = 1
    rest = np.full((1, queries, 91), -7.0)
    rest[..., 0] = rest[..., 2] = 7  # neighbours of the person slot, sure of themselves
    logits = net("Add", net("Mul", logit, chosen * slot), rest * (1 - chosen * slot))
    outputs = {names[1]: (boxes, [batch, queries, 4]), names[2]: (logits, [batch, queries, 91])}
    return net.save(path, {names[0]: [batch, 3, HEIGHT, WIDTH]}, outputs)


def rtdetr(path: Path, watched: Any, batch: Any) -> Path:
    net = Net()
    corners, score = see(net, "images", lambda rgb: np.array(rgb) / 255, watched)
    sizes = net("Cast", "orig_target_sizes", to=1)
    whole = net("Concat", sizes, sizes, axis=1)
    box = net(
        "Div", net("Mul", net("Concat", *corners, axis=1), whole), [float(v) for v in (WIDTH, HEIGHT) * 2]
    )
    boxes = net("Concat", net("Unsqueeze", net("Mul", box, 0.5), [1]), net("Unsqueeze", box, [1]), axis=1)
    scores = net("Concat", net("Add", net("Mul", score, 0.0), 0.99), score, axis=1)
    labels = net("Cast", net("Add", net("Mul", scores, 0.0), [16.0, 0.0]), to=7)
    outputs = {
        "labels": (labels, [batch, 2]),
        "boxes": (boxes, [batch, 2, 4]),
        "scores": (scores, [batch, 2]),
    }
    return net.save(path, {"images": [batch, 3, HEIGHT, WIDTH], "orig_target_sizes": [batch, 2]}, outputs)


# Name -> (builder, configuration, score expected)
HF_NAMES = ("pixel_values", "pred_boxes", "logits")
CASES: dict[str, tuple[Callable[..., Path], type[OnnxConfig], float]] = {
    "yolox-stride8": (yolox, YOLOXConfig, 0.8 * SCORE),
    "yolox-stride16": (partial(yolox, anchor=12 * 20 + 13), YOLOXConfig, 0.8 * SCORE),
    "yolox-stride32": (partial(yolox, anchor=12 * 20 + 6 * 10 + 8), YOLOXConfig, 0.8 * SCORE),
    "rtmdet-end2end": (rtmdet, RTMDetConfig, SCORE),
    "rtmdet-probabilities": (partial(rtmdet_raw, logits=False), RTMDetConfig, SCORE),
    "rtmdet-logits": (partial(rtmdet_raw, logits=True), RTMDetConfig, SCORE),
    "rfdetr": (rfdetr, RFDETRConfig, SCORE),
    "rfdetr-onnx-community": (partial(rfdetr, names=HF_NAMES), RFDETRConfig, SCORE),
    "rtdetr": (rtdetr, RTDETRConfig, SCORE),
}


def watched_pixels(name: str, scene: Scene) -> list[tuple[int, int, Color]]:
    """What must be seen where: the picture's last column and row, and what follows them."""
    corner = (HEIGHT - 1, WIDTH - 1)
    if not name.startswith(("yolox", "rtmdet")):
        return [(0, 0, BACKGROUND), (*corner, BACKGROUND)]
    if scene is UP:  # 27 x 2.4 = 64.8 columns: YOLOX truncates to 64, mmdet rounds to 65
        last = 63 if name.startswith("yolox") else 64
        return [(0, 0, BACKGROUND), (HEIGHT - 1, last, BACKGROUND), (0, last + 1, GREY), (*corner, GREY)]
    ratio = min(HEIGHT / 700, WIDTH / 1100)  # 96 rows, 150.86 columns
    last = (150 if name.startswith("yolox") else 151) - 1
    assert int(1100 * ratio) == 150
    return [(0, 0, BACKGROUND), (HEIGHT - 1, last, BACKGROUND), (0, last + 1, GREY), (*corner, GREY)]


def build(tmp_path: Path, name: str, scene: Scene, batch: Any = "N") -> OnnxConfig:
    """The network of a case for a scene, and the configuration that reads it."""
    builder, config, _ = CASES[name]
    path = builder(tmp_path / f"{name}.onnx", watched_pixels(name, scene), batch)
    return config.model_validate({"weights": str(path)})


@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("name", CASES)
def test_planted_boxes_come_back_to_the_pixel(tmp_path: Path, name: str, scene: str, batch: Any) -> None:
    planted = SCENES[scene]
    found = load_detector(build(tmp_path, name, planted, batch)).detect([planted.image])[0]
    assert len(found) == 1, found
    assert found.score[0] == pytest.approx(CASES[name][2], abs=0.02)
    assert found.xyxy[0] == pytest.approx(planted.box, abs=planted.tolerance)


@pytest.mark.parametrize("name", CASES)
def test_neighbours_in_a_batch_change_nothing(tmp_path: Path, name: str) -> None:
    config = build(tmp_path, name, UP).model_copy(update={"batch": 3})
    rng = np.random.default_rng(1)
    images = [UP.image, DOWN.image, rng.integers(0, 256, (50, 90, 3), np.uint8), UP.image[:, ::-1].copy()]

    def rows(boxes: Sequence[Boxes]) -> list[Any]:
        return [(found.xyxy.tolist(), found.score.tolist()) for found in boxes]

    together = rows(load_detector(config).detect(images))
    alone = [rows(load_detector(config).detect([image]))[0] for image in images]
    assert together == alone
    assert rows(load_detector(config).detect(images[::-1])) == alone[::-1]
    assert load_detector(config).detect([]) == []
    one = load_detector(config.model_copy(update={"batch": 1})).detect(images)
    assert rows(one) == alone
    assert len(one[0]) == 1


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (3, 5000)])
def test_slivers_are_survived(tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
    found = load_detector(build(tmp_path, name, UP)).detect([np.zeros((*shape, 3), np.uint8)])[0]
    assert (found.xyxy >= 0).all()
    assert (found.xyxy[:, 2:] <= [shape[1], shape[0]]).all()


@pytest.mark.parametrize("name", CASES)
def test_a_file_tells_its_convention_and_others_refuse_it(tmp_path: Path, name: str) -> None:
    config = build(tmp_path, name, UP)
    path = config.weights.path
    assert detector_config(str(path)) == config
    for other in {kind for _, kind, _ in CASES.values()} - {type(config)}:
        with pytest.raises(UsageError, match=r"expected: .*\n +got: inputs"):
            load_detector(other.model_validate({"weights": str(path)})).detect([UP.image])
        with pytest.raises(UsageError, match="not a network of backend"):
            pin_detector(other.model_validate({"weights": str(path)}))


def test_an_unknown_network_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    net = Net()
    path = net.save(tmp_path / "n.onnx", {"x": [1, 3, 64, 64]}, {"y": (net("Relu", "x"), [1, 3, 64, 64])})
    with pytest.raises(
        UsageError, match=r"fits 0 backends(.|\n)*rf-detr: input(.|\n)*x float\(1, 3, 64, 64\)"
    ):
        detector_config(str(path))


def test_yolox_exported_with_decoding_is_refused(tmp_path: Path) -> None:
    path = yolox(tmp_path / "n.onnx", ANY, 1, decoded=True)
    with pytest.raises(UsageError, match="decode_in_inference"):
        load_detector(YOLOXConfig.model_validate({"weights": str(path)})).detect([UP.image])


def test_legacy_yolox_is_refused() -> None:
    url = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.0/yolox_s.onnx"
    with pytest.raises(ValidationError, match=r"0\.1\.1rc0"):
        YOLOXConfig.model_validate({"weights": url})


def test_logits_where_probabilities_were_promised_are_refused(tmp_path: Path) -> None:
    path = rtmdet_raw(tmp_path / "n.onnx", ANY, 1, logits=True)
    config = RTMDetConfig.model_validate({"weights": str(path), "scores": "probabilities"})
    with pytest.raises(UsageError, match="scores: logits"):
        load_detector(config).detect([UP.image])


def test_networks_of_any_size_need_one(tmp_path: Path) -> None:
    net = Net()
    corners, score = see(net, "input", _bgr_normalised, ANY)
    dets = net("Unsqueeze", net("Concat", *corners, score, axis=1), [1])
    labels = net("Cast", net("ReduceSum", net("Mul", dets, 0.0), [2], keepdims=0), to=7)
    outputs = {"dets": (dets, ["N", 1, 5]), "labels": (labels, ["N", 1])}
    path = net.save(tmp_path / "n.onnx", {"input": ["N", 3, "H", "W"]}, outputs)
    with pytest.raises(UsageError, match="say `side`"):
        load_detector(RTMDetConfig.model_validate({"weights": str(path), "side": None})).detect([UP.image])


def test_suppression_keeps_the_better_of_two_that_overlap_enough() -> None:
    sides = [(0.0, 10.0, 10.0), (0.0, 10.0, 9.0), (0.0, 10.0, 4.0), (20.0, 30.0, 10.0)]
    found = make_boxes([((x0, 0.0, x1, y1), 0.9 - i / 10) for i, (x0, x1, y1) in enumerate(sides)])
    assert suppress(found, 0.45).score.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert suppress(found, 0.35).score.tolist() == pytest.approx([0.9, 0.6])
    assert len(suppress(found, 0.95)) == 4
    assert len(suppress(make_boxes([]), 0.5)) == 0


@pytest.mark.parametrize(("height", "width"), [(70, 50), (7, 90), (200, 31), (1, 1)])
def test_stretching_is_torch_without_antialiasing(height: int, width: int) -> None:
    image = np.random.default_rng(2).integers(0, 256, (height, width, 3), np.uint8)
    pixels = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None]
    expected = torch.nn.functional.interpolate(pixels, (48, 64), mode="bilinear", align_corners=False)
    assert (
        np.abs(stretch(image, 48, 64).transpose(2, 0, 1) - expected[0].numpy()).max() < 5e-3
    )  # of 255; torch rounds positions to float32


def test_letterboxing_is_the_released_preprocessing() -> None:
    """YOLOX's preproc, line by line."""
    image = np.random.default_rng(3).integers(0, 256, (333, 517, 3), np.uint8)
    ratio = min(96 / 333, 160 / 517)
    small = cv2.resize(image, (int(517 * ratio), int(333 * ratio)), interpolation=cv2.INTER_LINEAR)
    expected = np.ones((96, 160, 3), np.uint8) * 114
    expected[: int(333 * ratio), : int(517 * ratio)] = small
    assert np.array_equal(letterbox(image, 96, 160, rounding=0.0)[0], expected)


def test_pinning_fixes_bytes_and_device(tmp_path: Path) -> None:
    config = build(tmp_path, "yolox-stride8", UP).model_copy(update={"provider": "auto"})
    pinned = pin_detector(config)
    assert isinstance(pinned, OnnxConfig)
    identity = load_detector(pinned).identity()
    assert pinned.weights.sha256 == identity["weights"]
    assert pinned.provider == identity["provider"] in ("cpu", "cuda")
    assert set(identity) == {"name", "weights", "onnxruntime", "provider"}
    other = yolox(tmp_path / "other.onnx", ANY, 1)
    assert load_detector(YOLOXConfig.model_validate({"weights": str(other)})).identity() != identity


def test_cuda_is_never_replaced_by_cpu_silently(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    config = build(tmp_path, "yolox-stride8", UP).model_copy(update={"provider": "cuda"})
    assert load_detector(config).identity()["provider"] == "cuda"  # planning needs no GPU
    with pytest.raises(UsageError, match=r"onnxruntime-gpu.*provider: cpu"):
        load_detector(config).detect([UP.image])
    assert onnx_session(tmp_path / "yolox-stride8.onnx", "auto").get_providers() == ["CPUExecutionProvider"]


class Holder(Config):
    detector: DetectorConfig


def test_configurations_name_a_detector_or_spell_it_out() -> None:
    by_name = parse_config({"detector": {"name": "rtmdet-m", "provider": "cuda"}}, Holder, "x").detector
    assert isinstance(by_name, RTMDetConfig)
    assert by_name.provider == "cuda"
    assert by_name.model_copy(update={"provider": "cpu"}) == detector_config("rtmdet-m")
    assert Holder.model_validate(Holder(detector=by_name).model_dump(mode="json")).detector == by_name
    assert parse_config({"detector": {"floor": 0.1}}, Holder, "x").detector.backend == "opencv"
    assert detector_config("opencv") == parse_config({"detector": {}}, Holder, "x").detector
    for wrong, message in (
        ({"name": "yolov8"}, "known: opencv, yolox-s"),
        ({"backend": "yolov8"}, "yolox"),
        ({"backend": "yolox"}, "weights: required"),
        ({"backend": "yolox", "weights": "http://x/y.onnx"}, "https"),
        ({"name": "yolox-s", "sides": 3}, "unknown field"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_config({"detector": wrong}, Holder, "x")
    with pytest.raises(UsageError, match=r"yolox-s.*rf-detr-m"):
        detector_config("yolov8")


def test_the_registry_holds_what_can_be_fetched() -> None:
    assert {"yolox-s", "yolox-m", "rtmdet-m", "rf-detr-n", "rf-detr-m"} <= set(known_detectors())
    for name, entry in registry().items():
        config: Any = detector_config(name)
        assert config.weights.url.startswith("https://"), name
        assert config.weights.licence in ("Apache-2.0", "BSD-3-Clause"), name
        assert entry["about"]
        mutable = "/main/" in config.weights.url
        assert mutable == (config.weights.sha256 is None), name
