"""The plots of a report as inline SVG. Each is drawn for the width it is given; below `NARROW` for a phone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from theseus_deploy.benchmark.stats import Interval
from theseus_deploy.benchmark.views.numbers import digits
from theseus_deploy.benchmark.views.svg import (
    LETTER,
    LogAxis,
    circle,
    clip,
    group,
    line,
    rectangle,
    round_steps,
    svg,
    text,
)

NARROW = 500
MARGIN = 14  # right of an axis
GRID = 220  # points of a density curve
DENSE = 20  # samples below which a curve would be made up
Blocks = Sequence[tuple[str, Sequence["Fork"]]]  # of ratios, a shape each
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Label:
    """What a row or a dot is called: two short lines. `kind` is a class of the style sheet: baseline, winner, other."""

    name: str
    below: str
    kind: str

    def __str__(self) -> str:
        return f"{self.name} {self.below}"


@dataclass(frozen=True)
class Distribution:
    """The times of one candidate in milliseconds."""

    label: Label
    times: NDArray[np.float64]
    p50: float
    p95: float


@dataclass(frozen=True)
class Point:
    """A candidate's median time in milliseconds and its score, with the interval of that where it is known."""

    label: Label
    time: float
    score: float
    reach: Interval | None = None


@dataclass(frozen=True)
class Fork:
    """A ratio with its interval, and how that is written."""

    label: Label
    value: float
    reach: Interval
    said: str


@dataclass(frozen=True)
class Fall:
    """A step from one median time to another, in milliseconds, and how much that is in words."""

    label: Label
    start: float
    end: float
    said: str


def distributions(rows: Sequence[Distribution], width: int) -> Markup:
    """Draw a row for each candidate on one time axis: every sample as a tick, their density, median, 95th percentile.

    The curve is a Gaussian kernel density of the logarithms, each scaled to the same height; of few samples there is
    none. What lies beyond the axis, which ends where a row's last half per cent begins, is counted at its edge.
    """
    narrow = width < NARROW
    left, top, height = (8 if narrow else 230), 26, (96 if narrow else 62)
    axis = LogAxis(
        min(float(row.times.min()) for row in rows) * 0.92,
        max(float(np.quantile(row.times, 0.995)) for row in rows) * 1.12,
        left,
        width - MARGIN,
    )
    bottom = top + height * len(rows)
    marks = [axis.grid(top, bottom)]
    for position, row in enumerate(rows):
        floor = top + height * (position + 1) - 16
        room = height - (56 if narrow else 32)
        drawn = [_strip(row.times, axis, floor), line("rule", left, floor, axis.stop, floor)]
        if row.times.size >= DENSE:
            grid, density = _density(row.times, axis)
            curve = " ".join(
                f"{axis.at(time):.1f},{floor - room * share:.1f}" for time, share in zip(grid, density, strict=True)
            )
            ends = f"{axis.at(grid[0]):.1f},{floor} {curve} {axis.at(grid[-1]):.1f},{floor}"
            tail = axis.at(min(row.p95, axis.high))
            drawn += [f'<polygon class="area" points="{ends}"/>', circle("tail", tail, floor, 3)]
        middle = axis.at(row.p50)
        drawn += [
            line("median", middle, floor, middle, floor - room - 3),
            axis.label(row.p50, floor - room - 6, digits(row.p50)),
            text(8, floor - room - 24, clip(str(row.label), width - 20))
            if narrow
            else _beside(row.label, left, floor - 14),
        ]
        if beyond := int((row.times > axis.high).sum()):
            said = f"{beyond} more, to {digits(float(row.times.max()))} ms"
            drawn.append(text(axis.stop, floor - 6, said, "end", "muted"))
        dense = f", p95 {digits(row.p95)} ms" if row.times.size >= DENSE else ""
        title = f"{row.label}: p50 {digits(row.p50)} ms{dense}, {row.times.size} samples"
        marks.append(group(row.label.kind, title, drawn))
    marks.append(text((left + axis.stop) / 2, bottom + 34, "milliseconds a batch, logarithmic", "middle", "muted"))
    return svg(width, bottom + 44, marks, "Distributions of latency, one row a candidate")


def forest(blocks: Blocks, noise: Interval, limits: Sequence[float], width: int) -> Markup:
    """Draw the ratio of every candidate at every shape with its interval, 1 being the baseline.

    The first block has behind it what two processes of the baseline differ by, and the limits that were set.
    """
    narrow = width < NARROW
    limits = [limit for limit in limits if limit > 0]  # 0 has no place on a logarithmic axis
    left, right, height = (8, 8, 40) if narrow else (300, 170, 24)
    reaches = [reach for _, forks in blocks for fork in forks for reach in fork.reach] + [*noise, *limits, 1.0]
    axis = LogAxis(min(reaches) * 0.93, max(reaches) * 1.07, left, width - right)
    marks, y = [], 14.0
    for number, (title, forks) in enumerate(blocks):
        top, floor = y + 8, y + 12 + height * len(forks)
        marks.append(text(0, y, title, kind="name block"))
        if number == 0:
            marks.append(group("noise", "the baseline against itself", [_band(axis, noise, top, floor)]))
            marks += [line("limit", axis.at(limit), top, axis.at(limit), floor) for limit in limits]
        marks.append(line("one", axis.at(1.0), top, axis.at(1.0), floor))
        for place, fork in enumerate(forks):
            middle = top + height * (place + 0.5) + (10 if narrow else 0)
            low, high = (axis.at(end) for end in fork.reach)
            drawn = [
                line("rule", left, middle, axis.stop, middle),
                line("reach", low, middle, max(high, low + 1), middle),
                circle("dot", axis.at(fork.value), middle, 3.5),
            ]
            if narrow:
                room = width - 24 - len(fork.said) * LETTER
                drawn += [text(0, middle - 10, clip(str(fork.label), room)), _said(fork.said, width, middle - 10)]
            else:
                drawn += [text(0, middle + 4, clip(str(fork.label), left - 20)), _said(fork.said, width, middle + 4)]
            marks.append(group(fork.label.kind, f"{fork.label}: {fork.said}", drawn))
        y = floor + 30
    marks.insert(0, axis.grid(14, y - 26))
    marks.append(text((left + axis.stop) / 2, y + 8, "median time over the baseline’s, logarithmic", "middle", "muted"))
    return svg(width, y + 18, marks, "Ratios to the baseline with their 95 % intervals, by shape")


def waterfall(falls: Sequence[Fall], width: int) -> Markup:
    """Draw how the median falls from step to step, on a logarithmic axis: equal factors are equally long."""
    narrow = width < NARROW
    left, right, top, height = (8, 8, 22, 66) if narrow else (230, 250, 22, 48)
    times = [time for fall in falls for time in (fall.start, fall.end)]
    axis = LogAxis(min(times) * 0.8, max(times) * 1.25, left, width - right)
    bottom = top + height * len(falls)
    marks = [axis.grid(top, bottom)]
    for position, fall in enumerate(falls):
        middle = top + height * (position + 1) - 16
        start, end = axis.at(fall.start), axis.at(fall.end)
        drawn = [
            rectangle("bar", min(start, end), middle - 7, max(start, end), middle + 7),
            line("median", end, middle - 7, end, middle + (7 if narrow or fall is falls[-1] else height)),
            axis.label(fall.end, middle - 12, f"{digits(fall.end)} ms"),
        ]
        if position == 0:
            drawn.append(axis.label(fall.start, middle - 12, f"{digits(fall.start)} ms"))
        if narrow:
            drawn += [text(0, middle - 34, fall.label.name), _said(fall.said, width, middle - 34)]
        else:
            drawn += [_beside(fall.label, left, middle), _said(fall.said, width, middle + 4)]
        marks.append(group(fall.label.kind, f"{fall.label}: {fall.said}", drawn))
    marks.append(text((left + axis.stop) / 2, bottom + 34, "median milliseconds, logarithmic", "middle", "muted"))
    return svg(width, bottom + 44, marks, "Where the gain came from, step by step")


def pareto(points: Sequence[Point], metric: str, width: int) -> Markup:
    """Draw score against median time; the corners of the line are what nothing else beats in both.

    A narrow plot has numbers instead of names, explained below it.
    """
    narrow = width < NARROW
    left, right, top, bottom = 52, 16, 18, (300 if narrow else 340)
    names = [str(number) if narrow else str(point.label) for number, point in enumerate(points, start=1)]
    axis = LogAxis(min(p.time for p in points) * 0.8, max(p.time for p in points) * 1.25, left, width - right)
    scores = [score for point in points for score in (point.score, *(point.reach or ()))]
    spread = max(max(scores) - min(scores), 0.02)
    middle = (max(scores) + min(scores)) / 2
    low, high = middle - spread * 0.6, middle + spread * 0.6

    def height(score: float) -> float:
        return float(bottom - (score - low) / (high - low) * (bottom - top))

    marks = [axis.grid(top, bottom)]
    for score in round_steps(low, high):
        y = height(score)
        marks.append(line("grid", left, y, width - right, y))
        marks.append(text(left - 8, y + 4, f"{score:.3f}".rstrip("0").ljust(4, "0"), "end", "muted"))
    front = _front(points)
    steps = [f"{axis.at(front[0].time):.1f},{bottom}"]
    for here, following in zip(front, [*front[1:], None], strict=True):
        steps.append(f"{axis.at(here.time):.1f},{height(here.score):.1f}")
        end = axis.at(following.time) if following else width - right
        steps.append(f"{end:.1f},{height(here.score):.1f}")
    marks.append(f'<polyline class="front" points="{" ".join(steps)}"/>')
    places = [(axis.at(point.time), height(point.score)) for point in points]
    for point, (x, y), name in zip(points, places, _labels(names, places, width, top, bottom), strict=True):
        reach = [line("reach", x, height(point.reach[0]), x, height(point.reach[1]))] if point.reach else []
        title = f"{point.label}: {digits(point.time)} ms, {metric} {point.score:.4f}"
        marks.append(group(point.label.kind, title, [*reach, circle("dot", x, y, 5), name]))
    legend = "median milliseconds a batch, logarithmic"
    marks.append(text((left + width - right) / 2, bottom + 36, legend, "middle", "muted"))
    below = bottom + 46
    for name, point in zip(names, points, strict=True) if narrow else ():
        below += 20
        said = text(8, below, f"{name}  {clip(str(point.label), width - 40)}")
        marks.append(group(point.label.kind, str(point.label), [said]))
    return svg(width, below + 6 if narrow else below, marks, f"{metric} against median latency")


def bullet(low: float, value: float, high: float, limit: float, kind: str) -> Markup:
    """Draw an interval, its point and a limit on one small line."""
    least, most = min(low, limit, value), max(high, limit, value)
    room = (most - least) * 0.12 or max(abs(limit), 1.0) * 0.1
    start, span = least - room, most - least + 2 * room

    def at(number: float) -> float:
        return 4 + (number - start) / span * 132

    marks = [
        line("rule", 4, 9, 136, 9),
        line("reach", at(low), 9, max(at(high), at(low) + 1), 9),
        circle("dot", at(value), 9, 3.5),
        line("limit", at(limit), 1, at(limit), 17),
    ]
    return svg(140, 18, [f'<g class="{kind}">', *marks, "</g>"], "measured interval and limit", "small")


def bar(value: float, most: float, kind: str) -> Markup:
    """Draw an amount as a small bar from zero, as a share of the greatest one."""
    marks = [rectangle("bar rest", 0, 4, 140, 14), rectangle("bar", 0, 4, 140 * value / most, 14)]
    return svg(140, 18, [f'<g class="{kind}">', *marks, "</g>"], f"{value / most:.0%} of the greatest", "small")


def _beside(label: Label, left: float, y: float) -> str:
    """Write both lines of a label left of an axis."""
    return text(left - 14, y, clip(label.name, left - 20), "end") + text(
        left - 14, y + 15, clip(label.below, left - 20), "end", "muted"
    )


def _said(said: str, x: float, y: float) -> str:
    return text(x, y, said, "end", "value")


def _band(axis: LogAxis, reach: Interval, top: float, bottom: float) -> str:
    return rectangle("band", axis.at(reach[0]), top, axis.at(reach[1]), bottom)


def _strip(times: NDArray[np.float64], axis: LogAxis, floor: float) -> str:
    """Draw a tick for every sample within the axis; those on one pixel are one."""
    places = sorted({round(axis.at(float(time))) for time in times if time <= axis.high})
    return f'<path class="strip" d="{"".join(f"M{place} {floor}v6" for place in places)}"/>'


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
        shown = clip(name, width * 0.55)
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
        leader = line("leader", x, y, x + away, y + shift - 4) if abs(shift) > 18 else ""
        labels.append(leader + text(x + away, y + shift, shown, side))
    return labels


def _label_box(x: float, y: float, long: float, side: str, shift: float) -> Box:
    near = x + 10 if side == "start" else x - 10 - long
    return (near, y + shift - 11, near + long, y + shift + 3)
