"""What a job comes to before anything runs: images by framing and number of people, hours and bytes."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from render.recipe import Draw, RenderConfig, subjects
from render.spec import SampleSpec

# Measured (docs/rendering.md) on one core of an AMD EPYC, 192 x 256, sampled people, and on no GPU.
SECONDS_PER_RAY = 1.6e-6  # of one core, per pixel and sample of the beauty render
LABEL_SAMPLES = 3  # the labels of a pixel cost as much as these samples
SECONDS_PER_GROUP = 2.0  # of one core: build or import everyone, plan, load, HDRI
BYTES_PER_PIXEL = 8.0  # all members of a sample


@dataclass(frozen=True)
class Row:
    """One line of the table: pictures of one framing with so many people in the scene."""

    framing: str
    people: int
    images: int
    core_hours: float
    bytes: int


@dataclass(frozen=True)
class Forecast:
    """Totals and the table. images: what is asked for; scans that turn out unusable make it less."""

    groups: int
    images: int
    width: int
    height: int
    samples: int
    core_hours: float
    bytes: int
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def forecast(config: RenderConfig) -> Forecast:
    """The forecast of a job. Exact in its counts as long as every scan has every framing: the streams that
    choose are drawn from, but nobody is built.
    """
    names = tuple(config.framings.named())
    counts: Counter[tuple[str, int]] = Counter()
    groups = 0
    for subject in subjects(config):
        streams = subject.streams(config.seed)
        for light in range(config.lights):
            groups += 1
            people = config.people.draw_count(streams.of(Draw.COUNT, light))
            for view in range(config.views):
                framing = config.framings.choose(streams.of(Draw.FRAMING, light, view), view, names)
                counts[framing, people] += 1
    return _forecast(config, counts, groups)


def forecast_specs(config: RenderConfig, specs: Iterable[SampleSpec]) -> Forecast:
    """The forecast of specs that were planned."""
    counts: Counter[tuple[str, int]] = Counter()
    groups = set()
    for spec in specs:
        counts[spec.camera.framing, len(spec.people)] += 1
        groups.add((spec.placements, spec.light.hdri, spec.light.rotation_deg))
    return _forecast(config, counts, len(groups))


def _forecast(config: RenderConfig, counts: Mapping[tuple[str, int], int], groups: int) -> Forecast:
    rows = tuple(
        _row(config, framing, people, images) for (framing, people), images in sorted(counts.items())
    )
    loading = groups * SECONDS_PER_GROUP / 3600
    return Forecast(
        groups=groups,
        images=sum(row.images for row in rows),
        width=config.width,
        height=config.height,
        samples=config.samples,
        core_hours=sum(row.core_hours for row in rows) + loading,
        bytes=sum(row.bytes for row in rows),
        rows=rows,
    )


def _row(config: RenderConfig, framing: str, people: int, images: int) -> Row:
    pixels = images * config.width * config.height
    seconds = pixels * (config.samples + LABEL_SAMPLES) * SECONDS_PER_RAY
    return Row(framing, people, images, seconds / 3600, round(pixels * BYTES_PER_PIXEL))
