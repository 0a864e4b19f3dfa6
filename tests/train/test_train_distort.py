"""What is done to the picture alone: each distortion when it is asked for, none when not."""

import numpy as np
import pytest

from train.data.distort import DistortConfig, blur, distort, punch_hole, swap_channels
from train.data.view import PADDING

NONE = DistortConfig(photometric_probability=0)
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 40, 3)).astype(np.uint8)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_nothing_asked_nothing_done() -> None:
    assert distort(IMAGE, NONE, _rng()) is IMAGE


def test_a_hole_has_its_size_and_lies_inside() -> None:
    for seed in range(50):
        config = NONE.model_copy(update={"hole": 1.0, "hole_size": (0.2, 0.4)})
        changed = punch_hole(IMAGE, config, _rng(seed))
        rows, columns = np.nonzero((changed != IMAGE).any(-1))
        assert 12 <= np.ptp(rows) + 1 <= 24 and 8 <= np.ptp(columns) + 1 <= 16
        hole = changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (hole == PADDING).all()
    assert (IMAGE != PADDING).any(-1).all()  # the picture of the other tests is not written to


def test_channels_trade_places() -> None:
    config = NONE.model_copy(update={"channel_swap": 1.0})
    orders = {tuple(swap_channels(IMAGE, config, _rng(seed))[0, 0]) for seed in range(40)}
    assert len(orders) == 6 and {tuple(sorted(order)) for order in orders} == {tuple(sorted(IMAGE[0, 0]))}


@pytest.mark.parametrize("kind", ["blur", "median_blur"])
def test_blurs_smooth(kind: str) -> None:
    changed = blur(IMAGE, NONE.model_copy(update={kind: 1.0}), _rng())
    assert changed.astype(float).std() < 0.6 * IMAGE.astype(float).std()


def test_one_setting_does_not_change_what_another_one_draws() -> None:
    hole = NONE.model_copy(update={"hole": 1.0})
    both = hole.model_copy(update={"channel_swap": 1.0, "blur": 1.0})
    where = [(distort(IMAGE, config, _rng(3)) == PADDING).all(-1) for config in (hole, both)]
    assert where[0].any() and np.array_equal(where[0], where[1])


def test_probabilities_are_met() -> None:
    config = NONE.model_copy(update={"hole": 0.3})
    share = np.mean([punch_hole(IMAGE, config, _rng(seed)) is not IMAGE for seed in range(600)])
    assert share == pytest.approx(0.3, abs=0.06)
