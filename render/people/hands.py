"""What fingers do: hand shapes as joint angles, drawn with a little variation per finger."""

from dataclasses import dataclass

import numpy as np

from render.people.limits import LIMITS, Joint, Matrix, turn_of

Bends = tuple[float, float, float]  # knuckle, middle and end joint, degrees


@dataclass(frozen=True)
class Hand:
    """Angles from a flat hand, degrees. fingers: index to little. spread: between the outer fingers and the
    middle of the hand. thumb: flexion of its three joints across the palm. thumb_out: away from the palm.
    """

    fingers: tuple[Bends, Bends, Bends, Bends]
    spread: float = -1.0
    thumb: Bends = (6.0, 14.0, 12.0)
    thumb_out: float = 0.0


_FIST = (82.0, 95.0, 60.0)
HANDS: dict[str, Hand] = {
    "relaxed": Hand(((18.0, 24.0, 12.0), (24.0, 30.0, 15.0), (28.0, 33.0, 16.0), (31.0, 34.0, 17.0))),
    "flat": Hand(((4.0, 5.0, 3.0),) * 4, -5.0, (-4.0, 4.0, 4.0)),
    "spread": Hand(
        ((-4.0, 6.0, 3.0), (-2.0, 5.0, 3.0), (-2.0, 6.0, 3.0), (-2.0, 8.0, 4.0)),
        16.0,
        (-16.0, -6.0, 0.0),
        15.0,
    ),
    "fist": Hand((_FIST,) * 4, 0.0, (28.0, 38.0, 45.0), -8.0),
    "point": Hand(((6.0, 6.0, 4.0), (76.0, 90.0, 50.0), _FIST, _FIST), 0.0, (26.0, 36.0, 40.0), -8.0),
    "peace": Hand(
        ((2.0, 5.0, 3.0), (2.0, 5.0, 3.0), (78.0, 92.0, 55.0), _FIST), 15.0, (30.0, 40.0, 45.0), -6.0
    ),
    "thumbs_up": Hand((_FIST,) * 4, 0.0, (-18.0, -8.0, -6.0)),
    "grip": Hand(
        ((38.0, 48.0, 25.0), (42.0, 52.0, 28.0), (46.0, 54.0, 30.0), (48.0, 52.0, 30.0)),
        2.0,
        (16.0, 18.0, 18.0),
        20.0,
    ),
}
"""Hand shapes by name. The thumb lies over the fist's fingers, beside a flat hand."""


def sample_hand(rng: np.random.Generator, name: str) -> Hand:
    """The hand shape `name` with every angle varied: the whole hand by 10 %, each joint by 3 degrees."""
    shape, tight = HANDS[name], rng.normal(1.0, 0.10)

    def vary(bends: Bends) -> Bends:
        one, two, three = (float(b * tight + rng.normal(0, 3)) for b in bends)
        return (one, two, three)

    index, middle, ring, little = (vary(bends) for bends in shape.fingers)
    spread = float(shape.spread + rng.normal(0, 1.5))
    return Hand((index, middle, ring, little), spread, vary(shape.thumb), shape.thumb_out)


def hand_turns(hand: Hand, side: str, joints: dict[str, Joint]) -> dict[str, Matrix]:
    """Rotations of the finger joints of one side, within limits."""
    turns = {}
    for finger, bends, away in zip((2, 3, 4, 5), hand.fingers, (1.0, 0.3, -0.35, -1.0), strict=True):
        for i, bend in enumerate(bends, start=1):
            name = f"finger{finger}-{i}.{side}"
            turns[name] = _within(bend, hand.spread * away if i == 1 else 0.0, joints[name])
    for i, bend in enumerate(hand.thumb, start=1):
        name = f"finger1-{i}.{side}"
        turns[name] = _within(bend, hand.thumb_out if i == 1 else 0.0, joints[name])
    return turns


def _within(flexion: float, sideways: float, joint: Joint) -> Matrix:
    low, high = np.array(LIMITS[joint.kind]).T
    return turn_of(np.clip(np.array([flexion, sideways, 0.0]), low, high), joint)
