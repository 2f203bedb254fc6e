"""Plots as inline SVG, drawn here. Colours and fonts come from the page's style sheet and follow its theme."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from theseus_deploy.benchmark.views.words import digits

LETTER = 7.0  # the width of a broad average letter at 12 px
GRID = 220  # points of a density curve
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Distribution:
    """The times of one candidate in milliseconds; `kind` is a class of the style sheet: baseline, winner, other."""

    name: str
    times: NDArray[np.float64]
    p50: float
    p95: float
    kind: str


@dataclass(frozen=True)
class Point:
    """A candidate's median time in milliseconds and its score."""

    name: str
    time: float
    score: float
    kind: str


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
        """Return round values: 1, 2, 5 of each decade, fewer over many decades, more within one."""
        decades = math.log10(self.high / self.low)
        steps = (1, 2, 5) if 0.5 < decades < 3 else (1,) if decades >= 3 else (1, 1.5, 2, 3, 4, 5, 6, 8)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [step * 10.0**power for power in powers for step in steps]
        return [value for value in values if self.low <= value <= self.high]


def distributions(rows: Sequence[Distribution], width: int) -> Markup:
    """Draw a row for each candidate on one time axis: the density of its times, its median and 95th percentile.

    The curve is a Gaussian kernel density of the logarithms, each scaled to the same height.
    """
    narrow = width < 500
    left, right, top, height = (8 if narrow else 230), 14, 26, (80 if narrow else 52)
    axis = LogAxis(
        min(float(row.times.min()) for row in rows) * 0.92,
        max(float(np.quantile(row.times, 0.995)) for row in rows) * 1.12,
        left,
        width - right,
    )
    bottom = top + height * len(rows)
    marks = [_vertical_ticks(axis, top, bottom)]
    for position, row in enumerate(rows):
        floor = top + height * (position + 1) - 8
        room = height - (42 if narrow else 22)
        grid, density = _density(row.times, axis)
        points = " ".join(
            f"{axis.at(time):.1f},{floor - room * share:.1f}" for time, share in zip(grid, density, strict=True)
        )
        middle, tail = axis.at(row.p50), axis.at(min(row.p95, axis.high))
        label = (
            _text(8, floor - room - 22, _clip(row.name, width - 20))
            if narrow
            else _text(left - 14, floor - 4, _clip(row.name, left - 20), anchor="end")
        )
        marks.append(
            f'<g class="{row.kind}"><title>{escape(row.name)}: p50 {digits(row.p50)} ms, p95 {digits(row.p95)} ms, '
            f"{row.times.size} samples</title>"
            f'<line class="rule" x1="{left}" x2="{width - right}" y1="{floor}" y2="{floor}"/>'
            f'<polygon class="area" points="{axis.at(grid[0]):.1f},{floor} {points} {axis.at(grid[-1]):.1f},{floor}"/>'
            f'<line class="median" x1="{middle:.1f}" x2="{middle:.1f}" y1="{floor}" y2="{floor - room - 3}"/>'
            f'<circle class="tail" cx="{tail:.1f}" cy="{floor}" r="3"/>{label}'
            f"{_value_label(middle, floor - room - 6, digits(row.p50), axis)}</g>"
        )
    marks.append(_text((left + width - right) / 2, bottom + 34, "milliseconds a batch, logarithmic", "middle", "muted"))
    return _svg(width, bottom + 44, marks, "Distributions of latency, one row a candidate")


def pareto(points: Sequence[Point], metric: str, width: int) -> Markup:
    """Draw score against median time; the corners of the line are what nothing else beats in both.

    A narrow plot has numbers instead of names, explained below it.
    """
    narrow = width < 500
    left, right, top, bottom = 52, 16, 18, (300 if narrow else 340)
    names = [str(number) if narrow else point.name for number, point in enumerate(points, start=1)]
    axis = LogAxis(min(p.time for p in points) * 0.8, max(p.time for p in points) * 1.25, left, width - right)
    scores = [point.score for point in points]
    spread = max(max(scores) - min(scores), 0.02)
    middle = (max(scores) + min(scores)) / 2
    low, high = middle - spread * 0.75, middle + spread * 0.75

    def height(score: float) -> float:
        return bottom - (score - low) / (high - low) * (bottom - top)

    marks = [_vertical_ticks(axis, top, bottom)]
    for score in _round_steps(low, high):
        y = height(score)
        marks.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        marks.append(_text(left - 8, y + 4, f"{score:.3f}".rstrip("0").ljust(4, "0"), "end", "muted"))
    front = _front(points)
    steps = [f"{axis.at(front[0].time):.1f},{bottom}"]
    for here, following in zip(front, [*front[1:], None], strict=True):
        steps.append(f"{axis.at(here.time):.1f},{height(here.score):.1f}")
        end = axis.at(following.time) if following else width - right
        steps.append(f"{end:.1f},{height(here.score):.1f}")
    marks.append(f'<polyline class="front" points="{" ".join(steps)}"/>')
    places = [(axis.at(point.time), height(point.score)) for point in points]
    for point, (x, y), label in zip(points, places, _labels(names, places, width, top, bottom), strict=True):
        marks.append(
            f'<g class="{point.kind}"><title>{escape(point.name)}: {digits(point.time)} ms, {metric} {point.score:.4f}'
            f'</title><circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="5"/>{label}</g>'
        )
    marks.append(
        _text((left + width - right) / 2, bottom + 36, "median milliseconds a batch, logarithmic", "middle", "muted")
    )
    below = bottom + 46
    for name, point in zip(names, points, strict=True) if narrow else ():
        below += 20
        marks.append(f'<g class="{point.kind}">{_text(8, below, f"{name}  {_clip(point.name, width - 40)}")}</g>')
    return _svg(width, below + 6 if narrow else below, marks, f"{metric} against median latency")


def bullet(low: float, value: float, high: float, limit: float, kind: str) -> Markup:
    """Draw an interval, its point and a limit on one small line."""
    least, most = min(low, limit, value), max(high, limit, value)
    room = (most - least) * 0.12 or max(abs(limit), 1.0) * 0.1
    start, span = least - room, most - least + 2 * room

    def at(number: float) -> float:
        return 4 + (number - start) / span * 132

    marks = [
        '<line class="rule" x1="4" x2="136" y1="9" y2="9"/>',
        f'<line class="reach" x1="{at(low):.1f}" x2="{max(at(high), at(low) + 1):.1f}" y1="9" y2="9"/>',
        f'<circle class="dot" cx="{at(value):.1f}" cy="9" r="3.5"/>',
        f'<line class="limit" x1="{at(limit):.1f}" x2="{at(limit):.1f}" y1="1" y2="17"/>',
    ]
    return _svg(140, 18, [f'<g class="{kind}">', *marks, "</g>"], "measured interval and limit", "bullet")


def _density(times: NDArray[np.float64], axis: LogAxis) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    logs = np.log(times)
    spread = min(float(logs.std()), float(np.subtract(*np.quantile(logs, [0.75, 0.25]))) / 1.34) or float(logs.std())
    least = math.log(axis.high / axis.low) / 250  # a curve thinner than a line cannot be seen
    bandwidth = max(0.9 * spread * len(logs) ** -0.2, least)
    reach = 3 * bandwidth
    grid = np.linspace(max(math.log(axis.low), logs.min() - reach), min(math.log(axis.high), logs.max() + reach), GRID)
    density = np.exp(-0.5 * ((grid[:, None] - logs[None, :]) / bandwidth) ** 2).sum(axis=1)
    return np.exp(grid), density / density.max()


def _front(points: Sequence[Point]) -> list[Point]:
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.time, -point.score)):
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


def _labels(
    names: Sequence[str], places: Sequence[tuple[float, float]], width: int, top: float, bottom: float
) -> list[str]:
    """Put each name beside its dot where it covers neither a dot nor another name, trying the nearest places first."""
    taken: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in places]
    offsets = [(side, shift) for shift in (-9, 18, -25, 34, -41, 50, -57, 66, -73, 82) for side in ("start", "end")]
    labels = []
    for name, (x, y) in zip(names, places, strict=True):
        shown = _clip(name, width * 0.55)
        boxes = {offset: _label_box(x, y, len(shown) * LETTER, *offset) for offset in offsets}
        free = (
            offset
            for offset, (near, above, far, below) in boxes.items()
            if near >= 52 and far <= width and above >= top - 12 and below <= bottom
            if not any(near < b[2] and far > b[0] and above < b[3] and below > b[1] for b in taken)
        )
        side, shift = next(free, offsets[0])
        taken.append(boxes[side, shift])
        away = 10 if side == "start" else -10
        leader = ""
        if abs(shift) > 18:
            leader = f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{x + away:.1f}" y2="{y + shift - 4:.1f}"/>'
        labels.append(leader + _text(x + away, y + shift, shown, side))
    return labels


def _label_box(x: float, y: float, long: float, side: str, shift: float) -> Box:
    near = x + 10 if side == "start" else x - 10 - long
    return (near, y + shift - 11, near + long, y + shift + 3)


def _vertical_ticks(axis: LogAxis, top: float, bottom: float) -> str:
    marks, last = [], -math.inf
    for value in axis.ticks():
        x, text = axis.at(value), f"{value:g}"
        marks.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        if x - last >= len(text) * LETTER + 14:
            marks.append(_text(x, bottom + 16, text, "middle", "muted"))
            last = x
    return "".join(marks)


def _round_steps(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _value_label(x: float, y: float, text: str, axis: LogAxis) -> str:
    half = len(text) * LETTER / 2
    return _text(min(max(x, axis.start + half), axis.stop - half), y, text, "middle", "value")


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "name") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _clip(text: str, room: float) -> str:
    most = max(4, int(room / LETTER))
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most - most // 2) :]}"


def _svg(width: float, height: float, marks: Iterable[str], label: str, kind: str = "plot") -> Markup:
    return Markup(
        f'<svg class="{kind}" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="{escape(label)}">{"".join(marks)}</svg>'
    )
