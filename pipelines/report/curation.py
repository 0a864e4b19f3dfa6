"""What pages show of a selection, through the room's own readers: its summary, its rules, examples of every
reason from the original bytes.

Memory holds the summary, the example rows and one picture, however large the pool is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.columns import ANNOTATIONS, DECODED_OK
from curation.decisions import SUMMARY_FILE, examples, funnel, reading_of, selected
from curation.decode import decode
from curation.funnel import KEPT
from curation.pool import PoolConfig, read_input
from curation.rules import NUMERIC, Rule, RuleSet, parse_rules
from curation.verdicts import details, read_boxes, values
from pipelines.report.html import number, size
from pipelines.report.images import RGB, draw_boxes, fit_within, webp_uri
from pipelines.report.parts import Collector, Missing, Picture
from shards.errors import ShardError, UsageError
from shards.files import sha256_file
from shards.manifest import read_manifest

_KEPT, _BOXED, _TEXT = (40, 165, 255), (255, 150, 30), (255, 80, 120)
_HEIGHT, _WIDTH = 180, 540  # px of a picture at most; the page shows it smaller
_MAX_PIXELS = 100_000_000
_MAX_BYTES = 256 << 20  # of an input, to be read for a picture
_FIRST = 40  # bytes of an input that is no image


@dataclass(frozen=True)
class Reason:
    """One outcome of the selection ("kept", "duplicate", "decode:truncated" ...) with examples."""

    name: str
    count: int
    examples: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Curation:
    """`summary`: see curation.funnel.Tally.to_json, and "histograms". `reasons`: kept first, then in the
    order of the rules. `digest`: of the selection; `annotations`: of what it was made from.
    """

    summary: Mapping[str, Any]
    rules: RuleSet
    reasons: tuple[Reason, ...]
    digest: str
    annotations: str

    @property
    def people(self) -> tuple[int, int]:
        """People counted in kept images and in the whole pool."""
        kept, pool = (
            sum(int(people) * images for people, images in self.summary[name].items())
            for name in ("people", "people_of_pool")
        )
        return kept, pool


def collect_curation(
    parts: Collector, pool: str | Path, annotations: str | Path, selection: Path, contacts: int
) -> Curation | None:
    """The funnel (section "curation" where it is missing) and up to `contacts` examples of every reason
    ("pictures"); None without the funnel.
    """
    curation = parts.one("curation", "the funnel", read_curation, selection)
    if curation is None or not contacts:
        return curation
    shown = parts.one(
        "pictures", "contact sheets", read_pictures, pool, annotations, selection, curation, contacts
    )
    if shown is None:
        return curation
    reasons, lost = shown
    if lost:
        parts.missing.append(Missing("pictures", f"{len(lost)} of the examples", lost[0]))
    return replace(curation, reasons=reasons)


def read_curation(selection: Path) -> Curation:
    """The summary and the rules of a finished selection. Raises UsageError, ShardError."""
    manifest = selected(selection)
    if manifest.quarantined or not manifest.shards:
        raise ShardError(f"{selection}: not finished; run `vitruvian curate select` again")
    if sha256_file(selection / SUMMARY_FILE) != manifest.shards[0].files[SUMMARY_FILE].sha256:
        raise ShardError(f"{selection / SUMMARY_FILE}: damaged: its digest is not that of the manifest")
    summary, rules = funnel(selection), parse_rules(manifest.provenance["rules"], str(selection))
    counts = {KEPT: summary["kept"]}
    for stage in summary["stages"]:
        counts |= stage["reasons"]
    reasons = tuple(Reason(name, count) for name, count in counts.items())
    return Curation(summary, rules, reasons, manifest.digest, manifest.provenance["annotations"])


def read_pictures(
    pool: str | Path, annotations: str | Path, selection: Path, curation: Curation, contacts: int
) -> tuple[tuple[Reason, ...], list[str]]:
    """(the reasons with pictures, why inputs could not be read). Raises UsageError when the selection is of
    other annotations, or there is no such pool; ShardError for tables that lack columns.
    """
    manifest = read_manifest(annotations)
    if manifest.digest != curation.annotations:
        raise UsageError(
            f"{selection}: selected from other annotations ({curation.annotations[:12]}) than {annotations} "
            f"({manifest.digest[:12]}); run select again"
        )
    rows, config = examples(annotations, selection, contacts), reading_of(manifest)
    reasons, lost = [], list[str]()
    for reason in curation.reasons:
        found = rows.get(reason.name, [])
        if absent := sorted({name for row in found for name in ANNOTATIONS.names if name not in row}):
            raise ShardError(f"{annotations}: no column {', '.join(absent)}: run annotate again")
        pictures = [picture_of(pool, row, reason.name, curation.rules, config, lost) for row in found]
        reasons.append(replace(reason, examples=tuple(pictures)))
    return tuple(reasons), lost


def picture_of(
    pool: str | Path, row: Mapping[str, Any], reason: str, rules: RuleSet, config: PoolConfig, lost: list[str]
) -> Picture:
    """One input as a picture. What cannot be read any more is noted in `lost`; a pool that cannot be reached
    at all raises UsageError.
    """
    name = str(row["source"]) + (f": {row['member']}" if row["member"] else "")
    alt, detail = f"{reason}: {name}", measured(row, reason, rules)
    if not row["key"]:
        return Picture(None, alt, name, "could not be read", detail)
    if row["bytes"] > _MAX_BYTES:
        return Picture(None, alt, name, f"{size(row['bytes'])}: too large to show", detail)
    try:
        data = read_input(pool, row, config)
    except (ShardError, OSError) as error:
        lost.append(str(error))
        return Picture(None, alt, name, "cannot be read any more", detail)
    image = decode(data, _MAX_PIXELS).image
    if image is None:
        return Picture(None, alt, name, _note(row, data), detail)
    return Picture(webp_uri(thumbnail(image, row, reason, rules), 80), alt, name, "", detail)


def _note(row: Mapping[str, Any], data: bytes) -> str:
    """What there is to see of an input that is no picture here."""
    if row["status"] == DECODED_OK:
        return f"{row['width']:,} × {row['height']:,} px: too large to show"  # noqa: RUF001
    start = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in data[:_FIRST])
    return f"{len(data):,} bytes: {start}" if data else "0 bytes"


def thumbnail(image: RGB, row: Mapping[str, Any], reason: str, rules: RuleSet) -> RGB:
    """A small picture with the boxes of people who are counted, else the best box, and for a text rule with
    the boxes of text. Boxes are in the pixels of `image`.
    """
    small = fit_within(image, _HEIGHT, _WIDTH)
    scale = small.shape[0] / image.shape[0]
    people = counted(row["person_boxes"] or [], rules.people.score_above)
    small = draw_boxes(small, people, _KEPT if reason == KEPT else _BOXED, scale)
    rule = rule_of(reason, rules)
    if rule is not None and rule.column == "text_area":
        small = draw_boxes(small, row["text_boxes"] or [], _TEXT, scale)
    return small


def counted(boxes: Sequence[Mapping[str, float]], score_above: float) -> list[Mapping[str, float]]:
    """The boxes above the score, or the best one."""
    ordered = sorted(boxes, key=lambda box: -box["score"])
    return [box for box in ordered if box["score"] > score_above] or ordered[:1]


def rule_of(reason: str, rules: RuleSet) -> Rule | None:
    """The rule that gives this reason; None for kept, decode and subset."""
    return next((rule for rule in rules.rules if reason in details(rule)), None)


def measured(row: Mapping[str, Any], reason: str, rules: RuleSet) -> str:
    """The value that decided: "short_side 48", "score 0.41, 90 px" (the best box), "of 1a2b3c4d" (the
    key of the one that stays); "2 people" of what is kept.
    """
    if reason == KEPT:
        return f"{row['people']} {'person' if row['people'] == 1 else 'people'}"
    rule = rule_of(reason, rules)
    if rule is None:
        return ""
    if rule.duplicates is not None:
        return f"of {row['reason'].rpartition(':')[2][:8]}"
    table = pa.Table.from_pylist([dict(row)], ANNOTATIONS)
    if rule.person is not None:
        boxes = read_boxes(table)
        if not len(boxes.score):
            return ""
        best = boxes.score.argmax()
        side = boxes.side(rule.person.size_rule)[best]
        return f"score {boxes.score[best]:.2f}, {side:.0f}\N{NO-BREAK SPACE}px"
    people = np.array([row["people"]], np.int32)
    value = values(table, str(rule.column), people).to_pylist()[0]
    return f"{rule.column} {number(value)}" if rule.column in NUMERIC else f"{rule.column}: {value}"
