"""The average adult's face, on which the lines of ears, mouth and nose are measured.

MakeHuman's template is nobody: its ear is half the size and its lips touch differently. Shares of lines and
places between vertices are taken on the mean adult instead; the vertices stay the template's.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import rules
from rules import Anchor

from render.people.body import BodyModel, shape_body

ADULT = {"age": 2 / 3}
"""anny's phenotypes of the mean adult: all 0.5 but the age, which is that of the shapes called "young"."""


def adult(model: BodyModel) -> BodyModel:
    """The model with the mean adult's rest body, metres, for its template."""
    return replace(model, template=shape_body(ADULT, {}, model).vertices)


def along(grown: BodyModel, stops: Sequence[Anchor], fractions: Sequence[float]) -> list[Anchor]:
    """Places on the skin at shares of the length of the line through `stops`: 0 the first, 1 the last.

    Only the quads at the two stops beside it can hold a place: lips that touch stay apart.
    """
    points = np.stack([rules.position(grown, stop) for stop in stops])
    step = np.sqrt((np.diff(points, axis=0) ** 2).sum(1))
    length = np.concatenate([[0.0], np.cumsum(step)])
    found = []
    for fraction in fractions:
        at = fraction * length[-1]
        i = int(np.clip(np.searchsorted(length, at, side="right") - 1, 0, len(stops) - 2))
        share = (at - length[i]) / step[i]
        near = _around(grown, (*stops[i][0], *stops[i + 1][0]))
        found.append(rules.on_surface(near, points[i] + share * (points[i + 1] - points[i])))
    return found


def _around(model: BodyModel, vertices: Sequence[int]) -> BodyModel:
    """The model with those quads of the skin alone that have one of the vertices."""
    quads = model.quads["body"]
    return replace(model, quads={"body": quads[np.isin(quads, vertices).any(1)]})
