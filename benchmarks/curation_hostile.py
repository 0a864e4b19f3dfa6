"""2,000 hostile inputs through the whole of `curate annotate`: a row each, with the reason it should have;
and the memory that takes.

    python -P benchmarks/curation_hostile.py [--quick] [--memory 2147483648]

Inputs: a folder (cut short, empty, bombs, CMYK, 16 bits, animations, wrong extensions, EXIF turned and EXIF
bombs, damaged at random, long names and names that are no text, pages as .jpg, links that dangle, loop or
leave, pipes), a tar of the same, and tables; among them whole pictures of 100 megapixels. Annotate runs in a
process of its own, whose peak is read from /proc. Last printed line: one JSON object; `unexpected` counts
rows whose status is not one that the input was built to get.
"""

import argparse
import io
import json
import os
import random
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Case = tuple[str, bytes, frozenset[str]]  # name, bytes, the statuses it may get

OK = frozenset(["ok"])
CHILD = """
import json, logging, sys
from pathlib import Path
from curation.annotate import AnnotateConfig, plan_annotate
from pipelines.executors import run_units
from shards.reader import Dataset
from shards.units import close_stage, open_stage, pending
logging.disable(logging.INFO)
rows = []
for pool, out in json.loads(sys.argv[1]):
    job = plan_annotate(pool, AnnotateConfig(memory=int(sys.argv[2]), pool={"files_per_unit": 64}))
    stage = open_stage(Path(out), job.name, job.key)
    for outcome in run_units(stage, pending(stage, job.units), job.worker):
        assert not outcome.error, outcome.error
    close_stage(stage, job.units, job.provenance)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""


def saved(kind: str, picture: Image.Image, **options: Any) -> bytes:
    """The picture as a file."""
    stream = BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def photograph(width: int, height: int, seed: int) -> Image.Image:
    """Smooth colours with some noise, as large as asked."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def png_bomb(width: int, height: int) -> bytes:
    """A PNG that claims to be larger than it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


def exif_bomb(picture: bytes) -> bytes:
    """A JPEG whose EXIF has 40,000 entries that all point to the same megabyte."""
    entries = b"".join(struct.pack("<HHII", 0x1000 + i, 7, 1 << 20, 8) for i in range(40_000))
    block = b"II*\0" + struct.pack("<IH", 8, 40_000) + entries + bytes(1 << 20)
    parts = [block[start : start + 65_000] for start in range(0, len(block), 65_000)]
    segments = (b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts)
    return picture[:2] + b"".join(segments) + picture[2:]


def large(memory: int) -> Iterator[Case]:
    """Whole pictures of 100 megapixels, and bombs that are sound files."""
    picture = photograph(10_000, 10_000, 1)
    either = frozenset(["ok", "decode:too-large"])  # by the limit of memory
    whole = OK if memory >= 2 << 30 else either
    yield "100MP.jpg", saved("JPEG", picture, quality=85), whole
    yield "100MP.png", saved("PNG", picture, compress_level=1), whole
    yield "100MP-progressive.jpg", saved("JPEG", picture, quality=85, progressive=True), either
    yield "100MP.webp", saved("WEBP", picture, quality=50, method=0), either
    yield "100MP-grey.jpg", saved("JPEG", picture.convert("L"), quality=85), whole
    too_large = frozenset(["decode:too-large"])
    yield "sound-bomb.png", saved("PNG", Image.new("1", (30_000, 30_000))), too_large
    yield "144MP.jpg", saved("JPEG", Image.new("RGB", (12_000, 12_000))), too_large


def case(number: int) -> Case:
    """Input `number`: its kind is `number` modulo the kinds, the rest is drawn from the number."""
    rng, picture = random.Random(number), photograph(72 + number % 60, 64 + number % 40, number)
    kind = ("JPEG", "PNG", "WEBP")[number // len(KINDS) % 3]
    return KINDS[number % len(KINDS)](rng, picture, kind)


def _truncated(rng: random.Random, picture: Image.Image, kind: str) -> Case:
    data = saved(kind, picture)
    return "cut.jpg", data[: rng.randrange(20, len(data) - 40)], frozenset(["decode:truncated"])


def _damaged(rng: random.Random, picture: Image.Image, kind: str) -> Case:
    data = bytearray(saved(kind, picture))
    for _ in range(rng.randrange(1, 50)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return "damaged.png", bytes(data), ANY


def _turned(rng: random.Random, picture: Image.Image, kind: str) -> Case:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = rng.randrange(12), "Canon\0\n" * 40
    return "turned.jpeg", saved(kind, picture, exif=exif), OK


def _animated(rng: random.Random, picture: Image.Image, kind: str) -> Case:
    form = "GIF" if kind == "JPEG" else kind
    second = photograph(*picture.size, seed=rng.randrange(99))
    data = saved(form, picture, save_all=True, append_images=[second])
    return "moving.gif", data, frozenset(["decode:unsupported"])


def _deep(rng: random.Random, picture: Image.Image, kind: str) -> Case:
    grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    return "deep.png", saved("PNG", Image.fromarray(grey)), OK


def _mode(rng: random.Random, picture: Image.Image, kind: str) -> Case:
    mode = rng.choice(("P", "LA", "RGBA", "1", "L"))
    return f"{mode}.png", saved("PNG", picture.convert(mode)), OK


def _foreign(rng: random.Random, picture: Image.Image, kind: str) -> Case:
    form = rng.choice(("TIFF", "BMP", "GIF", "ICO", "JPEG2000", "AVIF"))
    return f"photo-{form}.jpg", saved(form, picture), frozenset(["decode:unsupported"])


ANY = frozenset(["ok", "decode:truncated", "decode:corrupt", "decode:not-an-image", "decode:unsupported",
                 "decode:too-large"])  # fmt: skip
KINDS: tuple[Callable[[random.Random, Image.Image, str], Case], ...] = (
    _truncated,
    _damaged,
    _turned,
    _animated,
    _deep,
    _mode,
    _foreign,
    lambda rng, picture, kind: ("empty.jpg", b"", frozenset(["decode:empty"])),
    lambda rng, picture, kind: ("bomb.png", png_bomb(60_000, 60_000), frozenset(["decode:too-large"])),
    lambda rng, picture, kind: ("cmyk.jpg", saved("JPEG", picture.convert("CMYK")), OK),
    lambda rng, picture, kind: ("exif-bomb.jpg", exif_bomb(saved("JPEG", picture)), OK),
    lambda rng, picture, kind: ("page.jpg", b"<html>404</html>", frozenset(["decode:not-an-image"])),
    lambda rng, picture, kind: ("noise.webp", rng.randbytes(3000), frozenset(["decode:not-an-image"])),
    lambda rng, picture, kind: ("wrong.txt", saved(kind, picture), OK),
    _truncated,
    _damaged,
)


def names(number: int, name: str) -> bytes:
    """A file name that is unkind in one of several ways."""
    stem = (b"plain", "ünï 名前".encode(), b"new\nline", b"latin-\xe9", b"x" * 200, b"-rf *", b"back\\slash")
    return stem[number % len(stem)] + b"-%d-%s" % (number, name.encode())


def write_folder(root: Path, count: int, memory: int) -> dict[str, frozenset[str]]:
    """Write the files of the folder; returns what each may get."""
    from curation.pool import encode_name

    root.mkdir()
    expected = {}
    cases = [*large(memory), *(case(number) for number in range(count - 7 - 20))]
    for number, (name, data, allowed) in enumerate(cases):
        path = os.fsdecode(names(number, name))
        (root / path).write_bytes(data)
        expected[encode_name(path)] = allowed
    for number in range(4):
        odd = {"dangling": "nowhere", "itself": f"itself-{number}", "loop": ".", "leaves": "/etc/hostname"}
        for name, target in odd.items():
            (root / f"{name}-{number}").symlink_to(target)
            reason = "decode:link" if name in ("loop", "leaves") else "decode:unreadable"
            expected[f"{name}-{number}"] = frozenset([reason])
        os.mkfifo(root / f"pipe-{number}")
        expected[f"pipe-{number}"] = frozenset(["decode:unreadable"])
    return expected


def write_tar(path: Path, count: int) -> dict[str, frozenset[str]]:
    """A tar of `count` samples, every tenth a link, every key twice."""
    expected = {}
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for number in range(count):
            _, data, allowed = case(number)
            info = tarfile.TarInfo(f"{number // 2 * (-1) ** number}.jpg")
            info.size = len(data)
            if number % 10 == 9:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0
                allowed = frozenset(["decode:unreadable"])
            tar.addfile(info, io.BytesIO(data))
            expected[f"{path.name}#{number}"] = allowed
    return expected


def write_tables(root: Path, count: int) -> dict[str, frozenset[str]]:
    """A parquet of bytes and JSON lines of paths that mostly lead out."""
    root.mkdir()
    half = count // 2
    cases = [case(number) for number in range(half)]
    pq.write_table(pa.table({"jpg": [data for _, data, _ in cases]}), root / "a.parquet", row_group_size=7)
    expected = {f"a.parquet#{number}": allowed for number, (_, _, allowed) in enumerate(cases)}
    lines = {'{"path": "../../etc/passwd"}': "outside", '{"path": "/dev/zero"}': "outside", "{": "bad-row",
             '{"url": "http://x/y.jpg"}': "not-fetched", "[" * 5000: "bad-row",
             '{"path": null}': "no-image"}  # fmt: skip
    chosen = [list(lines)[number % len(lines)] for number in range(count - half)]
    (root / "b.jsonl").write_text("\n".join(chosen))
    return expected | {f"b.jsonl#{n}": frozenset([f"decode:{lines[line]}"]) for n, line in enumerate(chosen)}


def statuses(out: Path, by_number: bool) -> list[tuple[str, str]]:
    """(source, or source#number in order, status) of every row."""
    from shards.reader import Dataset

    rows = Dataset.open(out).table().sort_by([("source", "ascending"), ("offset", "ascending")]).to_pylist()
    seen: Counter[str] = Counter()
    found = []
    for row in rows:
        name = f"{row['source']}#{seen[row['source']]}" if by_number else row["source"]
        seen[row["source"]] += 1
        found.append((name, row["status"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="200 inputs")
    parser.add_argument("--memory", type=int, default=2 << 30, help="bytes a worker may take")
    given = parser.parse_args()
    count = 200 if given.quick else 2000
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        expected = [
            write_folder(root / "files", count * 8 // 10, given.memory),
            write_tar(root / "x.tar", count // 10),
            write_tables(root / "tables", count // 10),
        ]
        pools = [
            (str(root / pool), str(root / f"out-{i}")) for i, pool in enumerate(("files", "x.tar", "tables"))
        ]
        command = [sys.executable, "-c", CHILD, json.dumps(pools), str(given.memory)]
        peak = int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()[-1])
        found = [statuses(Path(out), number > 0) for number, (_, out) in enumerate(pools)]
    counts = Counter(status for rows in found for _, status in rows)
    unexpected = [
        (where, status) for rows, allowed in zip(found, expected, strict=True)
        for where, status in rows if status not in allowed.get(where, ())
    ]  # fmt: skip
    missing = [
        name for rows, allowed in zip(found, expected, strict=True) for name in allowed.keys() - dict(rows)
    ]
    for where, status in unexpected[:20]:
        print(f"unexpected: {where!r}: {status}", file=sys.stderr)
    figures = {
        "benchmark": "curation_hostile",
        "inputs": sum(map(len, expected)),
        "rows": sum(map(len, found)),
        "unexpected": len(unexpected),
        "missing": len(missing),
        "memory_gib": round(given.memory / 2**30, 2),
        "peak_gib": round(peak / 2**30, 2),
        "statuses": dict(sorted(counts.items())),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
