"""ONNX encoders and classifiers over whole images: preprocessing to the pixel, scores, prompt files.

The networks average each channel over the quarters of their input, so that a wrong order of channels, crop,
resizing or normalisation changes what comes out.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image as Pillow

from curation.filters import FilterConfig, load_filters, pin_filters
from curation.filters.art import OnnxArtConfig
from curation.filters.network import EncoderConfig, ImageNetwork, ScoreNetwork, prepare
from curation.filters.watermark import OnnxWatermarkConfig
from curation.filters.zero_shot import ZeroShot, ZeroShotConfig, read_prompts
from curation.weights import WeightsSource
from shards.config import parse_config
from shards.errors import ShardError, UsageError

Image = Callable[[str], Any]
SIZE = 16
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
RED, GREEN, BLUE = (200, 0, 0), (0, 100, 0), (0, 0, 50)
KEEP, ART, MARK = [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]


def build(path: Path, batch: int | str = "n", pool: int = SIZE // 2, kind: int = TensorProto.FLOAT) -> Path:
    """Channel means over squares of `pool` px -> (batch, 3 * (SIZE / pool)^2), channel by channel."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["means"], kernel_shape=[pool] * 2, strides=[pool] * 2),
        helper.make_node("Flatten", ["means"], ["embedding"]),
    ]
    values = 3 * (SIZE // pool) ** 2
    graph = helper.make_graph(
        nodes,
        "quarters",
        [helper.make_tensor_value_info("image", kind, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("embedding", kind, [batch, values])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


@pytest.fixture
def quarters(tmp_path: Path) -> Path:
    return build(tmp_path / "quarters.onnx")


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """The mean colour: an embedding of three numbers."""
    return build(tmp_path / "colours.onnx", pool=SIZE)


def config(path: Path, **changes: Any) -> EncoderConfig:
    return EncoderConfig.model_validate({"weights": str(path), "size": SIZE, **PLAIN, **changes})


def filled(*colour: int, shape: tuple[int, int] = (40, 40)) -> Any:
    return np.broadcast_to(np.array(colour, np.uint8), (*shape, 3)).copy()


def checkered() -> Any:
    """Red, green, blue, black in the quarters, from the top left, row by row."""
    picture = np.zeros((2 * SIZE, 2 * SIZE, 3), np.uint8)
    picture[:SIZE, :SIZE], picture[:SIZE, SIZE:], picture[SIZE:, :SIZE] = RED, GREEN, BLUE
    return picture


def test_channels_places_and_values(quarters: Path) -> None:
    (row,) = ImageNetwork(config(quarters, interpolation="bilinear")).run([checkered()])
    red, green, blue = row.reshape(3, 4)
    assert red == pytest.approx([200 / 255, 0, 0, 0], abs=0.03)  # quarters mix a little at their borders
    assert green == pytest.approx([0, 100 / 255, 0, 0], abs=0.03)
    assert blue == pytest.approx([0, 0, 50 / 255, 0], abs=0.03)
    (swapped,) = ImageNetwork(config(quarters, interpolation="bilinear", channels="bgr")).run([checkered()])
    assert np.array_equal(swapped.reshape(3, 4), row.reshape(3, 4)[::-1])


def test_normalisation_is_in_the_order_of_the_channels(colours: Path) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    picture = filled(255, 51, 102)
    (row,) = ImageNetwork(config(colours, mean=mean, std=std)).run([picture])
    assert row == pytest.approx([(1 - 0.1) / 0.5, (0.2 - 0.2) / 0.25, (0.4 - 0.3) / 0.125], abs=1e-5)
    (row,) = ImageNetwork(config(colours, mean=mean, std=std, channels="bgr")).run([picture])
    assert row == pytest.approx([(0.4 - 0.1) / 0.5, (0.2 - 0.2) / 0.25, (1 - 0.3) / 0.125], abs=1e-4)


def test_crop_shows_the_middle_and_squash_everything(colours: Path) -> None:
    wide = filled(*RED, shape=(48, 96))
    wide[:, 24:72] = GREEN
    (cropped,) = ImageNetwork(config(colours, interpolation="bilinear")).run([wide])
    assert cropped == pytest.approx([0, 100 / 255, 0], abs=0.03)
    (squashed,) = ImageNetwork(config(colours, resize="squash")).run([wide])
    assert squashed == pytest.approx([100 / 255, 50 / 255, 0], abs=0.01)
    tall = np.ascontiguousarray(wide.transpose(1, 0, 2))
    assert ImageNetwork(config(colours, interpolation="bilinear")).run([tall])[0] == pytest.approx(cropped)
    framed = filled(*RED, shape=(96, 96))
    framed[24:72, 24:72] = GREEN
    (inner,) = ImageNetwork(config(colours, shorter=2 * SIZE, interpolation="bilinear")).run([framed])
    assert inner == pytest.approx([0, 100 / 255, 0], abs=0.03)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shorter", [None, 20])
@pytest.mark.parametrize("name", ["coffee.png", "chelsea.png", "astronaut.png"])
def test_crop_is_that_of_torchvision(
    image: Image, name: str, shorter: int | None, interpolation: str
) -> None:
    """Resize to the shorter side (the longer rounded down), then the middle: torchvision's, by steps."""
    picture = image(name)
    height, width = picture.shape[:2]
    side = shorter or SIZE
    size = (side * width // height, side) if width > height else (side, side * height // width)
    resampling = {"bilinear": Pillow.Resampling.BILINEAR, "bicubic": Pillow.Resampling.BICUBIC}
    small = np.asarray(Pillow.fromarray(picture).resize(size, resampling[interpolation]))
    top, left = round((size[1] - SIZE) / 2), round((size[0] - SIZE) / 2)
    expected = small[top : top + SIZE, left : left + SIZE]
    settings = config(Path("none.onnx"), shorter=shorter, interpolation=interpolation)
    found = prepare(picture, settings).transpose(1, 2, 0) * 255
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 4000)])
def test_slivers_are_survived(colours: Path, shape: tuple[int, int]) -> None:
    (row,) = ImageNetwork(config(colours)).run([filled(*RED, shape=shape)])
    assert row == pytest.approx([200 / 255, 0, 0], abs=0.01)


def test_neighbours_in_a_batch_change_nothing(tmp_path: Path, image: Image) -> None:
    images = [
        image(name) for name in ("coffee.png", "chelsea.png", "astronaut.png", "camera.png", "rocket.jpg")
    ]
    fixed = ImageNetwork(config(build(tmp_path / "four.onnx", batch=4)))
    free = ImageNetwork(config(build(tmp_path / "any.onnx"), batch=3))
    for network in (fixed, free):
        together = network.run(images)
        assert together.shape == (5, 12)
        assert np.array_equal(together, np.concatenate([network.run([each]) for each in images]))
    assert fixed.run([]).size == 0
    assert np.allclose(fixed.run(images), free.run(images), atol=1e-6)


def test_half_precision(tmp_path: Path) -> None:
    path = build(tmp_path / "half.onnx", pool=SIZE, kind=TensorProto.FLOAT16)
    assert ImageNetwork(config(path)).run([filled(*RED)])[0] == pytest.approx([200 / 255, 0, 0], abs=2e-3)


def test_scores_by_softmax_sigmoid_or_none(colours: Path) -> None:
    base = {"backend": "onnx", "weights": str(colours), "size": SIZE, **PLAIN}
    picture = filled(255, 51, 0)
    logits = np.array([1, 0.2, 0])
    share = np.exp(logits) / np.exp(logits).sum()
    for activation, expected in (
        ("softmax", share),
        ("sigmoid", 1 / (1 + np.exp(-logits))),
        ("none", logits),
    ):
        for index in range(3):
            chosen = OnnxWatermarkConfig.model_validate({**base, "activation": activation, "index": index})
            (row,) = ScoreNetwork(chosen, "watermark").measure([picture])
            assert row == {"watermark": pytest.approx(expected[index], abs=6e-5)}
    beyond = OnnxArtConfig.model_validate({**base, "index": 3})
    with pytest.raises(UsageError, match="index 3 by softmax of 3 outputs"):
        ScoreNetwork(beyond, "art").measure([picture])


def test_a_score_that_is_no_number_is_left_out(colours: Path) -> None:
    base = {"backend": "onnx", "weights": str(colours), "size": SIZE, "activation": "none"}
    chosen = OnnxArtConfig.model_validate({**base, "mean": (0, 0, 0), "std": (1e-45, 1, 1)})
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        assert ScoreNetwork(chosen, "art").measure([filled(*RED)]) == [{}]


def test_networks_of_another_shape_are_refused(quarters: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"images x 3 x 32 x 32 .*got image tensor"):
        ImageNetwork(config(quarters, size=32)).run([filled(*RED)])
    with pytest.raises(UsageError, match="no output 'logits'; it has embedding"):
        ImageNetwork(config(quarters, output="logits")).run([filled(*RED)])
    with pytest.raises(UsageError, match="no such file"):
        ImageNetwork(config(tmp_path / "gone.onnx")).run([filled(*RED)])


def prompts(**changes: Any) -> dict[str, Any]:
    """`keep` is red, `art` green (and, twice as long, nearly blue), `watermark` blue."""
    groups = {
        "keep": [{"prompt": "red", "embedding": KEEP}],
        "art": [{"prompt": "green", "embedding": ART}, {"prompt": "bluish", "embedding": [0, 0.2, 2.0]}],
        "watermark": [{"prompt": "blue", "embedding": MARK}],
    }
    content = {
        "format": "vitruvian-prompts",
        "version": 1,
        "model": "toy",
        "temperature": 0.1,
        "groups": groups,
    }
    return {**content, **changes}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def zero_shot(colours: Path, path: Path, **changes: Any) -> ZeroShot:
    given = {"weights": str(colours), "size": SIZE, "prompts": path, "columns": ("art", "watermark"), **PLAIN}
    return ZeroShot(ZeroShotConfig.model_validate({**given, **changes}))


def test_groups_by_their_best_prompt(colours: Path, tmp_path: Path) -> None:
    measure = zero_shot(colours, write(tmp_path / "prompts.json", prompts()))
    red, green, blue = measure.measure([filled(*RED), filled(*GREEN), filled(*BLUE)])
    assert red["art"] < 0.001
    assert green["art"] > 0.99
    bluish = 2 / np.hypot(0.2, 2)  # cosine of art's second prompt with blue; watermark's is 1, keep's 0
    expected = np.exp(np.array([0, bluish, 1]) / 0.1)
    assert blue["art"] == pytest.approx(expected[1] / expected.sum(), abs=1e-4)
    assert blue["watermark"] == pytest.approx(expected[2] / expected.sum(), abs=1e-4)
    assert measure.measure([]) == []


def test_aesthetic_is_a_linear_head_on_the_unit_embedding(colours: Path, tmp_path: Path) -> None:
    content = prompts(aesthetic={"weight": [1.0, 2.0, 3.0], "bias": 5.0})
    measure = zero_shot(colours, write(tmp_path / "p.json", content), columns=("aesthetic",))
    found = measure.measure([filled(*RED), filled(*GREEN), filled(30, 40, 0)])
    assert [row["aesthetic"] for row in found] == pytest.approx([6, 7, 5 + 0.6 + 1.6], abs=1e-3)


def test_what_a_prompt_file_must_be(tmp_path: Path) -> None:
    group = {"keep": [{"prompt": "a", "embedding": [1.0, 0.0]}]}
    wrong = {
        "temperature": prompts(temperature=0),
        "version": prompts(version=2),
        "'keep' and another": prompts(groups=group),
        "one length": prompts(groups={**group, "art": [{"prompt": "b", "embedding": ART}]}),
        "no direction": prompts(groups={**group, "art": [{"prompt": "b", "embedding": [0.0, 0.0]}]}),
        "groups.nsfw": prompts(groups={**group, "nsfw": group["keep"]}),
        "finite": prompts(groups={**group, "art": [{"prompt": "b", "embedding": [float("nan"), 1.0]}]}),
        "unknown field": prompts(code="import os"),
        "valid number": prompts(groups={**group, "art": [{"prompt": "b", "embedding": ["1", 1.0]}]}),
    }
    for reason, content in wrong.items():
        with pytest.raises(ShardError, match=reason):
            read_prompts(write(tmp_path / "wrong.json", content))
    (tmp_path / "pickle.json").write_bytes(b"\x80\x04\x95")
    with pytest.raises(ShardError, match="not a prompt file"):
        read_prompts(tmp_path / "pickle.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ShardError, match="not a prompt file"):
        read_prompts(tmp_path / "deep.json")
    with pytest.raises(UsageError, match="embed_prompts"):
        read_prompts(tmp_path / "gone.json")


def test_columns_and_models_must_agree(colours: Path, quarters: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "prompts.json", prompts())
    with pytest.raises(
        UsageError, match="columns unnatural: not in the prompt file, which has art, watermark"
    ):
        zero_shot(colours, path, columns=("art", "unnatural")).measure([filled(*RED)])
    with pytest.raises(UsageError, match=r"12 numbers; those in .*\(toy\) have 3"):
        zero_shot(quarters, path).measure([filled(*RED)])


def test_configuration_loads_one_writer_per_column(colours: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "prompts.json", prompts())
    given = {"weights": str(colours), "size": SIZE, "prompts": str(path), "columns": ["art", "watermark"]}
    assert [measure.columns for measure in load_filters(FilterConfig())] == [("watermark",), ("art",)]
    with pytest.raises(UsageError, match="two writers of column watermark"):
        parse_config({"zero_shot": given}, FilterConfig, "params.yaml")
    both = parse_config({"zero_shot": given, "art": None, "watermark": None}, FilterConfig, "params.yaml")
    (measure,) = load_filters(both)
    assert measure.columns == ("art", "watermark")
    identity = measure.identity()
    assert identity["model"] == "toy"
    assert len(identity["colours.onnx"]) == len(identity["prompts"]) == 64
    onnx_art = {"backend": "onnx", "weights": str(colours), "size": SIZE, "activation": "sigmoid"}
    mixed = parse_config({"art": onnx_art}, FilterConfig, "params.yaml")
    classical, network = load_filters(mixed)
    assert classical.identity()["name"] == "classical-watermark"
    assert network.identity()["name"] == "onnx-art"
    assert (
        FilterConfig(watermark=None, art=None) and load_filters(FilterConfig(watermark=None, art=None)) == ()
    )


def test_pinning_fixes_weights_and_device(colours: Path) -> None:
    given = {"art": {"backend": "onnx", "weights": str(colours), "size": SIZE, "provider": "auto"}}
    pinned = pin_filters(FilterConfig.model_validate(given))
    assert isinstance(pinned.art, OnnxArtConfig)
    assert len(pinned.art.weights.sha256 or "") == 64
    assert pinned.art.provider in ("cpu", "cuda")
    assert pin_filters(FilterConfig()) == FilterConfig()
    changed = pinned.art.model_copy(update={"weights": WeightsSource(path=colours, sha256="0" * 64)})
    with pytest.raises(ShardError):
        load_filters(FilterConfig(art=changed))[1].identity()
