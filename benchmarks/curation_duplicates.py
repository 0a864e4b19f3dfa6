"""Seconds, peak memory and recall of near-duplicate resolution over a million perceptual hashes.

    python -P benchmarks/curation_duplicates.py [--rows 1000000] [--kind random] [--quick]

A tenth of the rows are copies of others, planted: 0 to 4 bits of the hash flipped, thumbnails off by up to 3
grey levels. Recall: the share of copies that are dropped, each naming an image that stays and is near to it.
--kind: hashes of the others are

random    independent bits
skewed    signs of 12 common factors, as in a pool of pictures that resemble each other
blank     a tenth of the pool are plain images of any grey, all with hash 0, neighbours in preference
alike     as blank, but thumbnails are noise, so that all of them stay: a hash that says nothing

Run in a child process, whose peak resident memory and CPU seconds are reported (the peak includes the
arrays). `seconds` is that of the first kind, `recall` the worst. Last printed line: one JSON object.
"""

import argparse
import json
import multiprocessing
import resource
import time
from typing import Any

import numpy as np

from curation.duplicates import alike, hamming, resolve_near
from curation.rules import Near

KINDS = ("random", "skewed", "blank", "alike")
FACTORS = 12
CHUNK = 1 << 16


def make_hashes(rng: np.random.Generator, rows: int, kind: str) -> Any:
    """uint64 (rows,)."""
    if kind != "skewed":
        return rng.integers(0, 2**64, rows, dtype=np.uint64)
    loadings = rng.standard_normal((FACTORS, 64), dtype=np.float32)
    parts = []
    for start in range(0, rows, CHUNK):
        size = min(CHUNK, rows - start)
        common = rng.standard_normal((size, FACTORS), dtype=np.float32) @ loadings
        signs = common + 0.6 * rng.standard_normal((size, 64), dtype=np.float32) > 0
        parts.append(np.packbits(signs, axis=1).view(np.uint64).ravel())
    return np.concatenate(parts)


def make_rows(rows: int, kind: str) -> tuple[Any, Any, int]:
    """(hashes, thumbnails, number of originals): originals first, then the copies of the first of them."""
    rng = np.random.default_rng(0)
    copies = rows // 10
    originals = rows - copies
    thumbnails = rng.integers(3, 253, (rows, 256), dtype=np.uint8)
    hashes = make_hashes(rng, rows, kind)
    if kind in ("blank", "alike"):
        plain = slice(originals // 2, originals // 2 + copies)
        hashes[plain] = 0
        if kind == "blank":
            thumbnails[plain] = rng.integers(0, 256, (copies, 1), dtype=np.uint8)
    hashes[originals:] = hashes[:copies]
    for _ in range(4):
        bit = np.uint64(1) << rng.integers(0, 64, copies).astype(np.uint64)
        hashes[originals:] ^= np.where(rng.random(copies) < 0.5, bit, np.uint64(0))
    noise = rng.integers(-3, 4, (copies, 256)).astype(np.int8)
    thumbnails[originals:] = (thumbnails[:copies] + noise).astype(np.uint8)
    return hashes, thumbnails, originals


def measure(rows: int, kind: str) -> dict[str, Any]:
    """Run in a process of its own."""
    hashes, thumbnails, originals = make_rows(rows, kind)
    near = Near()
    held = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    keeper = resolve_near(hashes, thumbnails, np.arange(rows), near)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    dropped = np.flatnonzero(keeper >= 0)
    kept = keeper[dropped]
    right = (keeper[kept] < 0) & (hamming(hashes[dropped], hashes[kept]) <= near.hamming)
    right &= alike(thumbnails, dropped, kept, near.thumbnail)
    found = np.zeros(rows, bool)
    found[dropped[right]] = True
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime - held.ru_utime - held.ru_stime, 2),
        "recall": round(float(found[originals:].mean()), 6),
        "wrong": int((~right).sum()),
        "stay": int((keeper < 0).sum()),
        "peak_gib": round(used.ru_maxrss / 2**20, 2),
        "arrays_gib": round((hashes.nbytes + thumbnails.nbytes) / 2**30, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=KINDS, default=None, help="all of them when not given")
    parser.add_argument("--quick", action="store_true", help="50,000 rows")
    given = parser.parse_args()
    rows = 50_000 if given.quick else given.rows
    figures: dict[str, Any] = {"benchmark": "curation_duplicates", "rows": rows}
    for kind in [given.kind] if given.kind else KINDS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures[kind] = pool.apply(measure, (rows, kind))
        print(f"{kind}: {figures[kind]}", flush=True)
    first = figures[given.kind or "random"]
    print(json.dumps({**figures, "seconds": first["seconds"], "recall": min_recall(figures)}))


def min_recall(figures: dict[str, Any]) -> float:
    """The worst over all kinds."""
    return min(float(found["recall"]) for found in figures.values() if isinstance(found, dict))


if __name__ == "__main__":
    main()
