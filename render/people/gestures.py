"""What arms do: samplers of one arm or of both, by name."""

from collections.abc import Callable

import numpy as np

from render.people.hands import HANDS, Hand, sample_hand
from render.people.pose import Arm, Reach

Limb = Arm | Reach
Pair = tuple[Limb, Limb]
One = Callable[[np.random.Generator], Limb]


def hanging(rng: np.random.Generator, swing: float = 0.0) -> Arm:
    """A relaxed arm; swing > 0 brings it forward, degrees."""
    out = np.radians(rng.uniform(7, 15))
    forward = np.radians(swing + rng.uniform(-6, 4))
    upper = (float(np.sin(out)), float(-np.sin(forward) * np.cos(out)), float(-np.cos(forward) * np.cos(out)))
    return Arm(
        upper,
        (-0.25, -1.0, 0.0),
        rng.uniform(10, 26) + max(swing, 0) * 0.5,
        rng.uniform(-15, 15),
        rng.uniform(0, 12),
        hand=sample_hand(rng, "relaxed" if rng.random() < 0.9 else "fist"),
    )


def on_hip(rng: np.random.Generator) -> Reach:
    return Reach(
        (0.14, rng.uniform(-0.02, 0.01), rng.uniform(0.10, 0.14)),
        rng.uniform(0.014, 0.024),
        (0.0, -0.85, -0.55),
        (-1.0, 0.1, 0.0),
        (1.0, 0.8, 0.2),
        sample_hand(rng, "relaxed"),
        along=0.8,
    )


def raised(rng: np.random.Generator) -> Arm:
    up = np.radians(rng.uniform(20, 65))
    return Arm(
        (float(np.cos(up)), rng.uniform(-0.35, -0.05), float(np.sin(up))),
        (-0.45, -0.35, 0.9),
        rng.uniform(15, 75),
        rng.uniform(-20, 40),
        rng.uniform(-15, 10),
        shrug=rng.uniform(14, 24),
        hand=_any_hand(rng, ("relaxed", "flat", "spread", "fist")),
    )


def forearm_front(rng: np.random.Generator) -> Arm:
    """The forearm held in front, as with a phone or a cup."""
    return Arm(
        (rng.uniform(0.15, 0.4), rng.uniform(-0.5, -0.1), -0.9),
        (rng.uniform(-0.5, 0.1), -0.8, 0.6),
        rng.uniform(70, 110),
        rng.uniform(10, 70),
        rng.uniform(-15, 15),
        hand=_any_hand(rng, ("grip", "grip", "relaxed", "flat")),
    )


def out_to_side(rng: np.random.Generator) -> Arm:
    """The arm held away, gesturing."""
    return Arm(
        (0.8, rng.uniform(-0.5, 0.1), -0.55),
        (0.3, -0.8, 0.5),
        rng.uniform(30, 80),
        rng.uniform(20, 90),
        rng.uniform(-20, 10),
        shrug=4.0,
        hand=_any_hand(rng, ("relaxed", "flat", "spread")),
    )


def waving(rng: np.random.Generator) -> Arm:
    """The hand beside the head, its palm ahead."""
    return Arm(
        (0.9, rng.uniform(-0.35, -0.1), rng.uniform(-0.35, 0.15)),
        (rng.uniform(-0.15, 0.25), rng.uniform(-0.25, -0.05), 1.0),
        rng.uniform(75, 110),
        rng.uniform(-50, -20),
        rng.uniform(-20, 0),
        shrug=rng.uniform(4, 12),
        hand=_any_hand(rng, ("spread", "flat", "peace")),
    )


def pointing(rng: np.random.Generator) -> Arm:
    side = rng.uniform(0.0, 0.9)
    return Arm(
        (side, float(-np.sqrt(1.0 - 0.9 * side * side)), rng.uniform(-0.3, 0.35)),
        (-0.5, -0.6, 0.4),
        rng.uniform(4, 35),
        rng.uniform(-20, 30),
        rng.uniform(-8, 8),
        shrug=rng.uniform(2, 10),
        hand=sample_hand(rng, "point"),
    )


def thumb_up(rng: np.random.Generator) -> Arm:
    return Arm(
        (rng.uniform(0.25, 0.5), rng.uniform(-0.5, -0.2), -0.85),
        (rng.uniform(-0.2, 0.2), -0.9, 0.5),
        rng.uniform(65, 100),
        rng.uniform(20, 40),
        rng.uniform(-10, 5),
        hand=sample_hand(rng, "thumbs_up"),
    )


def reaching(rng: np.random.Generator) -> Arm:
    """Towards a shelf or a hand: ahead to high up."""
    up = np.radians(rng.uniform(-10, 70))
    return Arm(
        (rng.uniform(0.1, 0.45), float(-np.cos(up)), float(np.sin(up))),
        (-0.3, -0.6, 0.7),
        rng.uniform(5, 40),
        rng.uniform(-10, 30),
        rng.uniform(-30, 5),
        shrug=rng.uniform(6, 18),
        hand=_any_hand(rng, ("grip", "flat", "spread", "relaxed")),
    )


def bracing(rng: np.random.Generator) -> Arm:
    """The hand on the ground behind a sitting person."""
    return Arm(
        (rng.uniform(0.3, 0.5), rng.uniform(0.45, 0.7), -0.75),
        (-0.2, -1.0, 0.0),
        rng.uniform(5, 14),
        rng.uniform(20, 60),
        rng.uniform(-68, -50),
        hand=sample_hand(rng, "flat"),
    )


def swinging(rng: np.random.Generator, swing: float) -> Arm:
    """A runner's arm: swing > 0 in front, degrees."""
    forward, out = np.radians(swing), np.radians(rng.uniform(8, 16))
    return Arm(
        (float(np.sin(out)), float(-np.sin(forward)), float(-np.cos(forward))),
        (-0.3 if swing > 0 else 0.0, -1.0, 0.3),
        rng.uniform(80, 105),
        rng.uniform(0, 30),
        rng.uniform(0, 10),
        hand=_any_hand(rng, ("fist", "relaxed", "flat")),
    )


def on_chin(rng: np.random.Generator) -> Reach:
    return Reach(
        (0.0, -0.138, 0.617),
        rng.uniform(0.055, 0.065),
        (-0.95, 0.15, 0.2),
        (0.1, 0.6, 0.8),
        (0.5, -0.4, -0.9),
        sample_hand(rng, "relaxed" if rng.random() < 0.6 else "fist"),
        along=0.95,
    )


def on_cheek(rng: np.random.Generator) -> Reach:
    return Reach(
        (0.066, -0.085, 0.66),
        rng.uniform(0.045, 0.055),
        (rng.uniform(-0.2, 0.1), rng.uniform(0.0, 0.4), 1.0),
        (-0.95, 0.45, 0.1),
        (0.6, -0.3, -0.8),
        sample_hand(rng, "flat" if rng.random() < 0.5 else "relaxed"),
        along=0.8,
    )


def phone_at_ear(rng: np.random.Generator) -> Reach:
    return Reach(
        (0.081, -0.037, 0.706),
        rng.uniform(0.03, 0.04),
        (-0.15, rng.uniform(-0.1, 0.3), 1.0),
        (-1.0, 0.2, 0.1),
        (0.35, -0.4, -1.0),
        sample_hand(rng, "grip"),
        along=0.7,
    )


def on_thigh(rng: np.random.Generator) -> Reach:
    """The palm on the front of the thigh or the knee."""
    t = float(rng.uniform(0.2, 1.0))
    return Reach(
        (0.11 + 0.035 * t, -0.108 + 0.02 * t, -0.10 - 0.25 * t),
        rng.uniform(0.018, 0.028),
        (rng.uniform(-0.5, 0.0), 0.0, -1.0),
        (0.0, 1.0, 0.0),
        (0.6, 0.5, -0.5),
        sample_hand(rng, "relaxed" if rng.random() < 0.6 else "flat"),
        along=0.85,
    )


def crossed(rng: np.random.Generator) -> Pair:
    """Arms crossed before the chest, either on top."""
    low = rng.uniform(-0.01, 0.015)
    under = Reach(
        (-0.065, -0.1, 0.425 + low),
        rng.uniform(0.06, 0.07),
        (-0.9, 0.25, 0.5),
        (0.0, 1.0, 0.1),
        (1.05, 0.15, -0.7),
        sample_hand(rng, "relaxed"),
        along=0.42,
    )
    over = Reach(
        (-0.105, -0.1, 0.33 + low),
        rng.uniform(0.145, 0.16),
        (-0.9, 0.25, 0.05),
        (0.0, 1.0, 0.1),
        (0.9, -0.36, -0.7),
        sample_hand(rng, "relaxed"),
        along=0.42,
    )
    return _either(rng, under, over)


def behind_back(rng: np.random.Generator) -> Pair:
    """One hand holding the other behind the back."""
    low = rng.uniform(-0.02, 0.03)

    def arm(gap: float, drop: float) -> Reach:
        return Reach(
            (0.01, 0.075, 0.12 + low - drop),
            gap,
            (-0.8, 0.1, -0.6),
            (0.0, 1.0, 0.0),
            (1.0, 0.7, 0.0),
            sample_hand(rng, "relaxed"),
            shrug=-3.0,
        )

    return _either(rng, arm(-0.05, 0.0), arm(-0.125, 0.045))


def clasped(rng: np.random.Generator) -> Pair:
    """One hand over the other before the belly."""
    low = rng.uniform(-0.02, 0.08)

    def arm(gap: float, drop: float) -> Reach:
        return Reach(
            (0.012, -0.14, 0.07 + low - drop),
            gap,
            (-0.75, -0.1, -0.55),
            (-0.15, 1.0, 0.0),
            (1.0, 0.3, 0.0),
            sample_hand(rng, "relaxed"),
        )

    return _either(rng, arm(0.06, 0.0), arm(0.10, 0.015))


def _either(rng: np.random.Generator, one: Reach, other: Reach) -> Pair:
    return (one, other) if rng.random() < 0.5 else (other, one)


def _any_hand(rng: np.random.Generator, names: tuple[str, ...]) -> Hand:
    return sample_hand(rng, names[int(rng.integers(len(names)))])


def _both(one: One) -> Callable[[np.random.Generator], Pair]:
    return lambda rng: (one(rng), one(rng))


def _one_hanging(one: One) -> Callable[[np.random.Generator], Pair]:
    """`one` on either side, the other arm hanging."""
    return lambda rng: (one(rng), hanging(rng)) if rng.random() < 0.5 else (hanging(rng), one(rng))


def _some(one: One) -> Callable[[np.random.Generator], Pair]:
    """`one` on both sides in a third of the draws, else on one."""
    return lambda rng: _both(one)(rng) if rng.random() < 1 / 3 else _one_hanging(one)(rng)


STANDING: dict[str, tuple[float, Callable[[np.random.Generator], Pair]]] = {
    "relaxed": (0.26, _both(hanging)),
    "hands_on_hips": (0.09, _some(on_hip)),
    "arms_raised": (0.06, _some(raised)),
    "forearm_front": (0.13, _some(forearm_front)),
    "gesturing": (0.11, _some(out_to_side)),
    "arms_crossed": (0.07, crossed),
    "hands_behind": (0.05, behind_back),
    "hands_clasped": (0.05, clasped),
    "hand_on_chin": (0.03, _one_hanging(on_chin)),
    "hand_on_face": (0.03, _one_hanging(on_cheek)),
    "phone": (0.04, _one_hanging(phone_at_ear)),
    "waving": (0.04, _one_hanging(waving)),
    "pointing": (0.02, _one_hanging(pointing)),
    "thumbs_up": (0.02, _some(thumb_up)),
}
"""Arm gestures of standing people: name -> (probability, sampler of both arms)."""

SITTING: dict[str, tuple[float, Callable[[np.random.Generator], Pair]]] = {
    "hands_on_thighs": (0.44, _both(on_thigh)),
    "one_hand": (0.14, lambda rng: (on_thigh(rng), forearm_front(rng))),
    "phone": (0.08, lambda rng: (on_thigh(rng), phone_at_ear(rng))),
    "chin": (0.08, lambda rng: (on_chin(rng), on_thigh(rng))),
    "gesturing": (0.12, lambda rng: (out_to_side(rng), on_thigh(rng))),
    "arms_crossed": (0.07, crossed),
    "waving": (0.07, lambda rng: (on_thigh(rng), waving(rng))),
}
"""Arm gestures of sitting people."""


def sample_gesture(
    rng: np.random.Generator, table: dict[str, tuple[float, Callable[[np.random.Generator], Pair]]]
) -> tuple[str, Pair]:
    """Name and arms of a gesture of `table`."""
    names = list(table)
    name = names[int(rng.choice(len(names), p=[table[n][0] for n in names]))]
    return name, table[name][1](rng)


FALLBACK = Arm((0.34, -0.05, -0.94), (-0.1, -1.0, 0.0), 14.0, hand=HANDS["relaxed"])
"""An arm well away from any body: half way between hanging and the rest pose."""
