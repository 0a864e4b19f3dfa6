"""What a sampled person's face does: facial actions by expression, blinks, and where the eyes look."""

import numpy as np

from render.people.body import body_model
from render.people.spec import rounded

EXPRESSIONS: dict[str, tuple[float, dict[str, float]]] = {
    "neutral": (0.22, {}),
    "smile": (0.16, {"mouthSmile": 0.7, "mouthDimple": 0.2, "cheekSquint": 0.4, "eyeSquint": 0.25}),
    "open_smile": (
        0.12,
        {
            "mouthSmile": 0.75,
            "mouthUpperUp": 0.35,
            "mouthLowerDown": 0.2,
            "jawOpen": 0.1,
            "cheekSquint": 0.5,
            "eyeSquint": 0.3,
        },
    ),
    "laugh": (
        0.06,
        {
            "mouthSmile": 0.8,
            "mouthUpperUp": 0.35,
            "mouthLowerDown": 0.35,
            "jawOpen": 0.38,
            "cheekSquint": 0.7,
            "eyeSquint": 0.5,
        },
    ),
    "say_a": (0.03, {"jawOpen": 0.35, "mouthLowerDown": 0.2}),
    "say_e": (0.03, {"jawOpen": 0.14, "mouthStretch": 0.35, "mouthLowerDown": 0.4, "mouthUpperUp": 0.2}),
    "say_o": (0.03, {"jawOpen": 0.28, "mouthFunnel": 0.45}),
    "say_u": (0.02, {"jawOpen": 0.1, "mouthPucker": 0.55}),
    "say_m": (0.02, {"mouthPress": 0.4, "mouthRollLower": 0.25}),
    "say_th": (0.02, {"jawOpen": 0.16, "tongueOut": 0.3, "mouthLowerDown": 0.2}),
    "frown": (0.03, {"browDown": 0.6, "mouthFrown": 0.5}),
    "sad": (0.02, {"browInnerUp": 0.7, "mouthFrown": 0.6, "mouthShrugLower": 0.4, "eyeSquint": 0.2}),
    "angry": (0.02, {"browDown": 0.8, "eyeSquint": 0.35, "noseSneer": 0.35, "mouthPress": 0.4}),
    "bared_teeth": (
        0.02,
        {"browDown": 0.7, "noseSneer": 0.6, "mouthUpperUp": 0.5, "mouthLowerDown": 0.6, "jawOpen": 0.1},
    ),
    "shouting": (
        0.02,
        {"browDown": 0.5, "noseSneer": 0.3, "jawOpen": 0.65, "mouthLowerDown": 0.4, "mouthUpperUp": 0.2},
    ),
    "disgusted": (
        0.02,
        {"noseSneer": 0.8, "mouthUpperUp": 0.4, "browDown": 0.4, "eyeSquint": 0.4, "mouthFrown": 0.4},
    ),
    "surprised": (0.03, {"browInnerUp": 0.8, "browOuterUp": 0.7, "eyeWide": 0.6, "jawOpen": 0.38}),
    "afraid": (
        0.01,
        {"browInnerUp": 0.9, "browOuterUp": 0.3, "eyeWide": 0.8, "mouthStretch": 0.6, "jawOpen": 0.16},
    ),
    "kiss": (0.02, {"mouthPucker": 0.8}),
    "smirk": (0.02, {"mouthSmileSide": 0.65, "mouthDimpleSide": 0.4, "cheekSquintSide": 0.3}),
    "wink": (0.01, {"eyeBlinkSide": 1.0, "cheekSquintSide": 0.6, "mouthSmile": 0.4, "mouthSmileSide": 0.7}),
    "eyes_closed": (0.03, {"eyeBlink": 1.0}),
    "tongue_out": (0.02, {"tongueOut": 0.85, "jawOpen": 0.22, "mouthLowerDown": 0.25}),
    "puffed": (0.01, {"cheekPuff": 0.4, "mouthPress": 0.3}),
    "jaw_aside": (0.01, {"jawSide": 0.7, "mouthSide": 0.35}),
}
"""Name -> (probability, mean strength of facial actions). Actions without a side act on both; `...Side` acts
on one, left or right as often.
"""

UPPER = ("brow", "eyeWide", "eyeSquint", "noseSneer")
"""Beginnings of the actions of the upper face, which mix with any mouth."""

OPENING = (
    "jawOpen",
    "mouthUpperUp",
    "mouthLowerDown",
    "mouthFunnel",
    "mouthStretch",
    "tongueOut",
    "mouthPucker",
)
"""Beginnings of the actions that part the lips; without any the lips, which the base mesh leaves a little
open, are closed.
"""
MIXED = 0.2  # share of faces whose upper half follows a second expression at half strength
BLINK = 0.05  # share of faces caught in a blink
GAZE_YAW, GAZE_PITCH = (-28.0, 28.0), (-22.0, 16.0)  # degrees; beyond, the head would turn


def sample_expression(rng: np.random.Generator) -> dict[str, float]:
    """Facial actions (ARKit names, 0..1). Strengths vary by 20 % together and 8 % each, sides differ."""
    face = _expressed(rng, _sample_name(rng))
    if rng.random() < MIXED:
        other = _expressed(rng, _sample_name(rng))
        for action, value in other.items():
            if action.startswith(UPPER):
                face[action] = max(face.get(action, 0.0), 0.5 * value)
    open_lids = float(min(abs(rng.normal(0.0, 0.09)), 0.35))
    blink = float(rng.uniform(0.5, 1.0)) if rng.random() < BLINK else open_lids
    for side in ("Left", "Right"):
        face[f"eyeBlink{side}"] = max(face.get(f"eyeBlink{side}", 0.0), blink)
        face[f"browOuterUp{side}"] = max(face.get(f"browOuterUp{side}", 0.0), float(rng.uniform(0, 0.15)))
    return {action: rounded(value) for action, value in sorted(face.items())}


def sample_gaze(rng: np.random.Generator) -> tuple[float, float]:
    """(yaw, pitch) of the eyes relative to the head, degrees, positive to the person's left and upwards."""
    yaw = float(np.clip(rng.normal(0, 10), *GAZE_YAW))
    pitch = float(np.clip(rng.normal(-2, 6), *GAZE_PITCH))
    return rounded(yaw), rounded(pitch)


def follow_gaze(face: dict[str, float], yaw: float, pitch: float) -> dict[str, float]:
    """`face` with lids and skin around the eyes following a gaze: half closed when looking down, lifted when
    looking up.
    """
    down, up = max(0.0, -pitch) / 30.0, max(0.0, pitch) / 30.0
    left, right = max(0.0, yaw) / 40.0, max(0.0, -yaw) / 40.0
    moved = {
        "eyeLookDownLeft": down,
        "eyeLookDownRight": down,
        "eyeLookUpLeft": up,
        "eyeLookUpRight": up,
        "eyeLookOutLeft": left,
        "eyeLookInRight": left,
        "eyeLookInLeft": right,
        "eyeLookOutRight": right,
    }
    return face | {action: rounded(min(value, 1.0)) for action, value in moved.items() if value > 0}


def _sample_name(rng: np.random.Generator) -> str:
    names = list(EXPRESSIONS)
    return names[int(rng.choice(len(names), p=[EXPRESSIONS[n][0] for n in names]))]


def _expressed(rng: np.random.Generator, name: str) -> dict[str, float]:
    side = "Left" if rng.random() < 0.5 else "Right"
    strength = rng.uniform(0.65, 1.2)
    face: dict[str, float] = {}
    for action, mean in EXPRESSIONS[name][1].items():
        one = action.replace("Side", side)
        value = mean if mean == 1.0 else float(np.clip(mean * strength * rng.normal(1.0, 0.08), 0, 1))
        for label in body_model().face_labels:
            if label in (one, f"{one}Left", f"{one}Right"):
                uneven = 1.0 if mean == 1.0 else float(rng.uniform(0.88, 1.12))
                face[label] = float(np.clip(max(face.get(label, 0.0), value * uneven), 0, 1))
    if not any(action.startswith(OPENING) for action in face):
        face["mouthClose"] = float(rng.uniform(0.09, 0.13))
    return face
