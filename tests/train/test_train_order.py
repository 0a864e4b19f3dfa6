"""The order of samples: a bijection of every epoch, pure, and shuffled as well as chance would."""

import math
from bisect import bisect_right
from collections import Counter
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.data.dataset import step_positions
from train.data.order import BLOCK, Mixture, Order, WindowedOrder, mix, permute, proportional

GOLDEN_10 = [(0, 9), (0, 2), (0, 4), (0, 6), (0, 7), (0, 3), (0, 0), (0, 8), (0, 5), (0, 1), (1, 4), (1, 0)]
GOLDEN_300M = [184408645, 280260237, 269192208]
GOLDEN_WINDOWED = [(0, 1), (0, 0), (0, 2), (0, 3), (1, 2)]


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 200), key=st.integers(0, 2**64 - 1))
def test_permute_is_a_bijection(size: int, key: int) -> None:
    assert sorted(permute(place, size, key) for place in range(size)) == list(range(size))


@settings(deadline=None)
@given(size=st.integers(1, 10**12), key=st.integers(0, 2**64 - 1), data=st.data())
def test_permute_stays_inside_at_any_size(size: int, key: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, size - 1))
    assert 0 <= permute(place, size, key) < size


@settings(deadline=None)
@given(samples=st.integers(1, 50), seed=st.integers(0, 2**32), epoch=st.integers(0, 1000))
def test_every_epoch_visits_every_sample_once(samples: int, seed: int, epoch: int) -> None:
    order = Order(samples, seed)
    visits = [order(epoch * samples + place) for place in range(samples)]
    assert {visited for visited, _ in visits} == {epoch}
    assert sorted(index for _, index in visits) == list(range(samples))


def test_epochs_and_seeds_differ() -> None:
    first = [Order(100, 0)(p)[1] for p in range(100)]
    assert first != [Order(100, 0)(p)[1] for p in range(100, 200)]
    assert first != [Order(100, 1)(p)[1] for p in range(100)]


def test_the_order_is_frozen() -> None:
    """Golden values: a changed order would silently change every run and break every resume."""
    assert [Order(10, 0)(p) for p in range(12)] == GOLDEN_10
    assert [Order(300_000_000, 7)(p)[1] for p in (0, 1, 299_999_999)] == GOLDEN_300M


def test_places_are_uniform() -> None:
    """Chi-squared of where place 0 goes over many keys, and of neighbours' distance: both within 5 sigma
    of chance.
    """
    size, keys = 20, 4000
    landed = Counter(permute(0, size, mix(1, key)) for key in range(keys))
    distance = Counter(
        (permute(4, size, mix(2, k)) - permute(3, size, mix(2, k))) % size for k in range(keys)
    )
    assert distance.pop(0, 0) == 0
    for counts, cells in ((landed, size), (distance, size - 1)):
        expected = keys / cells
        chi2 = sum((counts[cell] - expected) ** 2 / expected for cell in range(size) if cell in counts)
        assert abs(chi2 - (cells - 1)) < 5 * math.sqrt(2 * (cells - 1))


def test_empty_data_and_places_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Order(0, 0)
    with pytest.raises(ValueError, match="place"):
        permute(5, 5, 0)


@settings(deadline=None)
@given(
    share=st.integers(1, 4), accumulate=st.integers(1, 3), world=st.integers(1, 4), start=st.integers(0, 20)
)
def test_a_step_covers_the_same_positions_in_the_same_order_at_any_world_size(
    share: int, accumulate: int, world: int, start: int
) -> None:
    batch = share * accumulate * world
    ranks = [list(step_positions(start, start + 3, batch, accumulate, rank, world)) for rank in range(world)]
    for step in range(3):
        micro = slice(step * accumulate, (step + 1) * accumulate)
        positions = [p for rank in ranks for part in rank[micro] for p in part]
        assert positions == list(range((start + step) * batch, (start + step + 1) * batch))


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        next(step_positions(0, 1, 6, 2, 0, 2))


@settings(deadline=None, max_examples=40)
@given(
    datasets=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_a_mixture_keeps_its_shares_and_each_datasets_own_order(
    datasets: list[tuple[int, int]], seed: int
) -> None:
    weights = tuple(weight for _, weight in datasets)
    orders = tuple(Order(size, seed + number) for number, (size, _) in enumerate(datasets))
    mixture, blocks = Mixture(orders, weights, seed), 7
    places = [mixture(position) for position in range(blocks * sum(weights))]
    for start in range(0, len(places), sum(weights)):
        block = Counter(place.dataset for place in places[start : start + sum(weights)])
        assert block == Counter(dict(enumerate(weights)))
    for number, weight in enumerate(weights):
        visits = sorted((place.epoch, place.sample) for place in places if place.dataset == number)
        assert visits == sorted(orders[number](place) for place in range(blocks * weight))


def test_a_mixture_of_one_is_its_order_and_nonsense_is_refused() -> None:
    order = Order(10, 3)
    assert [tuple(Mixture((order,), (1,), 9)(p)[1:]) for p in range(12)] == [order(p) for p in range(12)]
    for orders, weights in [((), ()), ((order,), (0,)), ((order,), (1, 2))]:
        with pytest.raises(ValueError, match="one positive weight"):
            Mixture(orders, weights, 0)


@settings(deadline=None)
@given(
    shards=st.lists(st.integers(0, 6), min_size=1, max_size=12).filter(any),
    window=st.integers(1, 14),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 50),
)
def test_a_windowed_epoch_visits_every_sample_once_and_few_shards_at_a_time(
    shards: list[int], window: int, seed: int, epoch: int
) -> None:
    order, ends = WindowedOrder(tuple(shards), window, seed), list(accumulate(shards))
    visits = [order(epoch * order.samples + place) for place in range(order.samples)]
    assert {visited for visited, _ in visits} == {epoch}
    assert sorted(index for _, index in visits) == list(range(sum(shards)))
    begun: set[int] = set()
    left = 0
    for _, index in visits:
        shard = bisect_right(ends, index)
        if shard not in begun:
            begun.add(shard)
            left += shards[shard]
        assert len(begun) <= window
        left -= 1
        begun = begun if left else set()  # all of them are done


def test_a_window_mixes_its_shards_and_epochs_differ() -> None:
    order = WindowedOrder((50,) * 8, 4, 3)
    first = [order(position)[1] // 50 for position in range(400)]
    assert set(first[:200]).isdisjoint(first[200:])
    changes = sum(one != other for one, other in pairwise(first))
    assert changes > 250  # chance: three of four neighbours
    assert first != [order(400 + position)[1] // 50 for position in range(400)]


def test_a_window_over_all_shards_is_as_uniform_as_chance() -> None:
    """Chi-squared of which sample comes first, over many seeds: within 5 sigma of chance."""
    shards, seeds = (3, 7, 1, 9), 1000
    for window in (1, 4):
        first = Counter(WindowedOrder(shards, window, seed)(0)[1] for seed in range(seeds))
        chance = [1 / 20] * 20 if window == 4 else [1 / 4 / size for size in shards for _ in range(size)]
        chi2 = sum((first[i] - seeds * p) ** 2 / (seeds * p) for i, p in enumerate(chance))
        assert abs(chi2 - 19) < 5 * math.sqrt(2 * 19)


def test_the_windowed_order_is_frozen() -> None:
    order = WindowedOrder((3, 1, 4), 2, 5)
    assert [order(p) for p in (0, 1, 2, 7, 8)] == GOLDEN_WINDOWED


def test_a_window_without_samples_or_shards_is_refused() -> None:
    for shards, window in (((0, 0), 1), ((3,), 0)):
        with pytest.raises(ValueError, match="at least one"):
            WindowedOrder(shards, window, 0)


@given(sizes=st.lists(st.integers(1, 10**9), min_size=1, max_size=6))
def test_default_weights_follow_the_sizes_in_short_blocks(sizes: list[int]) -> None:
    weights = proportional(sizes)
    assert min(weights) >= 1
    assert sum(weights) <= BLOCK + len(sizes)
    for size, weight in zip(sizes, weights, strict=True):
        assert weight / sum(weights) == pytest.approx(size / sum(sizes), abs=(1 + len(sizes)) / BLOCK)


def test_default_weights_of_small_sets_are_exact() -> None:
    assert proportional([600, 400]) == (3, 2)
    assert proportional([300_000_000]) == (1,)
    assert proportional([10_007, 3]) == (9997, 3)
