"""Draw people and plot what they are: age, height, weight, skin, hair, poses, joint angles, clothes.

    python tools/people_distributions.py [--people 1000] [--out docs/images/people-distributions.png]

Nobody is rendered and only bodies are shaped, so a thousand take a minute or two.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from render.people import PersonSpec, sample_person
from render.people.body import body_model, shape_body
from render.people.phenotype import AGE_YEARS

LUMINANCE = (0.2126, 0.7152, 0.0722)
LIMBS = {
    "shoulder": "upperarm01",
    "elbow": "lowerarm01",
    "wrist": "wrist",
    "hip": "upperleg01",
    "knee": "lowerleg01",
    "ankle": "foot",
}
CHAINS: dict[str, tuple[tuple[str, ...], ...]] = {
    "neck + head": (("neck01", "neck02", "neck03", "head"),),
    "spine": (("spine01", "spine02", "spine03", "spine04"),),
    **{name: ((f"{bone}.L",), (f"{bone}.R",)) for name, bone in LIMBS.items()},
}
"""Joint -> chains of bones whose turns add up, one chain per side."""


def heights(people: Sequence[PersonSpec]) -> np.ndarray:
    """Metres, upright."""
    model = body_model()
    skin = np.unique(model.quads["body"])
    found = [shape_body(person.phenotype, {}, model).vertices[skin, 2] for person in people]
    return np.array([z.max() - z.min() for z in found])


def joint_angles(people: Sequence[PersonSpec]) -> Mapping[str, np.ndarray]:
    """Degrees that each joint is turned by, from the rest pose."""

    def turn(person: PersonSpec, chain: tuple[str, ...]) -> float:
        return float(np.linalg.norm(np.sum([person.pose.get(bone, (0, 0, 0)) for bone in chain], axis=0)))

    return {
        name: np.array([turn(person, chain) for person in people for chain in chains])
        for name, chains in CHAINS.items()
    }


def _bars(axes: Any, counts: Counter[str], title: str) -> None:
    names = [name for name, _ in counts.most_common(28)][::-1]
    axes.barh(names, [counts[name] for name in names], color="#3b6ea5")
    axes.tick_params(axis="y", labelsize=6)
    axes.set_title(title)


def _histogram(axes: Any, values: np.ndarray, title: str, unit: str) -> None:
    axes.hist(values, bins=36, color="#3b6ea5")
    axes.set_title(title)
    axes.set_xlabel(unit)


def plot(people: Sequence[PersonSpec], path: Path) -> None:
    """Write the figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 12), layout="constrained")
    axes = figure.subplots(3, 4)
    tall = heights(people)
    years = np.interp([p.phenotype["age"] for p in people], *AGE_YEARS)
    adult = years >= 18
    female = np.array([p.phenotype["gender"] > 0.5 for p in people])
    _histogram(
        axes[0, 0],
        years,
        "age",
        "years",
    )
    for mask, label in ((adult & female, "women"), (adult & ~female, "men"), (~adult, "under 18")):
        axes[0, 1].hist(tall[mask], bins=30, alpha=0.6, label=f"{label}: {tall[mask].mean():.2f} m")
    axes[0, 1].set_title("height")
    axes[0, 1].legend(fontsize=7)
    _histogram(
        axes[0, 2],
        np.array([p.phenotype["weight"] for p in people]),
        "weight (anny's scale)",
        "0 thin, 1 heavy",
    )
    tones = np.array([p.skin.tone for p in people])
    order = np.argsort(tones @ np.array(LUMINANCE))
    shown = np.clip(tones[order], 0, 1) ** (1 / 2.2)
    axes[0, 3].imshow(np.repeat(shown[None], 60, axis=0), aspect="auto")
    axes[0, 3].set_title("skin tones, by luminance")
    axes[0, 3].set_yticks([])
    _bars(axes[1, 0], Counter(p.pose_name for p in people), "poses")
    angles = joint_angles(people)
    axes[1, 1].boxplot(list(angles.values()), whis=(1, 99), sym="")
    axes[1, 1].set_xticks(range(1, len(angles) + 1), list(angles), rotation=60, fontsize=7)
    axes[1, 1].set_title("joint angles: 1 to 99 %")
    axes[1, 1].set_ylabel("degrees")
    _bars(axes[1, 2], Counter(g.kind for p in people for g in p.garments), "garments and accessories")
    _bars(axes[1, 3], Counter(p.hair.style if p.hair.asset is None else "asset" for p in people), "hair")
    _bars(axes[2, 0], Counter(g.fabric.pattern for p in people for g in p.garments), "fabrics")
    _bars(axes[2, 1], Counter(str(len(p.garments)) for p in people), "things worn")
    gaze = np.array([(p.eyes.yaw, p.eyes.pitch) for p in people])
    axes[2, 2].plot(gaze[:, 0], gaze[:, 1], ".", markersize=2, color="#3b6ea5")
    axes[2, 2].set_title("gaze, degrees (left +, up +)")
    _bars(
        axes[2, 3],
        Counter(a for p in people for a, v in p.face.items() if v > 0.3),
        "facial actions above 0.3",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("docs/images/people-distributions.png"))
    given = parser.parse_args()
    people = [sample_person(np.random.default_rng([given.people, i])) for i in range(given.people)]
    plot(people, given.out)


if __name__ == "__main__":
    main()
