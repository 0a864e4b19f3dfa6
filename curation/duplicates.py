"""Which images are the same as which: exactly, by digest, and nearly, by perceptual hash and thumbnail.

**Near.** Two images are near when their 64-bit hashes differ in at most `hamming` bits *and* their 16 x 16
thumbnails differ by at most `thumbnail` grey levels on average: plain images collide under every such hash.
In an order of preference, an image is a duplicate of the first image before it that stays and that it is near
to. Nearness is not transitive, so this is neither clustering nor a chain: what a dropped image names is near
to it and stays.

**Finding pairs** (banded locality-sensitive hashing). The 64 bits are cut into b blocks. Hashes that differ
in at most d bits agree in at least b - d of them, so one of C(b, d) tables, each over b - d of the blocks,
holds every pair: recall is 1, not a probability. Within a bucket images are sorted by mean brightness,
because
|mean(a) - mean(b)| <= mean(|a - b|): only neighbours in brightness are looked at.

**Skew.** Images that are all alike share a bucket by the thousand. Images are taken in windows of the order
of preference, each held first against those that stay (one lookup however many were dropped), then against
itself; a window with too many pairs in it is halved. So 100,000 copies cost a lookup each, and only images
that all stay, share bucket and brightness, and still differ in their thumbnails, cost their square.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations, pairwise

import numpy as np
from jaxtyping import Bool, Int64, UInt8, UInt64

from curation.rules import Near

WINDOW = 1 << 15  # images taken at once
PAIRS = 1 << 20  # pairs looked at at once, and those within a window before it is halved
SMALLEST = 64  # a window that is not halved any more
REPRESENTATIVES = 256  # images of one hash that stay and may have duplicates
_KEY_BITS, _GREY_BITS, _RANK_BITS = 22, 10, 32  # of an entry of a table: bucket, brightness, image
_GREYS = (1 << _GREY_BITS) - 1
_RANK = np.uint64((1 << _RANK_BITS) - 1)

Words = UInt64[np.ndarray, "rows 2"]
Rows = Int64[np.ndarray, " rows"]
Ranks = Int64[np.ndarray, " ranks"]  # positions in the order of preference
Pairs = Int64[np.ndarray, " pairs"]


def resolve_exact(identity: Words, key: Words) -> Rows:
    """For each row the row of the one that stays among those of equal `identity` (128 bits of a digest), or
    -1 when it stays itself. First by key, then by position.
    """
    keeper = np.full(len(identity), -1, np.int64)
    order = np.argsort(identity[:, 0], kind="stable")
    high = identity[order, 0]
    same = high[1:] == high[:-1]
    shared = np.append(same, False) | np.insert(same, 0, False) if len(high) else np.zeros(0, bool)
    rows = order[shared]  # few: what follows need not be fast
    rows = rows[np.lexsort((rows, key[rows, 1], key[rows, 0], identity[rows, 1], identity[rows, 0]))]
    begins = np.ones(len(rows), bool)
    begins[1:] = (identity[rows[1:]] != identity[rows[:-1]]).any(axis=1)
    first = rows[np.flatnonzero(begins)[np.cumsum(begins) - 1]] if len(rows) else rows
    keeper[rows] = np.where(first == rows, -1, first)
    return keeper


def by_preference(pixels: Rows, size: Rows, key: Words) -> Rows:
    """The rows in the order in which they may stay: more pixels, then more bytes, then the smaller key, then
    the earlier.
    """
    # Numbers of pixels and bytes are far below 2**63, so their negatives sort in reverse.
    order: Rows = np.lexsort((key[:, 1], key[:, 0], -size, -pixels)).astype(np.int64)
    return order


def resolve_near(
    hashes: UInt64[np.ndarray, " rows"],
    thumbnails: UInt8[np.ndarray, "rows pixels"],
    order: Ranks,
    near: Near,
) -> Rows:
    """For each row the row that it is a near duplicate of, or -1. Only the rows in `order`, which is that of
    preference, take part.

    Time: about n log n in the rows that stay. Memory: `bytes_per_row` for each row of `order`, besides
    `thumbnails`, which may be a memory map.
    """
    keeper = np.full(len(hashes), -1, np.int64)
    search = _Search(hashes[order], _brightness(thumbnails, order), thumbnails, order, near)
    best = search.run()
    dropped = best >= 0
    keeper[order[dropped]] = order[best[dropped]]
    return keeper


def bytes_per_row(differing: int) -> int:
    """What `resolve_near` holds for each row that takes part: an entry in each table (twice in one that is
    being merged), hash, brightness, order, result, and room for a window's pairs.
    """
    return 9 * len(bands(differing)) + 120


def hamming(
    one: UInt64[np.ndarray, " pairs"], other: UInt64[np.ndarray, " pairs"]
) -> UInt64[np.ndarray, " pairs"]:
    """Number of differing bits of each pair (Warren, Hacker's Delight, 5-1)."""
    x = one ^ other
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    bits: UInt64[np.ndarray, " pairs"] = (x * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return bits


def alike(
    thumbnails: UInt8[np.ndarray, "rows pixels"], one: Pairs, other: Pairs, at_most: float
) -> Bool[np.ndarray, " pairs"]:
    """Whether the thumbnails of each pair of rows differ by at most `at_most` grey levels on average."""
    found = np.zeros(len(one), bool)
    for start in range(0, len(one), WINDOW):
        part = slice(start, start + WINDOW)
        a, b = thumbnails[one[part]], thumbnails[other[part]]
        apart = (np.maximum(a, b) - np.minimum(a, b)).sum(axis=1, dtype=np.int64)
        found[part] = apart <= at_most * thumbnails.shape[1]
    return found


def bands(differing: int) -> tuple[tuple[UInt64[np.ndarray, ""], UInt64[np.ndarray, " earlier"]], ...]:
    """The tables for hashes that differ in at most `differing` bits: the bits of each table's blocks, and
    each block before its last that it leaves out (a pair that agrees there was found in an earlier table).
    """
    # Two blocks agree: 15 tables of 21 bits at 4 bits, where a bucket of a million random hashes holds one.
    blocks = differing + 2
    bounds = [64 * number // blocks for number in range(blocks + 1)]
    masks = [((1 << high) - 1) ^ ((1 << low) - 1) for low, high in pairwise(bounds)]
    tables = []
    for chosen in combinations(range(blocks), 2):
        left_out = [masks[number] for number in range(chosen[-1]) if number not in chosen]
        mask = masks[chosen[0]] | masks[chosen[1]]
        tables.append((np.array(mask, np.uint64), np.array(left_out, np.uint64)))
    return tuple(tables)


@dataclass
class _Table:
    """What stays, sorted by (bucket, brightness, rank): a long run, and a short one merged into it now and
    then.
    """

    mask: UInt64[np.ndarray, ""]
    left_out: UInt64[np.ndarray, " earlier"]
    long: UInt64[np.ndarray, " entries"] = field(default_factory=lambda: np.zeros(0, np.uint64))
    short: UInt64[np.ndarray, " entries"] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def entries(
        self, hashes: UInt64[np.ndarray, " n"], grey: UInt64[np.ndarray, " n"], rank: UInt64[np.ndarray, " n"]
    ) -> UInt64[np.ndarray, " n"]:
        """Sorted entries of some images."""
        bucket = ((hashes & self.mask) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _KEY_BITS)
        entries: UInt64[np.ndarray, " n"] = (
            (bucket << np.uint64(_GREY_BITS + _RANK_BITS)) | (grey << np.uint64(_RANK_BITS)) | rank
        )
        entries.sort()
        return entries

    def insert(self, entries: UInt64[np.ndarray, " n"]) -> None:
        """Add entries that stay. Stable sorting merges sorted runs in linear time."""
        self.short = np.sort(np.concatenate([self.short, entries]), kind="stable")
        if 8 * len(self.short) > len(self.long):
            self.long = np.sort(np.concatenate([self.long, self.short]), kind="stable")
            self.short = self.short[:0]


class _Search:
    """The state of one resolution, over ranks: positions in the order of preference."""

    def __init__(
        self,
        hashes: UInt64[np.ndarray, " ranks"],
        grey: UInt64[np.ndarray, " ranks"],
        thumbnails: UInt8[np.ndarray, "rows pixels"],
        order: Ranks,
        near: Near,
    ) -> None:
        self.hashes, self.grey, self.thumbnails, self.order, self.near = hashes, grey, thumbnails, order, near
        self.tables = [_Table(*table) for table in bands(near.hamming)]
        self.best = np.full(len(hashes), -1, np.int64)
        common, counts = np.unique(hashes, return_counts=True)
        self.crowds = common[counts > REPRESENTATIVES]  # hashes that may get too many representatives
        self.representatives: Counter[int] = Counter()  # of those
        # Brightness is kept in quarters of a grey level, rounded down: one more covers the rounding.
        self.reach = min(int(4 * near.thumbnail) + 1, _GREYS)

    def run(self) -> Int64[np.ndarray, " ranks"]:
        """For each rank the rank that it is a duplicate of, or -1."""
        start, size = 0, WINDOW
        while start < len(self.hashes):
            stop = min(start + size, len(self.hashes))
            ranks = np.arange(start, stop, dtype=np.int64)
            rest = ranks[self._against_stayers(ranks)]
            entries = self._entries(rest)
            if self._pairs_within(entries) > PAIRS and stop - start > SMALLEST:
                size = (stop - start) // 2
                self.best[start:stop] = -1
                continue
            stays = np.zeros(stop - start, bool)
            stays[self._against_itself(rest, entries) - start] = True
            for table, found in zip(self.tables, entries, strict=True):
                table.insert(found[stays[_ranks(found) - start]])
            start, size = stop, min(2 * size, WINDOW)
        return self.best

    def _entries(self, ranks: Ranks) -> list[UInt64[np.ndarray, " n"]]:
        hashes, grey, rank = self.hashes[ranks], self.grey[ranks], ranks.astype(np.uint64)
        return [table.entries(hashes, grey, rank) for table in self.tables]

    def _against_stayers(self, ranks: Ranks) -> Bool[np.ndarray, " ranks"]:
        """Hold images against those that stay; True for those that are near to none."""
        best = np.full(len(ranks), len(self.hashes), np.int64)
        for table, entries in zip(self.tables, self._entries(ranks), strict=True):
            low, high = self._reach(entries)
            for run in (table.long, table.short):
                first, last = np.searchsorted(run, low), np.searchsorted(run, high, side="right")
                for query, place in _ranges(first, last):
                    one, other = _ranks(run[place]), _ranks(entries[query])
                    one, other = self._near(table, one, other)
                    np.minimum.at(best, other - ranks[0], one)
        found = best < len(self.hashes)
        self.best[ranks[found]] = best[found]
        return ~found

    def _pairs_within(self, entries: list[UInt64[np.ndarray, " n"]]) -> int:
        return sum(int((self._ends(found) - np.arange(1, len(found) + 1)).sum()) for found in entries)

    def _against_itself(
        self, rest: Ranks, entries: list[UInt64[np.ndarray, " n"]]
    ) -> Int64[np.ndarray, " stays"]:
        """Resolve images among each other, in order. Returns those that stay and may have duplicates."""
        pairs = [np.zeros((0, 2), np.int64)]
        for table, found in zip(self.tables, entries, strict=True):
            for left, right in _ranges(np.arange(1, len(found) + 1), self._ends(found)):
                one, other = _ranks(found[left]), _ranks(found[right])
                near = self._near(table, np.minimum(one, other), np.maximum(one, other))
                pairs.append(np.stack(near, axis=1))
        edges = np.concatenate(pairs)
        edges = edges[np.lexsort((edges[:, 0], edges[:, 1]))]
        crowded = rest[np.isin(self.hashes[rest], self.crowds)]
        if len(crowded):
            return self._among_crowds(rest, edges, crowded)
        for one, other in edges.tolist():  # every decision on `one` was taken before: it comes first
            if self.best[one] < 0 and self.best[other] < 0:
                self.best[other] = one
        stays: Ranks = rest[self.best[rest] < 0]
        return stays

    def _among_crowds(
        self, rest: Ranks, edges: Int64[np.ndarray, "pairs 2"], crowded: Rows
    ) -> Int64[np.ndarray, " stays"]:
        """The same where a hash may run out of representatives."""
        before: dict[int, list[int]] = {}
        for one, other in edges.tolist():
            before.setdefault(other, []).append(one)
        hash_of = dict(zip(crowded.tolist(), self.hashes[crowded].tolist(), strict=True))
        stays: dict[int, None] = {}  # in order
        for rank in rest.tolist():
            keeper = next((one for one in before.get(rank, ()) if one in stays), None)
            if keeper is not None:
                self.best[rank] = keeper
            elif rank not in hash_of:
                stays[rank] = None
            elif self.representatives[hash_of[rank]] < REPRESENTATIVES:
                self.representatives[hash_of[rank]] += 1
                stays[rank] = None
        return np.array(list(stays), np.int64)

    def _near(
        self, table: _Table, one: Pairs, other: Pairs
    ) -> tuple[Int64[np.ndarray, " near"], Int64[np.ndarray, " near"]]:
        """Those of the pairs that are near and that no earlier table has found."""
        a, b = self.hashes[one], self.hashes[other]
        close = hamming(a, b) <= self.near.hamming
        one, other, differing = one[close], other[close], (a ^ b)[close]
        new = (differing & table.mask) == 0  # a bucket is a hash of the bits, and may hold others
        for mask in table.left_out:
            new &= (differing & mask) != 0
        one, other = one[new], other[new]
        found = alike(self.thumbnails, self.order[one], self.order[other], self.near.thumbnail)
        return one[found], other[found]

    def _reach(
        self, entries: UInt64[np.ndarray, " n"]
    ) -> tuple[UInt64[np.ndarray, " n"], UInt64[np.ndarray, " n"]]:
        """The first and last entry that each may be near to: its bucket, its brightness give or take."""
        bucket = entries >> np.uint64(_GREY_BITS + _RANK_BITS) << np.uint64(_GREY_BITS)
        grey = (entries >> np.uint64(_RANK_BITS)) & np.uint64(_GREYS)
        reach = np.uint64(self.reach)
        low = bucket | (grey - np.minimum(grey, reach))
        high = bucket | np.minimum(grey + reach, np.uint64(_GREYS))
        return low << np.uint64(_RANK_BITS), (high << np.uint64(_RANK_BITS)) | _RANK

    def _ends(self, entries: UInt64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """For each entry, where those end that come after it and that it may be near to."""
        return np.searchsorted(entries, self._reach(entries)[1], side="right")


def _brightness(thumbnails: UInt8[np.ndarray, "rows pixels"], order: Ranks) -> UInt64[np.ndarray, " ranks"]:
    """Mean of each thumbnail in quarters of a grey level, rounded down: 0 .. 1020."""
    grey = np.zeros(len(order), np.uint64)
    for start in range(0, len(order), WINDOW):
        part = order[start : start + WINDOW]
        total = thumbnails[part].sum(axis=1, dtype=np.uint64)
        grey[start : start + WINDOW] = 4 * total // np.uint64(thumbnails.shape[1])
    return grey


def _ranks(entries: UInt64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    return (entries & _RANK).astype(np.int64)


def _ranges(
    first: Int64[np.ndarray, " n"], last: Int64[np.ndarray, " n"]
) -> Iterator[tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]]:
    """Pairs (i, place) for every place in first[i] .. last[i] - 1, at most about PAIRS at once."""
    sizes = np.maximum(last - first, 0)
    some = np.flatnonzero(sizes)
    ends = np.cumsum(sizes[some])
    start = 0
    while start < len(some):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + PAIRS, side="right")), start + 1)
        part = some[start:stop]
        count = sizes[part]
        ramp = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        yield np.repeat(part, count), np.repeat(first[part], count) + ramp
        start = stop
