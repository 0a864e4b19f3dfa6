"""Whole-body stances of sampled people, by family."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from render.people.gestures import (
    FALLBACK,
    SITTING,
    STANDING,
    bracing,
    forearm_front,
    hanging,
    on_thigh,
    out_to_side,
    raised,
    reaching,
    sample_gesture,
    swinging,
)
from render.people.pose import Bent, Leg, Stance, Triple


def _head(rng: np.random.Generator) -> Triple:
    return (float(rng.normal(2, 7)), float(rng.normal(0, 5)), float(np.clip(rng.normal(0, 18), -50, 50)))


def _flat(hip: float, knee: float) -> float:
    """The ankle's dorsiflexion that keeps the sole level below a leg so bent."""
    return float(np.clip(knee - hip, -45, 33))


def _standing(rng: np.random.Generator) -> Stance:
    name, (left, right) = sample_gesture(rng, STANDING)
    out = rng.uniform(0.10, 0.19)
    stagger = rng.normal(0, 0.04)
    return Stance(
        name,
        left,
        right,
        Leg(out, stagger, yaw=rng.uniform(3, 18)),
        Leg(out, -stagger, yaw=rng.uniform(3, 18)),
        crouch=rng.uniform(0.004, 0.02),
        spine=(rng.normal(0, 3), rng.normal(0, 2), rng.normal(0, 5)),
        head=_head(rng),
    )


def _contrapposto(rng: np.random.Generator) -> Stance:
    """Weight on one leg: the pelvis tilts, the other knee relaxes, the shoulders tilt back."""
    name, (left, right) = sample_gesture(rng, STANDING)
    lean = float(rng.choice([-1.0, 1.0]))
    tilt = rng.uniform(3, 6)
    free = Leg(rng.uniform(0.16, 0.22), rng.uniform(0.06, 0.16), yaw=rng.uniform(15, 30))
    firm = Leg(rng.uniform(0.08, 0.11), -0.02, yaw=rng.uniform(4, 12))
    return Stance(
        name,
        left,
        right,
        firm if lean > 0 else free,
        free if lean > 0 else firm,
        crouch=0.012,
        pelvis=(0.0, -lean * tilt, lean * rng.uniform(0, 6)),
        spine=(rng.normal(0, 2), lean * tilt * 1.7, rng.normal(0, 5)),
        head=_head(rng),
        shift=lean * 0.045,
    )


def _leaning(rng: np.random.Generator) -> Stance:
    """Bent to one side above the bearing leg."""
    stance = _contrapposto(rng)
    side = float(np.sign(stance.shift))
    return replace(
        stance, name="leaning", spine=(rng.normal(3, 4), -side * rng.uniform(8, 20), rng.normal(0, 8))
    )


def _walking(rng: np.random.Generator) -> Stance:
    lead = float(rng.choice([-1.0, 1.0]))
    step = rng.uniform(0.16, 0.26)
    front = Leg(rng.uniform(0.07, 0.1), step, yaw=6.0)
    back = Leg(rng.uniform(0.07, 0.1), -step * 0.9, heel=rng.uniform(18, 34), yaw=6.0)
    swing = rng.uniform(12, 30)
    left, right = hanging(rng, -lead * swing), hanging(rng, lead * swing)
    if rng.random() < 0.2:  # something in one hand
        left, right = (forearm_front(rng), right) if rng.random() < 0.5 else (left, forearm_front(rng))
    return Stance(
        "walking",
        left,
        right,
        front if lead > 0 else back,
        back if lead > 0 else front,
        crouch=0.03,
        pelvis=(0.0, 0.0, -lead * rng.uniform(3, 8)),
        spine=(rng.uniform(1, 5), 0.0, lead * rng.uniform(6, 14)),
        head=(rng.normal(0, 5), 0.0, rng.normal(0, 14)),
    )


def _running(rng: np.random.Generator) -> Stance:
    """Mid-stance or push-off: one foot on the ground, the other leg swinging with a bent knee."""
    lead = float(rng.choice([-1.0, 1.0]))
    lean = rng.uniform(4, 12)
    hip, knee = rng.uniform(-18, 15), rng.uniform(12, 32)
    bearing = Bent((hip, 0.0, 4.0), knee, _flat(hip + lean, knee), rng.uniform(0, 20))
    drive = Bent((rng.uniform(25, 75), 2.0, 0.0), rng.uniform(65, 110), rng.uniform(-20, 10))
    trail = Bent((rng.uniform(-15, 15), 2.0, 0.0), rng.uniform(70, 110), rng.uniform(-35, -10))
    free = drive if rng.random() < 0.65 else trail
    swing = rng.uniform(25, 45)
    left, right = swinging(rng, -lead * swing), swinging(rng, lead * swing)
    return Stance(
        "running",
        left,
        right,
        free if lead > 0 else bearing,
        bearing if lead > 0 else free,
        pelvis=(lean, 0.0, -lead * rng.uniform(3, 8)),
        spine=(rng.uniform(2, 10), 0.0, lead * rng.uniform(8, 16)),
        head=(rng.normal(-8, 5), 0.0, rng.normal(0, 8)),
    )


def _jumping(rng: np.random.Generator) -> Stance:
    """Knees drawn up, arms flung out; the lowest point meets the ground all the same."""
    legs = []
    for _ in range(2):
        hip, knee = rng.uniform(20, 85), rng.uniform(60, 115)
        legs.append(Bent((hip, rng.uniform(2, 22), rng.uniform(0, 15)), knee, rng.uniform(-40, -10), -10.0))
    arm = raised if rng.random() < 0.7 else out_to_side
    return Stance(
        "jumping",
        arm(rng),
        arm(rng),
        legs[0],
        legs[1],
        pelvis=(rng.normal(5, 6), 0.0, 0.0),
        spine=(rng.normal(0, 6), rng.normal(0, 5), rng.normal(0, 6)),
        head=_head(rng),
    )


def _sitting(rng: np.random.Generator) -> Stance:
    """On a seat that nobody sees."""
    _, (left, right) = sample_gesture(rng, SITTING)
    slouch = rng.uniform(-8, 12)
    hip, wide = rng.uniform(76, 92), rng.uniform(2, 16)
    legs = []
    for _ in range(2):
        knee = hip + slouch + rng.uniform(-22, 12)
        legs.append(Bent((hip, wide, rng.uniform(-4, 6)), knee, _flat(hip - slouch, knee)))
    return Stance(
        "sitting",
        left,
        right,
        legs[0],
        legs[1],
        pelvis=(-slouch, 0.0, 0.0),
        spine=(slouch + rng.uniform(-4, 22), rng.normal(0, 3), rng.normal(0, 6)),
        head=_head(rng),
    )


def _on_the_ground(rng: np.random.Generator) -> Stance:
    """Sitting, legs ahead, one knee drawn up in half of the draws; hands behind or on the thighs."""
    tilt = rng.uniform(4, 16)
    straight = rng.uniform(4, 16)
    low = 88 - tilt + straight / 2
    leg = Bent((low, rng.uniform(4, 16), rng.uniform(0, 15)), straight, rng.uniform(-25, 0))
    drawn = rng.uniform(100, 125)
    up = Bent((rng.uniform(95, 112), 6.0, 2.0), drawn, float(np.clip(drawn - 120, -30, 5)))
    other = up if rng.random() < 0.5 else replace(leg, hip=(low, rng.uniform(4, 16), rng.uniform(0, 15)))
    back = rng.random() < 0.55
    swap = rng.random() < 0.5
    arm = bracing if back else on_thigh
    return Stance(
        "sitting_on_ground",
        arm(rng),
        arm(rng),
        other if swap else leg,
        leg if swap else other,
        pelvis=(-tilt, 0.0, 0.0),
        spine=(rng.uniform(-12, 0) if back else rng.uniform(15, 35), rng.normal(0, 3), rng.normal(0, 4)),
        head=_head(rng),
    )


def _cross_legged(rng: np.random.Generator) -> Stance:
    _, (left, right) = sample_gesture(rng, SITTING)
    spread = rng.uniform(42, 50)
    near = Bent((rng.uniform(108, 113), spread, rng.uniform(84, 92)), rng.uniform(132, 138), -20.0)
    far = Bent((rng.uniform(106, 111), spread, rng.uniform(84, 92)), rng.uniform(108, 116), -20.0)
    swap = rng.random() < 0.5
    return Stance(
        "cross_legged",
        left,
        right,
        near if swap else far,
        far if swap else near,
        pelvis=(rng.uniform(-6, 4), 0.0, 0.0),
        spine=(rng.uniform(4, 22), rng.normal(0, 3), rng.normal(0, 5)),
        head=_head(rng),
    )


def _squatting(rng: np.random.Generator) -> Stance:
    deep = rng.uniform(0.35, 0.62)
    heel = rng.uniform(0, 25) if deep > 0.5 else 0.0
    out, ahead = rng.uniform(0.18, 0.26), rng.uniform(0.14, 0.2)
    arm = (on_thigh, forearm_front, reaching)[int(rng.integers(3))]
    return Stance(
        "squatting",
        arm(rng),
        arm(rng),
        Leg(out, ahead, heel=heel, yaw=rng.uniform(15, 30)),
        Leg(out, ahead, heel=heel, yaw=rng.uniform(15, 30)),
        crouch=deep,
        pelvis=(rng.uniform(12, 28), 0.0, 0.0),
        spine=(rng.uniform(12, 30), 0.0, rng.normal(0, 5)),
        head=(rng.normal(-18, 6), 0.0, rng.normal(0, 14)),
    )


def _kneeling(rng: np.random.Generator) -> Stance:
    """On both knees, upright or sitting on the heels, or on one knee."""
    kind = int(rng.integers(3))
    _, (left, right) = sample_gesture(rng, SITTING)
    hip = rng.uniform(48, 56) if kind == 1 else rng.uniform(0, 8)
    rear = Bent((hip, rng.uniform(3, 10), rng.uniform(-4, 4)), 92.0 + hip, -45.0, -20.0)
    front_hip = rng.uniform(84, 90)
    front = Bent((front_hip, 5.0, 2.0), front_hip + rng.uniform(-6, 6), 0.0)
    swap = rng.random() < 0.5
    legs = (rear, front if kind == 2 else rear)
    return Stance(
        "kneeling",
        left,
        right,
        legs[1] if swap else legs[0],
        legs[0] if swap else legs[1],
        spine=(rng.uniform(0, 14), rng.normal(0, 3), rng.normal(0, 5)),
        head=_head(rng),
    )


def _lunging(rng: np.random.Generator) -> Stance:
    lead = rng.random() < 0.5
    step, deep = rng.uniform(0.32, 0.45), rng.uniform(0.16, 0.30)
    front = Leg(rng.uniform(0.09, 0.14), step, yaw=5.0)
    back = Leg(rng.uniform(0.09, 0.14), -step, heel=rng.uniform(40, 60), yaw=4.0)
    _, (left, right) = sample_gesture(rng, STANDING)
    return Stance(
        "lunging",
        left,
        right,
        front if lead else back,
        back if lead else front,
        crouch=deep,
        pelvis=(rng.uniform(0, 8), 0.0, 0.0),
        spine=(rng.uniform(0, 12), rng.normal(0, 4), rng.normal(0, 10)),
        head=_head(rng),
    )


def _bending(rng: np.random.Generator) -> Stance:
    """Bent forwards at hips and back, the hips behind the feet, hands on the thighs or reaching down."""
    hips = rng.uniform(18, 42)
    ahead = 0.05 + 0.0035 * hips
    out = rng.uniform(0.11, 0.17)
    rests = rng.random() < 0.55
    down = replace(hanging(rng, rng.uniform(30, 60)), flexion=rng.uniform(5, 30))
    left = on_thigh(rng) if rests else down
    right = on_thigh(rng) if rests or rng.random() < 0.4 else replace(down, wrist=rng.uniform(0, 15))
    return Stance(
        "bending",
        left,
        right,
        Leg(out, ahead, yaw=rng.uniform(4, 14)),
        Leg(out, ahead, yaw=rng.uniform(4, 14)),
        crouch=rng.uniform(0.04, 0.12),
        pelvis=(hips, 0.0, 0.0),
        spine=(rng.uniform(12, 38), rng.normal(0, 3), rng.normal(0, 6)),
        head=(rng.normal(-12, 10), 0.0, rng.normal(0, 12)),
    )


def _reaching(rng: np.random.Generator) -> Stance:
    """On the toes or flat, one arm or both towards something ahead or above."""
    one, other = reaching(rng), reaching(rng) if rng.random() < 0.4 else hanging(rng)
    swap, heel = rng.random() < 0.5, max(0.0, rng.uniform(-20, 22))
    out = rng.uniform(0.09, 0.15)
    return Stance(
        "reaching",
        other if swap else one,
        one if swap else other,
        Leg(out, rng.normal(0, 0.04), heel=heel),
        Leg(out, rng.normal(0, 0.04), heel=heel),
        crouch=0.01,
        spine=(rng.normal(0, 5), rng.normal(0, 4), rng.normal(0, 7)),
        head=(rng.normal(-6, 8), rng.normal(0, 4), rng.normal(0, 12)),
    )


def _dancing(rng: np.random.Generator) -> Stance:
    """Bent knees, hips to one side, chest to the other, any arms."""
    arms = (raised, out_to_side, forearm_front, reaching)
    side = float(rng.choice([-1.0, 1.0]))
    legs = [
        Leg(rng.uniform(0.12, 0.26), rng.normal(0, 0.1), heel=heel, yaw=rng.uniform(5, 28))
        for heel in (0.0, max(0.0, rng.uniform(-10, 35)))
    ]
    firm = 0 if side > 0 else 1
    tilt = rng.uniform(2, 8)
    return Stance(
        "dancing",
        arms[int(rng.integers(4))](rng),
        arms[int(rng.integers(4))](rng),
        legs[firm],
        legs[1 - firm],
        crouch=rng.uniform(0.03, 0.12),
        pelvis=(rng.normal(3, 3), -side * tilt, rng.normal(0, 10)),
        spine=(rng.normal(2, 6), side * rng.uniform(4, 16), rng.normal(0, 14)),
        head=_head(rng),
        shift=side * rng.uniform(0.0, 0.06),
    )


FAMILIES: dict[str, tuple[float, Callable[[np.random.Generator], Stance]]] = {
    "standing": (0.22, _standing),
    "contrapposto": (0.21, _contrapposto),
    "walking": (0.17, _walking),
    "running": (0.05, _running),
    "sitting": (0.10, _sitting),
    "sitting_on_ground": (0.03, _on_the_ground),
    "cross_legged": (0.02, _cross_legged),
    "squatting": (0.025, _squatting),
    "kneeling": (0.03, _kneeling),
    "lunging": (0.025, _lunging),
    "jumping": (0.02, _jumping),
    "bending": (0.03, _bending),
    "reaching": (0.03, _reaching),
    "dancing": (0.03, _dancing),
    "leaning": (0.01, _leaning),
}
"""Family -> (probability, sampler): 60 % stand or walk, as in most photographs of people."""

DYNAMIC = {"running": 0.35, "jumping": 0.8, "walking": 0.06, "dancing": 0.06}
"""Stances caught in motion -> how far their centre of mass may be outside the support, as a share of body
height.
"""

FALLBACK_STANCE = Stance("relaxed", FALLBACK, FALLBACK, Leg(0.13, 0.0), Leg(0.13, 0.0))
"""A quiet stance with the arms well away from the body."""


def sample_stance(rng: np.random.Generator) -> Stance:
    """A stance of a family of `FAMILIES`; those that stand are named by their arms' gesture."""
    names = list(FAMILIES)
    name = names[int(rng.choice(len(names), p=[FAMILIES[n][0] for n in names]))]
    return FAMILIES[name][1](rng)
