"""The picture of a calibration: what was promised, what came true, and on how many boxes that rests."""

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curation.calibrate import Calibration

_INK, _MAP, _ABOVE = "#222222", "#2f6fb2", "#c0562f"


def draw_reliability(calibration: "Calibration") -> bytes:
    """A PNG: precision against score (each block with its 95 % interval), precision of all that scores more,
    and the number of boxes in each block.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    _draw_precision(top, calibration)
    edges = [(block.first, max(block.last - block.first, 0.004)) for block in calibration.blocks]
    counts = [block.count for block in calibration.blocks]
    bottom.bar([x for x, _ in edges], counts, [width for _, width in edges], align="edge", color=_MAP)
    bottom.set_yscale("log")
    bottom.set_xlabel("score")
    bottom.set_ylabel(calibration.kind)
    bottom.set_xlim(0, 1)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120, metadata={"Software": None})
    return data.getvalue()


def _draw_precision(axes: Any, calibration: "Calibration") -> None:
    for block in calibration.blocks:
        ends = [block.first, max(block.last, block.first + 0.004)]
        axes.fill_between(ends, block.low, block.high, color=_MAP, alpha=0.2, linewidth=0)
        axes.plot(ends, [block.precision] * 2, color=_MAP, linewidth=2)
    axes.plot([], [], color=_MAP, linewidth=2, label="at this score (isotonic fit, 95 % interval)")
    scores = [level.score for level in calibration.above]
    axes.step(
        scores, [level.precision for level in calibration.above], where="post", color=_ABOVE, label="above it"
    )
    axes.step(
        scores, [level.low for level in calibration.above], where="post", color=_ABOVE, linestyle=":",
        label="above it, lower bound",
    )  # fmt: skip
    for target in (0.9, 0.99):
        axes.axhline(target, color=_INK, linewidth=0.5)
        axes.annotate(str(target), (0.004, target), fontsize=8, va="bottom", color=_INK)
    axes.set_ylim(0, 1.03)
    axes.set_ylabel("precision")
    axes.set_title(
        f"{calibration.detector.get('name', 'detector')}: {sum(block.count for block in calibration.blocks)} "
        f"{calibration.kind}, {calibration.images} images",
        fontsize=10,
    )
    axes.legend(loc="lower right", fontsize=8, frameon=False)
