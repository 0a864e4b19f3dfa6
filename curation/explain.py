"""explain: what another rule set would change. Two selections of the same annotations, row by row: how many
moved from which outcome to which, and what they look like.
"""

import base64
import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from curation.boxes import RGB
from curation.decisions import (
    DecisionStream,
    funnel,
    iterate_decisions,
    reading_of,
    reason_groups,
    selected,
    smallest_keys,
)
from curation.decode import decode
from curation.pool import PoolConfig, read_input
from curation.tables import Tables
from shards.errors import UsageError
from shards.files import write_atomic
from shards.manifest import read_manifest

HEIGHT = 128  # px, of a thumbnail
_MAX_PIXELS = 100_000_000
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class Move:
    """`count` inputs went from one outcome ("kept" or a reason without a key) to another. `positions`: some
    of them, by row in all tables.
    """

    before: str
    after: str
    count: int
    positions: tuple[int, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """What changed between two selections. `moves`: the most frequent first, then by name."""

    inputs: int
    kept_before: int
    kept_after: int
    moves: tuple[Move, ...]

    @property
    def moved(self) -> int:
        """How many inputs have another outcome."""
        return sum(move.count for move in self.moves)

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the samples."""
        moves = [{"before": m.before, "after": m.after, "count": m.count} for m in self.moves]
        kept = {"before": self.kept_before, "after": self.kept_after}
        return {"inputs": self.inputs, "kept": kept, "moved": self.moved, "moves": moves}


def explain(before: Path, after: Path, samples: int = 0) -> Explanation:
    """Compare two selections of the same annotations, in bounded memory.

    Of each move `samples` inputs are named, those with the smallest keys: a random choice (keys are digests),
    and always the same. A duplicate of another image than before has not moved. Raises UsageError when the
    selections are not of the same annotations.
    """
    first, second = selected(before), selected(after)
    if first.provenance["annotations"] != second.provenance["annotations"]:
        raise UsageError(
            f"{before} and {after}: selections of different annotations "
            f"({first.provenance['annotations'][:12]}, {second.provenance['annotations'][:12]}); "
            "select both from the same"
        )
    moves, found, start = Counter[str](), dict[str, list[tuple[str, int]]](), 0
    others = DecisionStream(after, ("reason",))
    for one in iterate_decisions(before, ("key", "reason")):
        other = others.take(one.num_rows)
        groups = _pairs(reason_groups(one["reason"]), reason_groups(other["reason"]))
        counts = np.bincount(groups.indices.to_numpy(), minlength=len(groups.dictionary)).tolist()
        moves.update(dict(zip(groups.dictionary.to_pylist(), counts, strict=True)))
        if samples:
            changed = [name for name in groups.dictionary.to_pylist() if not _stayed(name)]
            smallest_keys(found, groups, one["key"], start, samples, changed)
        start += one.num_rows
    listed = [
        Move(*_split(name), count, tuple(position for _, position in found.get(name, ())))
        for name, count in moves.items()
        if count and not _stayed(name)
    ]
    ordered = sorted(listed, key=lambda move: (-move.count, move.before, move.after))
    return Explanation(start, funnel(before)["kept"], funnel(after)["kept"], tuple(ordered))


def contact_sheet(pool: str | Path, annotations: str | Path, explanation: Explanation, path: Path) -> None:
    """Pictures of what moved, from the pool's original bytes: a page (`.html`, one file) or an image
    (`.png`).

    Raises UsageError for another extension; inputs that cannot be decoded are left out.
    """
    if path.suffix not in (".html", ".png"):
        raise UsageError(f"{path}: thumbnails are written as .html or .png")
    tables, reading = Tables.open(annotations), reading_of(read_manifest(annotations))
    rows = [
        [_picture(pool, row, reading) for row in tables.rows(move.positions)] for move in explanation.moves
    ]
    pictures = [[picture for picture in row if picture is not None] for row in rows]
    if path.suffix == ".html":
        write_atomic(path, _page(explanation, pictures).encode())
    else:
        write_atomic(path, _encoded(_sheet(explanation, pictures), ".png"))


def _pairs(before: pa.DictionaryArray, after: pa.DictionaryArray) -> pa.DictionaryArray:
    """ "before\\nafter" of each row."""
    one, other = before.dictionary.to_pylist(), after.dictionary.to_pylist()
    place = before.indices.to_numpy().astype(np.int64) * len(other) + after.indices.to_numpy()
    used, indices = np.unique(place, return_inverse=True)
    names = [f"{one[number // len(other)]}\n{other[number % len(other)]}" for number in used.tolist()]
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32)), pa.array(names, pa.string()))


def _split(name: str) -> tuple[str, str]:
    before, _, after = name.partition("\n")
    return before, after


def _stayed(name: str) -> bool:
    before, after = _split(name)
    return before == after


def _picture(pool: str | Path, row: Mapping[str, Any], reading: PoolConfig) -> tuple[str, RGB] | None:
    """(what it is called, pixels HEIGHT high) of one input."""
    decoded = decode(read_input(pool, row, reading), _MAX_PIXELS)
    if decoded.image is None:
        return None
    height, width = decoded.image.shape[:2]
    size = (max(1, min(round(width * HEIGHT / height), 4 * HEIGHT)), HEIGHT)
    name = str(row["source"]) + (f": {row['member']}" if row["member"] else "")
    return name, cv2.resize(decoded.image, size, interpolation=cv2.INTER_AREA)


def _page(explanation: Explanation, pictures: Sequence[Sequence[tuple[str, RGB]]]) -> str:
    parts = [_HEAD, f"<h1>{explanation.moved:,} of {explanation.inputs:,} inputs moved</h1>"]
    parts.append(f"<p>Kept: {explanation.kept_before:,} before, {explanation.kept_after:,} after.</p>")
    for move, row in zip(explanation.moves, pictures, strict=True):
        parts.append(f"<h2>{html.escape(_title(move))}</h2><div>")
        for name, image in row:
            data = base64.b64encode(_encoded(image, ".jpg")).decode()
            told = html.escape(name, quote=True)
            parts.append(
                f'<figure><img src="data:image/jpeg;base64,{data}" alt="{told}">'
                f"<figcaption>{told}</figcaption></figure>"
            )
        parts.append("</div>")
    return "\n".join([*parts, "</html>\n"])


def _sheet(explanation: Explanation, pictures: Sequence[Sequence[tuple[str, RGB]]]) -> RGB:
    """One strip per move beneath its title."""
    strips = []
    for move, row in zip(explanation.moves, pictures, strict=True):
        title = np.full((28, 640, 3), 255, np.uint8)
        cv2.putText(title, _title(move), (4, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        images = [image for _, image in row] or [np.full((HEIGHT, 1, 3), 255, np.uint8)]
        strips += [title, np.concatenate(images, axis=1)]
    strips = strips or [np.full((28, 640, 3), 255, np.uint8)]
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
    return np.concatenate(padded, axis=0)


def _title(move: Move) -> str:
    return f"{move.before} -> {move.after}: {move.count:,}"


def _encoded(image: RGB, extension: str) -> bytes:
    flags = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if extension == ".jpg" else []
    return bytes(cv2.imencode(extension, np.ascontiguousarray(image[..., ::-1]), flags)[1])


_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>What moved</title>
<style>
:root { color-scheme: light dark }
body { font: 15px system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
h2 { font-size: 1rem }
div { display: flex; flex-wrap: wrap; gap: .5rem }
figure { margin: 0; max-width: 100% }
img { max-width: 100% }
figcaption { font-size: .75rem; max-width: 12rem; overflow-wrap: anywhere; opacity: .7 }
</style>"""
