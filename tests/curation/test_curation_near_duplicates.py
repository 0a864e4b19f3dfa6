"""Exact and near duplicates on arrays: against brute force, whatever the order, and where hashes say
nothing.
"""

from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curation.duplicates as duplicates
from curation.duplicates import alike, bands, by_preference, hamming, resolve_exact, resolve_near
from curation.rules import Near

seeds = st.integers(0, 2**32 - 1)


def crowd(seed: int, rows: int = 120, hashes: int = 6, pictures: int = 2) -> tuple[Any, Any]:
    """(hashes, thumbnails) around a few of each, so that many pairs lie on either side of both thresholds."""
    rng = np.random.default_rng(seed)
    hashed = rng.integers(0, 2**64, hashes, dtype=np.uint64)[rng.integers(0, hashes, rows)]
    for _ in range(3):
        bit = np.uint64(1) << rng.integers(0, 64, rows).astype(np.uint64)
        hashed = np.where(rng.random(rows) < 0.5, hashed ^ bit, hashed)
    pixels = rng.integers(0, 256, (pictures, 256))[rng.integers(0, pictures, rows)]
    pixels = pixels + rng.integers(-10, 11, (rows, 1)) + rng.integers(-3, 4, (rows, 256))
    return hashed, np.clip(pixels, 0, 255).astype(np.uint8)


def brute_force(hashes: Any, thumbnails: Any, order: Any, near: Near, most: int = 10**9) -> Any:
    """The rule as it is told: one image after the other, against all that stay."""
    keeper, stays, of_hash = np.full(len(hashes), -1), list[int](), dict[int, int]()
    for row in order:
        for other in stays:
            bits = bin(int(hashes[row]) ^ int(hashes[other])).count("1")
            apart = np.abs(thumbnails[row].astype(int) - thumbnails[other].astype(int)).mean()
            if bits <= near.hamming and apart <= near.thumbnail:
                keeper[row] = other
                break
        else:
            of_hash[int(hashes[row])] = of_hash.get(int(hashes[row]), 0) + 1
            if of_hash[int(hashes[row])] <= most:
                stays.append(row)
    return keeper


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(0, 6), st.sampled_from([0.0, 2.5, 8.0, 20.0, 255.0]))
def test_brute_force_agrees(seed: int, bits: int, thumbnail: float) -> None:
    hashes, thumbnails = crowd(seed)
    order = np.random.default_rng(seed).permutation(len(hashes))[:100]
    near = Near(hamming=bits, thumbnail=thumbnail)
    expected = brute_force(hashes, thumbnails, order, near)
    np.testing.assert_array_equal(resolve_near(hashes, thumbnails, order, near), expected)


@pytest.mark.parametrize("bits", range(7))
def test_the_cases_are_worth_testing(bits: int) -> None:
    hashes, thumbnails = crowd(1)
    found = resolve_near(hashes, thumbnails, np.arange(120), Near(hamming=bits))
    assert 0 < (found >= 0).sum() < 110


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_windows_of_any_size_give_the_same(seed: int) -> None:
    hashes, thumbnails = crowd(seed, rows=200)
    order, near = np.random.default_rng(seed).permutation(200), Near()
    expected = resolve_near(hashes, thumbnails, order, near)
    with (
        mock.patch.object(duplicates, "WINDOW", 37),
        mock.patch.object(duplicates, "PAIRS", 11),
        mock.patch.object(duplicates, "SMALLEST", 2),
    ):
        np.testing.assert_array_equal(resolve_near(hashes, thumbnails, order, near), expected)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    """What stays is a property of the images: rows are shuffled, preference goes with the image."""
    rng = np.random.default_rng(seed)
    hashes, thumbnails = crowd(seed)
    pixels, size = rng.integers(1, 4, (2, 120))
    key = rng.integers(0, 2**64, (120, 2), dtype=np.uint64)
    found = resolve_near(hashes, thumbnails, by_preference(pixels, size, key), Near())
    moved = rng.permutation(120)
    order = by_preference(pixels[moved], size[moved], key[moved])
    again = resolve_near(hashes[moved], thumbnails[moved], order, Near())
    back = np.full(120, -1)
    back[moved] = np.where(again >= 0, moved[again], -1)
    np.testing.assert_array_equal(back, found)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_what_is_dropped_names_one_that_stays_and_is_near_and_better(seed: int) -> None:
    hashes, thumbnails = crowd(seed)
    order = np.random.default_rng(seed).permutation(120)
    found = resolve_near(hashes, thumbnails, order, Near())
    dropped = np.flatnonzero(found >= 0)
    keepers = found[dropped]
    assert (found[keepers] < 0).all()
    assert (hamming(hashes[dropped], hashes[keepers]) <= 4).all()
    assert alike(thumbnails, dropped, keepers, 8.0).all()
    place = np.argsort(order)
    assert (place[keepers] < place[dropped]).all()


def test_recall_is_one_on_planted_pairs() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 40_000, dtype=np.uint64)
    copies = hashes[:4_000].copy()
    for number in range(4_000):  # 0 to 4 bits
        for bit in rng.choice(64, number % 5, replace=False).tolist():
            copies[number] ^= np.uint64(1 << bit)
    thumbnails = rng.integers(0, 256, (40_000, 256), dtype=np.uint8)
    both = np.concatenate([hashes, copies]), np.concatenate([thumbnails, thumbnails[:4_000]])
    found = resolve_near(*both, np.arange(44_000), Near())
    np.testing.assert_array_equal(found[40_000:], np.arange(4_000))
    assert (found[:40_000] < 0).all()


def test_equal_hashes_by_the_thousand_cost_a_lookup_each() -> None:
    """Blank images: one hash. If it went by pairs, this would be 200 million of them, in each of 15
    tables.
    """
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 30_000, dtype=np.uint64)
    thumbnails = rng.integers(0, 256, (30_000, 256), dtype=np.uint8)
    blank = slice(5_000, 25_000)
    hashes[blank], thumbnails[blank] = 0, rng.integers(0, 256, (20_000, 1))  # of any grey
    with mock.patch.object(duplicates, "hamming", wraps=hamming) as looked_at:
        found = resolve_near(hashes, thumbnails, np.arange(30_000), Near())
    pairs = sum(len(call.args[0]) for call in looked_at.call_args_list)
    assert pairs < 20_000_000
    stays = np.flatnonzero(found[blank] < 0)
    assert 10 < len(stays) <= 256 / 8 + 1  # greys more than 8 apart
    assert (found[:5_000] < 0).all() and (found[25_000:] < 0).all()


def test_a_hash_that_says_nothing_runs_out_of_representatives() -> None:
    rng = np.random.default_rng(0)
    hashes, thumbnails = crowd(3, rows=150, hashes=2, pictures=60)
    order = rng.permutation(150)
    for most in (1, 3, 10):
        with mock.patch.object(duplicates, "REPRESENTATIVES", most):
            found = resolve_near(hashes, thumbnails, order, Near(hamming=2))
        np.testing.assert_array_equal(found, brute_force(hashes, thumbnails, order, Near(hamming=2), most))
    assert (found >= 0).any()


def test_tables_cover_every_pair_and_find_it_once() -> None:
    rng = np.random.default_rng(0)
    for bits in range(7):
        for _ in range(200):
            chosen = rng.choice(64, int(rng.integers(0, bits + 1)), replace=False)
            differing = np.uint64(sum(1 << int(bit) for bit in chosen))
            found = [
                (differing & mask) == 0 and all((differing & other) != 0 for other in left_out)
                for mask, left_out in bands(bits)
            ]
            assert sum(found) == 1


def test_exact_duplicates_are_settled_by_key_then_position() -> None:
    identity = np.array([[5, 1], [5, 1], [5, 2], [7, 0], [5, 1], [7, 0]], np.uint64)
    key = np.array([[9, 0], [3, 0], [1, 0], [4, 4], [3, 0], [4, 3]], np.uint64)
    assert resolve_exact(identity, key).tolist() == [1, -1, -1, 5, 1, -1]
    assert resolve_exact(identity[:0], key[:0]).tolist() == []


def test_preference() -> None:
    pixels, size = np.array([1, 2, 2, 2, 2]), np.array([9, 5, 7, 7, 7])
    key = np.array([[0, 0], [0, 1], [1, 0], [0, 9], [0, 9]], np.uint64)
    assert by_preference(pixels, size, key).tolist() == [3, 4, 2, 1, 0]


def test_the_thumbnail_tells_hashes_apart() -> None:
    hashes = np.zeros(3, np.uint64)
    thumbnails = np.full((3, 256), 100, np.uint8)
    thumbnails[1, :128], thumbnails[2, :128] = 116, 117  # 8 and 8.5 on average
    assert resolve_near(hashes, thumbnails, np.arange(3), Near()).tolist() == [-1, 0, -1]  # 1 does not stay
    assert resolve_near(hashes, thumbnails, np.array([0, 2]), Near()).tolist() == [-1, -1, -1]
    assert resolve_near(hashes, thumbnails, np.arange(3), Near(thumbnail=9)).tolist() == [-1, 0, 0]
