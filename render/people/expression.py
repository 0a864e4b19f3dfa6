"""What a sampled person's face does: facial actions by expression, blinks."""

import numpy as np

from render.people.body import body_model
from render.people.spec import rounded

EXPRESSIONS: dict[str, tuple[float, dict[str, float]]] = {
    "neutral": (0.40, {}),
    "smile": (0.30, {"mouthSmile": 0.75, "cheekSquint": 0.35, "eyeSquint": 0.2}),
    "open_smile": (0.10, {"mouthSmile": 0.8, "jawOpen": 0.22, "cheekSquint": 0.5, "mouthUpperUp": 0.3}),
    "talking": (0.10, {"jawOpen": 0.3, "mouthFunnel": 0.25}),
    "frown": (0.05, {"browDown": 0.6, "mouthFrown": 0.5}),
    "surprised": (0.05, {"browInnerUp": 0.8, "browOuterUp": 0.7, "jawOpen": 0.35, "eyeWide": 0.6}),
}
"""Name -> (probability, mean strength of facial actions; those without a side act on both)."""


def sample_expression(rng: np.random.Generator) -> dict[str, float]:
    names = list(EXPRESSIONS)
    name = names[int(rng.choice(len(names), p=[EXPRESSIONS[n][0] for n in names]))]
    labels = body_model().face_labels
    face: dict[str, float] = {}
    for action, mean in EXPRESSIONS[name][1].items():
        value = float(np.clip(mean * rng.uniform(0.55, 1.2), 0, 1))
        for label in labels:
            if label in (action, f"{action}Left", f"{action}Right"):
                face[label] = rounded(np.clip(value * rng.uniform(0.88, 1.12), 0, 1))
    blink = float(abs(rng.normal(0.0, 0.09)))
    for side in ("Left", "Right"):
        face[f"eyeBlink{side}"] = rounded(min(blink, 0.35))
        face[f"browOuterUp{side}"] = rounded(max(face.get(f"browOuterUp{side}", 0.0), rng.uniform(0, 0.15)))
    return face
