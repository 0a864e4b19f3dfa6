"""annotate: run decoder, filters and detector once over a pool; one row per input, one table per unit, no
decision.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from curation.columns import ANNOTATIONS, DECODED_OK
from curation.decode import Decoded, decode
from curation.detectors import Detector, DetectorConfig, OpenCVChoice, load_detector, pin_detector
from curation.filters import FilterConfig, Measure, load_filters, pin_filters
from curation.filters.duplicates import measure_hashes
from curation.filters.quality import measure_quality
from curation.filters.reduce import Views
from curation.filters.text import TextConfig, TextDetector
from curation.job import Job
from curation.pool import Input, Pool, PoolConfig, list_pool, read_unit
from shards.config import Config
from shards.files import temporary_path
from shards.index import write_table
from shards.manifest import commit_files
from shards.sample import digest_json
from shards.units import Stage, Unit, code_digest

STAGE = "annotate"
PROCESS_BYTES = 512 << 20  # what a process takes with its models before it has an image, rounded up
# What a row depends on. Rules that only `select` applies are not among it, so changing one costs no pixels.
_CODE = (
    "curation.annotate",
    "curation.boxes",
    "curation.camera",
    "curation.columns",
    "curation.decode",
    "curation.detectors",
    "curation.filters.art",
    "curation.filters.duplicates",
    "curation.filters.logistic",
    "curation.filters.measure",
    "curation.filters.network",
    "curation.filters.quality",
    "curation.filters.reduce",
    "curation.filters.text",
    "curation.filters.watermark",
    "curation.filters.zero_shot",
    "curation.pool",
    "curation.weights",
)


class AnnotateConfig(Config):
    """What is measured, and how the pool is cut into units. Lengths in pixels of the image as it is shown."""

    pool: PoolConfig = PoolConfig()
    max_pixels: int = Field(default=100_000_000, ge=1, description="larger images are not decoded")
    batch: int = Field(default=8, ge=1, description="images that the detector sees at once")
    memory: int = Field(
        default=2 << 30, ge=1 << 30, description="bytes of a worker; larger images are not decoded"
    )
    text: TextConfig = TextConfig()
    filters: FilterConfig = FilterConfig()
    detector: DetectorConfig = OpenCVChoice()


@dataclass(frozen=True)
class Models:
    """What a process loads once."""

    text: TextDetector
    filters: tuple[Measure, ...]
    detector: Detector

    def identity(self) -> dict[str, Any]:
        """Names, versions and weights' digests of everything that measures: part of the stage key."""
        libraries = {
            name: version(name) for name in ("numpy", "onnxruntime", "opencv-python-headless", "pillow")
        }
        scores = {column: measure.identity() for measure in self.filters for column in measure.columns}
        models = {"text": self.text.identity(), "detector": self.detector.identity(), **scores}
        return {"libraries": libraries, **models}


@lru_cache(maxsize=1)
def load_models(config: AnnotateConfig) -> Models:
    """The models of a configuration; the same objects for every unit of a process. Networks load at first
    use.
    """
    return Models(TextDetector(config.text), load_filters(config.filters), load_detector(config.detector))


def plan_annotate(root: str | Path, config: AnnotateConfig) -> Job:
    """List and hash the pool at `root`, fetch and check the models' weights; workers get the weights' sha256.

    Raises UsageError when there is no pool there, or a model cannot be had.
    """
    pool = list_pool(root, config.pool)
    pinned = {"detector": pin_detector(config.detector), "filters": pin_filters(config.filters)}
    config = config.model_copy(update=pinned)
    identity = load_models(config).identity()
    key = digest_json(
        {"config": config.model_dump(mode="json"), "models": identity, "code": code_digest(*_CODE)}
    )
    provenance = {
        "pool": pool.provenance(),
        "config": config.model_dump(mode="json"),
        "models": identity,
        "inputs": _inputs_digest(pool),
    }
    return Job(STAGE, key, pool.units, Annotate(root, config), provenance)


@dataclass(frozen=True)
class Annotate:
    """The worker: one unit of the pool at `root` -> `<unit>.parquet`, in the schema
    `curation.columns.ANNOTATIONS`.
    """

    root: str | Path
    config: AnnotateConfig

    def __call__(self, stage: Stage, unit: Unit) -> None:
        clock = Clock()
        rows = list(annotate_unit(self.root, unit, self.config, clock))
        path = temporary_path(stage.out, unit.name, "parquet")
        write_table(pa.Table.from_pylist(rows, ANNOTATIONS), path)
        bad = Counter(row["status"] for row in rows if row["status"] != DECODED_OK)
        commit_files(
            stage.out,
            unit.name,
            {f"{unit.name}.parquet": path},
            samples=len(rows),
            rejects=bad,
            stage_name=stage.name,
            stage_key=stage.key,
            inputs=unit.inputs,
            run={"seconds": clock.rounded()},
        )


@dataclass
class Clock:
    """Seconds spent per step."""

    seconds: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Add the block's wall clock to `step`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - started  # type: ignore[assignment]

    def rounded(self) -> dict[str, float]:
        """Seconds to the millisecond."""
        return {step: round(seconds, 3) for step, seconds in self.seconds.items()}


def annotate_unit(
    root: str | Path, unit: Unit, config: AnnotateConfig, clock: Clock
) -> Iterator[dict[str, Any]]:
    """The rows of one unit, in the order of its inputs. A bad input is a row with a status.

    Memory: two thirds of what the models leave for decoding one image, one third for those that wait.
    """
    free = config.memory - PROCESS_BYTES
    models, waiting, held = load_models(config), list[tuple[Input, Decoded]](), 0
    for entry in read_unit(root, unit, config.pool):
        with clock.time("decode"):
            decoded = _decode(entry, config.max_pixels, 2 * free // 3)
        waiting.append((replace(entry, data=None), decoded))
        held += decoded.image.size if decoded.image is not None else 0
        if len(waiting) == config.batch or held > free // 3:
            yield from _measure(waiting, models, clock)
            waiting, held = [], 0
    yield from _measure(waiting, models, clock)


def _decode(entry: Input, max_pixels: int, max_memory: int) -> Decoded:
    if entry.data is None:
        return Decoded(str(entry.status))
    return decode(entry.data, max_pixels, max_memory)


def _measure(batch: list[tuple[Input, Decoded]], models: Models, clock: Clock) -> Iterator[dict[str, Any]]:
    """The rows of a few inputs. What sees single images comes first, batches for networks after it."""
    rows = [_identity(entry) | _decoded(decoded) for entry, decoded in batch]
    seen = [(row, decoded.image) for row, (_, decoded) in zip(rows, batch, strict=True)]
    pairs = [(row, image) for row, image in seen if image is not None]
    for row, image in pairs:
        with clock.time("statistics"):
            views = Views(image)
            row |= measure_quality(image, views) | measure_hashes(image, views)
        with clock.time("text"):
            row["text_area"], boxes = models.text.measure(image)
            row["text_boxes"] = boxes.to_rows()
    images = [image for _, image in pairs]
    for measure in models.filters:
        with clock.time("+".join(measure.columns)):
            for (row, _), scores in zip(pairs, measure.measure(images), strict=True):
                row |= scores
    with clock.time("detect"):
        for (row, _), people in zip(pairs, models.detector.detect(images), strict=True):
            row["person_boxes"] = people.to_rows()
    yield from rows


def _identity(entry: Input) -> dict[str, Any]:
    return {
        "source": entry.source,
        "member": entry.member,
        "offset": entry.offset,
        "bytes": entry.size,
        "sha256": entry.sha256,
        "key": entry.key,
        "metadata": entry.metadata,
    }


def _decoded(decoded: Decoded) -> dict[str, Any]:
    return {
        "status": decoded.status,
        "format": decoded.format,
        "width": decoded.width,
        "height": decoded.height,
        "orientation": decoded.orientation,
        **decoded.camera.columns(),
    }


def _inputs_digest(pool: Pool) -> str:
    return digest_json({unit.name: dict(unit.inputs) for unit in pool.units})
