"""Line charts as inline SVG: no script, readable in light and dark, lines told apart by dash as well as colour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from hrmctl_reporters.view import plain, shown

WIDTH, HEIGHT = 480, 240
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 12, 36
MOST_POINTS = 400
STYLES = 6
BEYOND = 1e100
"""No axis reaches further, nor resolves less than its inverse."""

Curve = tuple[Sequence[int], Sequence[float]]
Point = tuple[float, float]


def chart(metric: str, curves: Mapping[str, Curve]) -> str:
    """A figure with one line a stage over training steps; empty where no stage has a finite point."""
    lines = {name: points for name, curve in curves.items() if (points := _finite(curve))}
    if not lines:
        return ""
    every = [point for points in lines.values() for point in points]
    x, y = _Axis([p[0] for p in every], LEFT, WIDTH - RIGHT), _Axis([p[1] for p in every], HEIGHT - BOTTOM, TOP)
    label = escape(plain(f"{metric} over training steps: " + "; ".join(_said(n, p) for n, p in lines.items())))
    drawn = [_line(i, points, x, y) for i, points in enumerate(lines.values())]
    legend = "".join(f"<li>{_swatch(i)}{_legend(n, p)}</li>" for i, (n, p) in enumerate(lines.items()))
    return (
        f'<figure class="chart"><figcaption>{escape(plain(metric))}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{_grid(x, y)}{''.join(drawn)}</svg><ul>{legend}</ul></figure>"
    )


def _finite(curve: Curve) -> list[Point]:
    # What is beyond any axis (NaN included) is left out, as a gap is.
    return [(float(s), float(v)) for s, v in zip(*curve, strict=False) if abs(v) <= BEYOND]


def _said(name: str, points: Sequence[Point]) -> str:
    return f"{name} from {shown(points[0][1])} to {shown(points[-1][1])}"


def _legend(name: str, points: Sequence[Point]) -> str:
    figures = f"{shown(points[0][1])} → {shown(points[-1][1])}"
    return f'{escape(plain(name))} <span class="figures">{figures}</span>'


class _Axis:
    """Maps values onto pixels; the range grows to whole ticks."""

    def __init__(self, values: Sequence[float], start: float, end: float):
        low, high = min(values), max(values)
        self.step = _nice_step(_span(low, high))
        self.low = math.floor(low / self.step) * self.step
        self.high = max(math.ceil(high / self.step) * self.step, self.low + self.step)
        self.start, self.end = start, end

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        return [self.low + i * self.step for i in range(round((self.high - self.low) / self.step) + 1)]


def _span(low: float, high: float) -> float:
    # Differences near the precision of a float make no axis; such a curve is drawn as constant.
    scale = max(abs(low), abs(high))
    if scale < 1 / BEYOND:
        return 1.0
    return high - low if high - low > 1e-9 * scale else scale


def _nice_step(span: float) -> float:
    power = 10.0 ** math.floor(math.log10(span / 4))
    return next((power * m for m in (1, 2, 5) if power * m >= span / 4), 10 * power)


def _line(index: int, points: Sequence[Point], x: _Axis, y: _Axis) -> str:
    where = [f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in thinned(points)]
    if len(where) == 1:
        cx, cy = where[0].split(",")
        return f'<circle class="dot s{index % STYLES}" cx="{cx}" cy="{cy}" r="3"/>'
    return f'<polyline class="line s{index % STYLES}" points="{" ".join(where)}"/>'


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most about `MOST_POINTS` points: the least and the greatest of each bucket, so that no spike is lost."""
    if len(points) <= MOST_POINTS:
        return list(points)
    size = math.ceil(2 * len(points) / MOST_POINTS)
    kept = {0, len(points) - 1}
    for start in range(0, len(points), size):
        bucket = range(start, min(start + size, len(points)))
        kept |= {min(bucket, key=lambda i: points[i][1]), max(bucket, key=lambda i: points[i][1])}
    return [points[i] for i in sorted(kept)]


def _grid(x: _Axis, y: _Axis) -> str:
    base, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    rows = [
        f'<path class="grid" d="M{LEFT} {y.at(t):.1f}H{right}"/>'
        f'<text x="{LEFT - 8}" y="{y.at(t) + 4:.1f}" text-anchor="end">{shown(round(t, 12))}</text>'
        for t in y.ticks()
    ]
    columns = [
        f'<text x="{x.at(t):.1f}" y="{base + 17}" text-anchor="middle">{shown(round(t, 12))}</text>' for t in x.ticks()
    ]
    title = f'<text class="title" x="{(LEFT + right) / 2}" y="{HEIGHT - 3}" text-anchor="middle">step</text>'
    return "".join([*rows, *columns, title])


def _swatch(index: int) -> str:
    style = f"s{index % STYLES}"
    return f'<svg class="swatch" viewBox="0 0 24 8" aria-hidden="true"><path class="line {style}" d="M0 4H24"/></svg>'
