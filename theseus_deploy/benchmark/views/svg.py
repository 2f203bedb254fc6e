"""What plots are drawn with: SVG as text, an axis, letters. Colours and fonts come from the page's style sheet."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

LETTER = 7.0  # the width of a broad average letter at 12 px


@dataclass(frozen=True)
class LogAxis:
    """A logarithmic axis from `low` to `high`, drawn between two places."""

    low: float
    high: float
    start: float
    stop: float

    def at(self, value: float) -> float:
        """Return the place of a value."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Return round values: 1, 2, 5 of each decade, fewer over many, more within one; or at least two even steps."""
        decades = math.log10(self.high / self.low)
        steps = (1, 2, 5) if 0.5 < decades < 3 else (1,) if decades >= 3 else (1, 1.5, 2, 3, 4, 5, 6, 8)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [step * 10.0**power for power in powers for step in steps]
        within = [value for value in values if self.low <= value <= self.high]
        return within if len(within) > 1 else round_steps(self.low, self.high)

    def grid(self, top: float, bottom: float) -> str:
        """Draw a vertical line at each tick, and below it its value where there is room."""
        marks, last = [], -math.inf
        for value in self.ticks():
            x, label = self.at(value), f"{value:g}"
            marks.append(line("grid", x, top, x, bottom))
            if x - last >= len(label) * LETTER + 14:
                marks.append(text(x, bottom + 16, label, "middle", "muted"))
                last = x
        return "".join(marks)

    def label(self, value: float, y: float, label: str) -> str:
        """Write above a value, within the axis."""
        half = len(label) * LETTER / 2
        return text(min(max(self.at(value), self.start + half), self.stop - half), y, label, "middle", "value")


def round_steps(low: float, high: float) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten that divide a range into about five."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw a straight line."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def circle(kind: str, x: float, y: float, radius: float) -> str:
    """Draw a dot."""
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>'


def rectangle(kind: str, left: float, top: float, right: float, bottom: float) -> str:
    """Draw a box, at least a line wide."""
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{max(1.0, right - left):.1f}" '
        f'height="{bottom - top:.1f}"/>'
    )


def text(x: float, y: float, content: str, anchor: str = "start", kind: str = "name") -> str:
    """Write a line of letters."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def group(kind: str, title: str, marks: Iterable[str]) -> str:
    """Put marks together under a title, which a pointer shows."""
    return f'<g class="{kind}"><title>{escape(title)}</title>{"".join(marks)}</g>'


def clip(content: str, room: float) -> str:
    """Leave out the middle of what is longer than the room."""
    most = max(4, int(room / LETTER))
    return content if len(content) <= most else f"{content[: most // 2 - 1]}…{content[-(most - most // 2) :]}"


def svg(width: float, height: float, marks: Iterable[str], label: str, kind: str = "plot") -> Markup:
    """Return the drawing."""
    return Markup(
        f'<svg class="{kind}" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="{escape(label)}">{"".join(marks)}</svg>'
    )
