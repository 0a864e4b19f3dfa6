"""Sampled people: ages, statures and build follow the distributions that are documented."""

from functools import cache

import numpy as np
import pytest

from render.people.body import PHENOTYPES, body_model
from render.people.phenotype import (
    ADULT_DEVIATION,
    ADULT_MEAN,
    AGE_YEARS,
    SHORTEST,
    TALLEST,
    mean_stature,
    sample_phenotype,
    solve_height,
    stature_of,
)

COUNT = 400


@cache
def drawn() -> tuple[dict[str, float], ...]:
    rng = np.random.default_rng(3)
    return tuple(sample_phenotype(rng) for _ in range(COUNT))


def years(phenotype: dict[str, float]) -> float:
    return float(np.interp(phenotype["age"], *AGE_YEARS))


def statures(sex: str) -> np.ndarray:
    grown = [p for p in drawn() if 20 < years(p) < 45 and (p["gender"] > 0.5) == (sex == "female")]
    return np.array([stature_of(p, body_model()) for p in grown])


@pytest.mark.parametrize("sex", ["female", "male"])
def test_adult_statures_have_the_stated_mean_and_deviation(sex: str) -> None:
    found = statures(sex)
    error = ADULT_DEVIATION / np.sqrt(len(found))
    assert found.mean() == pytest.approx(ADULT_MEAN[sex], abs=3 * error)
    assert found.std() == pytest.approx(ADULT_DEVIATION, rel=0.25)


def test_statures_and_parameters_are_within_bounds() -> None:
    found = np.array([stature_of(p, body_model()) for p in drawn()])
    assert found.min() >= SHORTEST - 2e-3 and found.max() <= TALLEST + 2e-3
    assert {frozenset(p) for p in drawn()} == {frozenset(PHENOTYPES)}
    assert all(0.0 <= value <= 1.0 for p in drawn() for value in p.values())


def test_ages_are_shared_out_as_stated() -> None:
    ages = np.array([years(p) for p in drawn()])
    assert ages.min() >= 3 - 1e-3 and ages.max() <= 90
    assert (ages < 15).mean() == pytest.approx(0.14, abs=0.05)
    assert (ages >= 65).mean() == pytest.approx(0.10, abs=0.05)


def test_children_have_no_breasts() -> None:
    assert all(p["cupsize"] == 0.0 for p in drawn() if years(p) < 10.9 or p["gender"] < 0.5)


def test_solved_heights_are_met_at_any_age_and_build() -> None:
    model = body_model()
    for age, gender, stature in ((0.1, 0.0, 1.0), (0.5, 1.0, 1.5), (0.7, 0.1, 2.0), (0.97, 0.95, 1.5)):
        body = {"age": age, "gender": gender, "weight": 0.8, "african": 0.2}
        solved = solve_height(body, stature, model)
        assert 0.0 < solved < 1.0
        assert stature_of({**body, "height": solved}, model) == pytest.approx(stature, abs=2e-3)


def test_children_grow_and_elders_shrink() -> None:
    for sex in ("female", "male"):
        assert np.all(np.diff([mean_stature(sex, y) for y in (3.0, 6.0, 9.0, 12.0, 15.0, 19.0)]) > 0.01)
        assert mean_stature(sex, 85.0) < mean_stature(sex, 40.0) - 0.03
