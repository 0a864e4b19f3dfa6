"""Charts as inline SVG that takes its colours from the page, so one drawing serves light and dark."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.report.html import compact

INK, ACCENT, SOFT = "#010203", "#040506", "#070809"  # stand-ins, replaced by what the page's style sheet says
_PAGE = {INK: "currentColor", ACCENT: "var(--accent)", SOFT: "var(--line)"}
_SIZE = (4.2, 2.5)  # inches; at 72 units each this is about a phone's width


def line_chart(points: Sequence[tuple[float, float]], x_label: str, y_label: str) -> str:
    """One curve: what was logged, faint, and its running mean over about a tenth of the points."""

    def draw(axes: Any) -> None:
        x, y = zip(*points, strict=True)
        window = max(1, len(y) // 10)
        mean = [
            sum(y[max(0, i - window) : i + 1]) / len(y[max(0, i - window) : i + 1]) for i in range(len(y))
        ]
        axes.plot(x, y, color=ACCENT, alpha=0.3, linewidth=1)
        marker = "o" if len(y) < 8 else ""  # a line of one point would not show
        axes.plot(x, mean, color=ACCENT, linewidth=1.8, marker=marker, markersize=3)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_xlim(left=0)

    return _svg(draw)


def bar_chart(counts: Mapping[str, int], x_label: str, y_label: str) -> str:
    """One bar per key, with its count on top."""

    def draw(axes: Any) -> None:
        bars = axes.bar(list(counts), list(counts.values()), color=ACCENT, width=0.62)
        axes.bar_label(bars, [compact(count) for count in counts.values()], padding=2, color=INK)
        axes.margins(y=0.15)
        axes.yaxis.set_major_formatter(_short)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)

    return _svg(draw)


def histogram_chart(
    edges: Sequence[float],
    counts: Sequence[int],
    strength: Sequence[float],
    lines: Sequence[float],
    x_label: str,
    y_label: str,
    log: bool = False,
) -> str:
    """Bars over bins (len(edges) == len(counts) + 1) and a dashed line at each threshold.

    `strength`: opacity of each bar. `log`: of the x axis. Counts stand on a logarithmic axis where the
    largest is over a hundred times the smallest, for the few to be seen beside the many. In the SVG, bars
    have the class `bin`, lines `threshold`.
    """
    filled = [count for count in counts if count]
    steep = bool(filled) and max(filled) > 100 * min(filled)
    floor = 0.6 if steep else 0.0  # under one image, so that one shows

    def draw(axes: Any) -> None:
        if log:
            axes.set_xscale("log", base=2)
        for low, high, count, opacity in zip(edges, edges[1:], counts, strength, strict=False):
            if count:
                bar = axes.bar(
                    low, count - floor, high - low, bottom=floor, align="edge", color=ACCENT, alpha=opacity
                )
                bar[0].set_gid("bin")
        for place in lines:
            axes.axvline(place, color=INK, linewidth=1.4, linestyle=(0, (4, 2))).set_gid("threshold")
        if steep:
            axes.set_yscale("log")
            axes.set_ylim(bottom=floor)
            axes.minorticks_off()
        axes.set_xlim(edges[0], edges[-1])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.yaxis.set_major_formatter(_short)
        axes.set_xlabel(x_label)
        axes.set_ylabel(f"{y_label}, log scale" if steep else y_label)

    return _svg(draw)


def _short(value: float, _: int) -> str:
    """A tick of an axis of counts; none between whole numbers."""
    return compact(round(value)) if value == round(value) else ""


def _svg(draw: Callable[[Any], None]) -> str:
    """Run `draw` on new axes; the SVG element, without prologue, ids or a fixed size."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "vitruvian",
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": SOFT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": SOFT,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_the_page(buffer.getvalue())


def _for_the_page(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # matplotlib's reaches the whole page
    svg = re.sub(r' id="[a-z][\w.]*_\d+"', "", svg)  # the same in every chart; clip paths keep theirs
    svg = re.sub(r' id="(bin|threshold)"', r' class="\1"', svg)  # many of each in a page
    for stand_in, colour in _PAGE.items():
        svg = svg.replace(stand_in, colour)
    return svg
