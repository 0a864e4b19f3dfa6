"""Kept images into shards: which rows, in which ranges, once; and squares when asked for."""

from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curation.kept as kept
from curation.decode import decode
from curation.kept import cut_by_key, read_slice, slice_of
from curation.keys import to_words
from curation.materialise import MaterialiseConfig, Resize, plan_materialise, to_square
from shards.errors import ShardError, UsageError
from shards.reader import Dataset
from shards.units import STATE, open_stage, pending

COUNT = 40


def picture(number: int) -> Any:
    """uint8 RGB, 30 to 69 px wide, its left half bright."""
    image = np.full((50, 30 + number, 3), number, np.uint8)
    image[:, : (30 + number) // 2] = 200
    return image


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("materialise") / "pool"
    folder.mkdir()
    for number in range(COUNT):
        data = bytes(cv2.imencode(".png", picture(number))[1])
        (folder / f"{number:02d}.png").write_bytes(data)
    (folder / "copy.png").write_bytes((folder / "07.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def annotations(made: Any, pool: Path) -> Path:
    rows = []
    for number, path in enumerate(sorted(pool.iterdir())):
        data = path.read_bytes()
        digest = sha256(data).hexdigest()
        known = {
            "source": path.name,
            "bytes": len(data),
            "sha256": digest,
            "key": digest[:32],
            "format": "png",
        }
        shape = {"width": 30 + number % COUNT, "height": 50, "orientation": 1, "text_area": number / 100}
        note = '{"caption": "a \\u00fc"}' if number % 2 else None
        rows.append(made.row(number, **known, **shape, metadata=note))
    place: Path = made.write_annotations(pool.parent / "annotations", made.cut(rows, [5, 6, 30]))
    return place


@pytest.fixture(scope="module")
def selection(made: Any, annotations: Path) -> Path:
    out = annotations.parent / "selection"
    rule = {"reason": "text:area", "column": "text_area", "at_most": 0.405}
    made.select(annotations, {"rules": [rule]}, out)
    return out


def test_every_kept_image_is_there_once_with_its_bytes(
    made: Any, pool: Path, annotations: Path, selection: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    job = plan_materialise(pool, annotations, selection, out, MaterialiseConfig(samples_per_shard=6))
    assert [unit.name for unit in job.units] == sorted(unit.name for unit in job.units)
    made.run_to_end(job, out)
    dataset = Dataset.open(out)
    keys = list(dataset.keys())
    assert keys == sorted(keys) and len(keys) == len(set(keys)) == COUNT  # the copy shares its key
    assert keys == sorted(sha256((pool / f"{n:02d}.png").read_bytes()).hexdigest()[:32] for n in range(COUNT))
    for sample in dataset:
        meta = sample.meta()
        data = (pool / meta["provenance"]["source"]).read_bytes()
        assert sample.members["png"] == data and meta["people"] == 1 and "resize" not in meta
        assert meta["provenance"]["original"] in (None, {"caption": "a ü"})
    ranges = [unit.name for unit in job.units for _ in range(unit.payload["samples"])]
    shards = 7  # 41 kept rows, 6 to a shard
    numbers = slice_of(to_words(pa.array(keys)), shards)
    assert ranges == [f"curated-{number:06d}" for number in numbers]


def test_planning_again_reads_nothing_and_another_selection_keeps_what_is_the_same(
    made: Any, pool: Path, annotations: Path, selection: Path, tmp_path: Path
) -> None:
    out, config = tmp_path / "out", MaterialiseConfig(samples_per_shard=3)
    job = plan_materialise(pool, annotations, selection, out, config)
    made.run_to_end(job, out)
    with mock.patch.object(kept, "DecisionStream", side_effect=AssertionError("read again")):
        again = plan_materialise(pool, annotations, selection, out, config)
    assert again == job
    rule = {"reason": "text:area", "column": "text_area", "above": 0.005}  # one fewer, as many shards
    made.select(annotations, {"rules": [rule]}, tmp_path / "fewer")
    fewer = plan_materialise(pool, annotations, tmp_path / "fewer", out, config)
    assert len(list((out / STATE).glob("kept-*"))) == 1
    stage = open_stage(out, fewer.name, fewer.key)
    assert len(pending(stage, fewer.units)) == 1 and len(fewer.units) >= 10


def test_the_tables_do_not_depend_on_memory(annotations: Path, selection: Path, tmp_path: Path) -> None:
    slices = cut_by_key(annotations, selection, 6, tmp_path / "whole")
    with mock.patch.object(kept, "_ROWS_PER_FILE", 5), mock.patch.object(kept, "_WAITING", 1):
        assert cut_by_key(annotations, selection, 6, tmp_path / "files") == slices
    rows = sum(read_slice(tmp_path / "files", entry.file, entry.sha256).num_rows for entry in slices)
    assert rows == COUNT and sorted(path.name for path in (tmp_path / "files").iterdir()) == [
        *(entry.file for entry in slices),
        "kept.json",
    ]


def test_a_plan_that_changed_is_noticed(annotations: Path, selection: Path, tmp_path: Path) -> None:
    entry = cut_by_key(annotations, selection, 6, tmp_path / "plan")[0]
    table = pq.read_table(tmp_path / "plan" / entry.file)
    pq.write_table(table.slice(1), tmp_path / "plan" / entry.file)
    with pytest.raises(ShardError, match="changed since this unit was planned"):
        read_slice(tmp_path / "plan", entry.file, entry.sha256)
    (tmp_path / "plan" / entry.file).unlink()
    with pytest.raises(ShardError, match="missing; run materialise again"):
        read_slice(tmp_path / "plan", entry.file, entry.sha256)


@pytest.mark.parametrize("number", [1, 3, 7, 1000])
def test_ranges_of_keys_cover_all_in_order(number: int) -> None:
    words = np.zeros((4097, 2), np.uint64)
    words[:, 0] = np.concatenate([np.arange(4096, dtype=np.uint64) << np.uint64(52), [2**64 - 1]])
    found = slice_of(words, number)
    assert found[0] == 0 and found[-1] == number - 1 and (np.diff(found) >= 0).all()
    assert np.bincount(found[:-1]).max() <= 4096 // number + 1


def test_other_peoples_folders_and_selections_are_refused(
    made: Any, pool: Path, annotations: Path, selection: Path, tmp_path: Path
) -> None:
    config = MaterialiseConfig()
    with pytest.raises(UsageError, match="holds the output of stage 'select', not 'materialise'"):
        plan_materialise(pool, annotations, selection, selection, config)
    (tmp_path / "mine.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds files that no stage made"):
        plan_materialise(pool, annotations, selection, tmp_path, config)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    other = made.write_annotations(tmp_path / "other", [[made.row(1)]])
    with pytest.raises(UsageError, match="not a selection of"):
        plan_materialise(pool, other, selection, tmp_path / "out", config)
    made.select(
        annotations, {"rules": [{"reason": "x", "column": "width", "above": 9999}]}, tmp_path / "none"
    )
    with pytest.raises(UsageError, match="no image was kept"):
        plan_materialise(pool, annotations, tmp_path / "none", tmp_path / "out", config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["jpg", "png"])
def test_squares_for_pretraining(
    made: Any, pool: Path, annotations: Path, selection: Path, tmp_path: Path, format: str
) -> None:
    config = MaterialiseConfig.model_validate({"resize": {"side": 40, "format": format}})
    made.run_to_end(
        plan_materialise(pool, annotations, selection, tmp_path / "out", config), tmp_path / "out"
    )
    for sample in Dataset.open(tmp_path / "out"):
        meta = sample.meta()
        number = int(meta["provenance"]["source"][:2])
        decoded = decode(sample.members[format], 10**6)
        assert decoded.format == format and decoded.image is not None and decoded.image.shape == (40, 40, 3)
        expected = to_square(picture(number), 40).astype(int)
        assert np.abs(decoded.image - expected).max() <= (0 if format == "png" else 60)
        assert np.abs(decoded.image - expected).mean() < 4
        quality = {"quality": 95} if format == "jpg" else {}
        assert meta["resize"] == {"width": 30 + number, "height": 50, "format": format, **quality}
        assert (meta["width"], meta["height"]) == (40, 40)
        assert sample.key == meta["provenance"]["sha256"][:32]
    plain = plan_materialise(pool, annotations, selection, tmp_path / "plain", MaterialiseConfig())
    squared = plan_materialise(pool, annotations, selection, tmp_path / "plain", config)
    assert plain.key != squared.key and plain.units == squared.units


def test_reduced_by_area_enlarged_by_cubics() -> None:
    checks = np.indices((80, 80)).sum(axis=0) % 2 * 255
    image = np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)
    assert np.abs(to_square(image, 40).astype(int) - 127.5).max() <= 1  # no aliasing
    np.testing.assert_array_equal(to_square(image, 80), image)
    larger = to_square(image, 160)
    np.testing.assert_array_equal(larger, cv2.resize(image, (160, 160), interpolation=cv2.INTER_CUBIC))
    wide = to_square(image[:20], 40)  # shrinks in one direction, grows in the other
    assert wide.shape == (40, 40, 3) and np.abs(wide.astype(int) - 127.5).max() <= 1


def test_resize_is_checked() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 16"):
        Resize(side=1)
