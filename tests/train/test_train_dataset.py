"""From position to example: reading shards, seeding per sample, crops, resizing, batches from any step."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from annotation.codecs import encode_rgb
from shards.errors import VitruvianError
from shards.manifest import write_manifest
from shards.reader import Dataset
from shards.sample import Sample, content_key
from shards.writer import ShardWriter
from train.data.dataset import Batch, ShardExamples, ShardSource, sample_generator
from train.data.photo import (
    MaskedPhoto,
    central_box,
    crop_box,
    members_to_read,
    photo,
    resize,
    to_tensor,
)

SIZE = (32, 48)


def picture(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write(folder: Path, samples: list[Sample], shards: int = 2) -> Dataset:
    for number in range(shards):
        with ShardWriter(folder, f"part-{number}") as writer:
            for sample in samples[number::shards]:
                writer.add(sample)
            writer.commit()
    write_manifest(folder, {})
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    files = [jpeg(picture(seed)) for seed in range(7)]
    return write(
        tmp_path_factory.mktemp("photos"), [Sample(content_key(f), {"jpg": f, "json": b"{}"}) for f in files]
    )


def source(
    data: Dataset, batch: int = 4, accumulate: int = 1, workers: int = 0, seed: int = 0
) -> ShardSource:
    examples = ShardExamples(data, MaskedPhoto(SIZE, 6), seed, members_to_read(data))
    return ShardSource(examples, batch, accumulate=accumulate, workers=workers)


def equal(one: Batch, other: Batch) -> bool:
    return one["key"] == other["key"] and all(torch.equal(one[n], other[n]) for n in ("image", "noise"))


def test_batches_hold_uint8_pictures_and_a_permutation(photos: Dataset) -> None:
    batch = next(source(photos).batches(0, 1, rank=0, world=1))
    assert batch["image"].shape == (4, 3, *SIZE)
    assert batch["image"].dtype == torch.uint8
    assert torch.equal(batch["noise"].sort(dim=1).values, torch.arange(6, dtype=torch.int32).expand(4, -1))
    assert set(batch["key"]) <= set(photos.keys())


def test_a_later_start_gives_the_same_later_batches(photos: Dataset) -> None:
    whole = list(source(photos).batches(0, 5, rank=0, world=1))
    rest = list(source(photos).batches(3, 5, rank=0, world=1))
    assert all(equal(a, b) for a, b in zip(whole[3:], rest, strict=True))


def test_workers_ranks_and_accumulation_change_no_sample(photos: Dataset) -> None:
    whole = next(source(photos).batches(2, 3, rank=0, world=1))
    split = [b for rank in (0, 1) for b in source(photos, accumulate=2).batches(2, 3, rank=rank, world=2)]
    assert [k for b in split for k in b["key"]] == whole["key"]
    for name in ("image", "noise"):
        assert torch.equal(torch.cat([b[name] for b in split]), whole[name])
    assert equal(next(source(photos, workers=2).batches(2, 3, rank=0, world=1)), whole)


def test_every_photo_once_an_epoch_and_never_twice_alike(photos: Dataset) -> None:
    batches = list(source(photos, batch=7).batches(0, 2, rank=0, world=1))
    first, second = ({k: b["image"][i] for i, k in enumerate(b["key"])} for b in batches)
    assert set(first) == set(second) == set(photos.keys())
    assert not any(torch.equal(first[key], second[key]) for key in first)


def test_sample_generators_differ_by_seed_epoch_and_key() -> None:
    draws = {sample_generator(*a).random() for a in ((0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"))}
    assert len(draws) == 4
    assert sample_generator(3, 4, "key").random() == sample_generator(3, 4, "key").random()


def test_only_the_picture_of_a_render_is_read(tmp_path: Path) -> None:
    members = {"rgb.png": encode_rgb(picture(0)), "depth.png": b"not read", "json": b"{}"}
    data = write(tmp_path, [Sample("0" * 32, members)], shards=1)
    assert members_to_read(data) == ("rgb.png",)
    seen: list[list[str]] = []

    def make(sample: Sample, rng: np.random.Generator) -> dict[str, Tensor]:
        seen.append(list(sample.members))
        return {"image": to_tensor(photo(sample))}

    example = ShardExamples(data, make, 0, members_to_read(data))[0][1]
    assert seen == [["rgb.png"]]
    assert torch.equal(example["image"], torch.from_numpy(picture(0)).permute(2, 0, 1))


def test_a_bad_picture_is_named() -> None:
    with pytest.raises(VitruvianError, match="sample abc, member jpg"):
        photo(Sample("abc", {"jpg": b"nonsense"}))
    with pytest.raises(VitruvianError, match=r"sample abc: no picture.*got txt"):
        photo(Sample("abc", {"txt": b""}))


sides = st.integers(1, 3000)


@settings(deadline=None)
@given(
    height=sides,
    width=sides,
    target=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    seed=st.integers(0, 99),
)
def test_crops_lie_inside(height: int, width: int, target: tuple[int, int], seed: int) -> None:
    for box in (
        crop_box((height, width), target, (0.2, 1.0), np.random.default_rng(seed)),
        central_box((height, width), target),
    ):
        y, x, rows, columns = box
        assert y >= 0 and x >= 0 and rows > 0 and columns > 0
        assert y + rows <= height and x + columns <= width


def test_crops_cover_the_asked_areas_and_aspects() -> None:
    rng = np.random.default_rng(0)
    boxes = [crop_box((1000, 900), (256, 192), (0.2, 0.6), rng)[2:] for _ in range(500)]
    areas = [h * w / 900_000 for h, w in boxes]
    ratios = [w / h / 0.75 for h, w in boxes]
    assert 0.199 < min(areas) < 0.23 and 0.57 < max(areas) < 0.601
    assert 0.745 < min(ratios) < 0.80 and 1.27 < max(ratios) < 1.345
    assert np.mean(np.log(ratios)) == pytest.approx(0, abs=0.03)


def test_a_photo_too_narrow_for_any_crop_falls_back_to_its_centre() -> None:
    box = crop_box((4000, 10), (32, 32), (0.9, 1.0), np.random.default_rng(0))
    assert box == (1995, 0, 10, 10)


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (16, 16)])
def test_photos_smaller_than_the_crop_are_enlarged(size: tuple[int, int]) -> None:
    data = encode_rgb(np.ascontiguousarray(picture(0, *size)))
    example = MaskedPhoto(SIZE, 6)(Sample("k", {"png": data}), np.random.default_rng(0))
    assert example["image"].shape == (3, *SIZE)


@pytest.mark.parametrize("size", [(30, 21), (120, 160)])
def test_resizing_is_pillows_bicubic(size: tuple[int, int]) -> None:
    ours = resize(to_tensor(picture(1)), size).permute(1, 2, 0).numpy().astype(int)
    theirs = np.asarray(Image.fromarray(picture(1)).resize(size[::-1], Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(ours - theirs).max() <= 1


def test_half_of_the_examples_are_mirrored() -> None:
    ramp = np.tile(np.linspace(0, 255, 90, dtype=np.uint8)[None, :, None], (60, 1, 3))
    sample, make = Sample("k", {"png": encode_rgb(ramp)}), MaskedPhoto(SIZE, 6)
    images = [make(sample, np.random.default_rng(seed))["image"].float() for seed in range(200)]
    mirrored = sum(bool(image[0, 0, 0] > image[0, 0, -1]) for image in images)
    assert abs(mirrored - 100) < 5 * math.sqrt(50)
