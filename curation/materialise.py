"""materialise: the original bytes of every kept image into shards, never re-encoded, with where they came
from. Or, when asked for, each image resized to a square.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.boxes import RGB
from curation.decisions import funnel, reading_of, selected
from curation.decode import decode
from curation.job import Job
from curation.kept import cut_by_key, read_slice
from curation.pool import PoolConfig, read_input
from shards.config import Config
from shards.errors import ShardError, UsageError
from shards.manifest import read_manifest
from shards.sample import Sample, canonical_json, digest_json
from shards.units import STATE, Stage, Unit, code_digest, require_own
from shards.writer import ShardWriter

STAGE = "materialise"
PROVENANCE_SCHEMA = 1
_CODE = tuple(f"curation.{name}" for name in ("columns", "decode", "keys", "kept", "materialise", "pool"))


class Resize(Config):
    """A square for pretraining: the paper resizes each image "to a fixed size with a square aspect ratio"
    (section 3.2), so the aspect is not kept. Reduced sides are averaged by area, enlarged ones interpolated
    by cubics. The image is upright and 8-bit RGB afterwards.
    """

    side: int = Field(default=1024, ge=16, le=8192, description="px")
    format: Literal["jpg", "png"] = "jpg"
    quality: int = Field(default=95, ge=1, le=100, description="of JPEG")


class MaterialiseConfig(Config):
    """How the kept images are cut into shards, and what becomes of them."""

    samples_per_shard: int = Field(
        default=4096, ge=1, description="on average; keys decide, so counts vary a little"
    )
    resize: Resize | None = Field(default=None, description="the original bytes when not given")
    # May hold credentials, so they are in no key and no manifest.
    storage_options: dict[str, Any] = Field(
        default_factory=dict, exclude=True, repr=False, description="for the pool's fsspec filesystem"
    )


def plan_materialise(
    pool: str | Path, annotations: str | Path, selection: Path, out: Path, config: MaterialiseConfig
) -> Job:
    """One unit per equal range of the key space; a unit's input is the digest of the kept rows in its range.

    The kept rows are written beneath `out/.stage` while planning, once per selection. Another selection
    remakes only the shards whose images changed, as long as the number of shards is the same. Raises
    UsageError when nothing was kept, the selection is of other annotations, or `out` is another stage's.
    """
    manifest, annotated = selected(selection), read_manifest(annotations)
    if manifest.provenance["annotations"] != annotated.digest:
        raise UsageError(
            f"{selection}: not a selection of {annotations}, or an outdated one; run select again"
        )
    if not funnel(selection)["kept"]:
        raise UsageError(
            f"{selection}: no image was kept; look at its funnel and loosen a threshold of curate.select"
        )
    require_own(out, STAGE)
    rows = f"kept-{digest_json([manifest.digest, annotated.digest, config.samples_per_shard, 1])[:16]}"
    slices = cut_by_key(annotations, selection, config.samples_per_shard, out / STATE / rows)
    for other in (out / STATE).glob("kept-*"):
        if other.name != rows:
            shutil.rmtree(other, ignore_errors=True)
    units = tuple(
        Unit(
            f"curated-{s.number:06d}", {"rows": f"{rows}/{s.file}", "samples": s.samples}, {"rows": s.sha256}
        )
        for s in slices
    )
    settings = config.model_dump(mode="json", exclude_none=True)
    if config.resize:
        settings["opencv"] = cv2.__version__  # its resampling and encoders make the bytes
    key = digest_json({"config": settings, "code": code_digest(*_CODE)})
    provenance = {"config": config.model_dump(mode="json"), "selection": manifest.digest}
    reading = reading_of(annotated, config.storage_options)
    return Job(STAGE, key, units, Materialise(pool, reading, config.resize), provenance)


@dataclass(frozen=True)
class Materialise:
    """The worker: the kept inputs of one key range -> one shard."""

    pool: str | Path
    reading: PoolConfig
    resize: Resize | None = None

    def __call__(self, stage: Stage, unit: Unit) -> None:
        rows = read_slice(stage.out / STATE, unit.payload["rows"], unit.inputs["rows"])
        with ShardWriter(stage.out, unit.name, columns=index_columns) as writer:
            for sample in samples(self.pool, rows, self.reading, self.resize):
                writer.add(sample)
            writer.commit(stage_name=stage.name, stage_key=stage.key, inputs=unit.inputs)


def samples(
    pool: str | Path, rows: pa.Table, reading: PoolConfig, resize: Resize | None = None
) -> Iterator[Sample]:
    """The samples of kept rows, one in memory at a time: the original bytes under their proper extension,
    and a json member. Read in the pool's order.

    The json: {"schema", "width", "height", "people", "provenance": {"source", "member", "sha256",
    "orientation", "person_boxes", "text_boxes", "text_area", "original" (the json member it had)}}. Of a
    resized image, width and height are the new ones and "resize" says {"width", "height" (of the original,
    upright), "format", "quality"}; boxes stay in pixels of the original, and the key is that of its bytes.
    """
    for row in rows.sort_by([("source", "ascending"), ("offset", "ascending")]).to_pylist():
        data, described = read_input(pool, row, reading), _describe(row)
        if resize is None:
            members = {row["format"]: data}
        else:
            members = {resize.format: resized(data, row, resize)}
            described |= {"width": resize.side, "height": resize.side, "resize": _resize_note(row, resize)}
        yield Sample(row["key"], {**members, "json": canonical_json(described)})


def resized(data: bytes, row: Mapping[str, Any], resize: Resize) -> bytes:
    """An image file of `resize.side` squared. Raises ShardError when it cannot be decoded any more."""
    decoded = decode(data, int(row["width"]) * int(row["height"]))
    if decoded.image is None:
        raise ShardError(
            f"{row['source']}: {decoded.status}, though annotate has decoded it; run annotate again"
        )
    flags = [cv2.IMWRITE_JPEG_QUALITY, resize.quality] if resize.format == "jpg" else []
    square = to_square(decoded.image, resize.side)
    return bytes(cv2.imencode(f".{resize.format}", np.ascontiguousarray(square[..., ::-1]), flags)[1])


def to_square(image: RGB, side: int) -> RGB:
    """uint8 RGB stretched to side x side: an axis that shrinks by area first, one that grows by cubics
    then.
    """
    height, width = image.shape[:2]
    smaller = (min(width, side), min(height, side))
    if smaller != (width, height):
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    if smaller != (side, side):
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    return image


def index_columns(sample: Sample) -> Mapping[str, Any]:
    """The scalars of the shard's index."""
    meta = sample.meta()
    boxes = meta["provenance"]["person_boxes"] or []
    return {
        "width": meta["width"],
        "height": meta["height"],
        "people": meta["people"],
        "score": max((box["score"] for box in boxes), default=0.0),
        "source": meta["provenance"]["source"],
    }


def _describe(row: Mapping[str, Any]) -> dict[str, Any]:
    measured = ("source", "member", "sha256", "orientation", "text_area", "text_boxes", "person_boxes")
    provenance = {name: _rounded(row[name]) for name in measured}
    return {
        "schema": PROVENANCE_SCHEMA,
        "width": row["width"],
        "height": row["height"],
        "people": row["people"],
        "provenance": {**provenance, "original": _parsed(row["metadata"])},
    }


def _resize_note(row: Mapping[str, Any], resize: Resize) -> dict[str, Any]:
    quality = {"quality": resize.quality} if resize.format == "jpg" else {}
    return {"width": row["width"], "height": row["height"], "format": resize.format, **quality}


def _rounded(value: Any) -> Any:
    """float32 columns as the decimals they were written with (pixels to 0.01, scores to 0.0001)."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list):
        return [{name: _rounded(part) for name, part in box.items()} for box in value]
    return value


def _parsed(metadata: str | None) -> Any:
    """The json member a sample had in its tar; as text when it is not JSON that canonical JSON could hold."""
    if metadata is None:
        return None
    try:
        content = json.loads(metadata)
        canonical_json(content)
    except (ValueError, ShardError, RecursionError):
        return metadata
    return content
