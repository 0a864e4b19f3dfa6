"""Every sample is checked as it is made: one that fails is made once more, then rejected with its picture
kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annotation.checks import Problem, check_labels
from annotation.codecs import encode_rgb
from annotation.labels import Labels
from render.spec import SampleSpec, sample_key
from shards.sample import canonical_json

_DARK, _BRIGHT = 6.0, 249.0  # mean of the 8-bit image: nothing to be seen outside
_FEWEST_PIXELS = 0.005  # of the image on people


@dataclass(frozen=True)
class Checked:
    """Labels and what is wrong with them (nothing, one hopes)."""

    labels: Labels
    problems: tuple[Problem, ...]


def check_render(labels: Labels) -> tuple[Problem, ...]:
    """Problems of a rendered sample: those of its labels, and of a picture that shows nothing."""
    problems = check_labels(labels)
    if labels.rgb is not None and not _DARK <= labels.rgb.mean() <= _BRIGHT:
        mean = labels.rgb.mean()
        problems.append(Problem("rgb:exposure", f"expected a mean in {_DARK} .. {_BRIGHT}; got {mean:.1f}"))
    if labels.depth is not None and (share := float((labels.depth > 0).mean())) < _FEWEST_PIXELS:
        problems.append(
            Problem("person:missing", f"expected people on {_FEWEST_PIXELS:.1%}; got {share:.2%}")
        )
    for name, normal in (("normal", labels.normal), ("geometric_normal", labels.geometric_normal)):
        if labels.depth is None or normal is None:
            continue
        length = np.linalg.norm(normal[labels.depth > 0].astype(np.float64), axis=-1)
        if (worst := float(np.abs(length - 1).max(initial=0))) > 1e-6:
            problems.append(Problem(f"{name}:unit", f"expected |n| = 1 within 1e-6; got {worst:.2g} off"))
    return tuple(problems)


def render_checked(spec: SampleSpec, make: Callable[[SampleSpec], Labels]) -> Checked:
    """The labels of `spec`; a failing sample is made a second time, in case the machine and not the spec
    failed.
    """
    labels = make(spec)
    problems = check_render(labels)
    if problems:
        labels = make(spec)
        problems = check_render(labels)
    return Checked(labels, problems)


def keep_rejected(folder: Path, spec: SampleSpec, checked: Checked) -> None:
    """Leave the picture, the spec and the reasons of a rejected sample in `folder` for whoever looks."""
    folder.mkdir(parents=True, exist_ok=True)
    key = sample_key(spec)
    if checked.labels.rgb is not None:
        (folder / f"{key}.png").write_bytes(encode_rgb(checked.labels.rgb))
    reasons = {problem.name: problem.detail for problem in checked.problems}
    (folder / f"{key}.json").write_bytes(canonical_json({"problems": reasons, "spec": spec.to_json()}))
