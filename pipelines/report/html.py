"""Templates, and figures printed for people."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any


def render(template: str, **values: Any) -> str:
    """A template of this package with the style sheet in it, as one HTML document without a request to
    anywhere.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: list[Callable[..., str]] = [number, compact, percent, duration, size, sentence]
    environment.filters |= {made.__name__: made for made in filters}
    page: str = environment.get_template(template).render(style=Markup(_source("style.css")), **values)
    return page


def _source(name: str) -> str:
    return (files("pipelines.report") / "templates" / name).read_text(encoding="utf-8")


def number(value: Any) -> str:
    """Four significant digits, integers as they are, a dash for what is not known."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def compact(count: int) -> str:
    """Three significant digits with k, M or B from ten thousand on: 9,999, 12.3 k, 300 M, 1.02 B."""
    if count < 10_000:
        return f"{count:,}"
    value, units = float(count), iter(("", "k", "M", "B"))
    unit = next(units)
    while value >= 999.5 and unit != "B":
        value, unit = value / 1000, next(units)
    return f"{_three_digits(value)} {unit}"


def _three_digits(value: float) -> str:
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def percent(part: int, whole: int) -> str:
    """ "35.8 %"; a dash of nothing; never 0 or 100 unless it is."""
    if not whole:
        return "\N{EN DASH}"
    share = 100 * part / whole
    if 0 < share < 0.05:
        return "< 0.1 %"
    if 99.95 <= share < 100:
        return "> 99.9 %"
    return f"{share:.0f} %" if share in (0, 100) else f"{share:.1f} %"


def duration(seconds: float) -> str:
    """ "1 min 05 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def size(count: int) -> str:
    """Bytes with a decimal unit."""
    value, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def sentence(text: str) -> str:
    """With a capital first letter and a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else text
