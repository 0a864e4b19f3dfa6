"""Fixtures and strategies shared by the tests of shards/."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from shards import Sample, ShardWriter, content_key, write_manifest

# No timed assertions: how long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def make_samples() -> Callable[..., list[Sample]]:
    """(count, first=0) -> samples with content keys, three members each, in no key order."""
    return _make_samples


@pytest.fixture
def write_shard() -> Callable[[Path, str, list[Sample]], None]:
    """(folder, name, samples) -> a committed shard."""
    return _write_shard


def _make_samples(count: int, first: int = 0) -> list[Sample]:
    samples = []
    for number in range(first, first + count):
        image = f"image {number} ".encode() * (number % 7 + 1)
        members = {"rgb.png": image, "depth.png": bytes([number % 251]) * 600, "json": b'{"n":%d}' % number}
        samples.append(Sample(content_key(image), members))
    return samples


def _write_shard(folder: Path, name: str, samples: list[Sample]) -> None:
    with ShardWriter(folder, name, columns=lambda sample: {"n": sample.meta().get("n")}) as writer:
        for sample in samples:
            writer.add(sample)
        writer.commit(stage_name="test", stage_key="0" * 64, rejects={"decode:truncated": 1})


@pytest.fixture
def dataset_folder(tmp_path: Path) -> Path:
    """A dataset of three shards with 7 + 5 + 1 samples."""
    folder = tmp_path / "data"
    for number, (count, first) in enumerate([(7, 0), (5, 7), (1, 12)]):
        _write_shard(folder, f"part-{number:06d}", _make_samples(count, first))
    write_manifest(folder, {"made": "by a test"})
    return folder
