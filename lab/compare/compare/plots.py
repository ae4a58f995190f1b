"""Plots as SVG, readable on light and dark pages: colours follow the reader's preference, the background is the page's."""

from __future__ import annotations

import math
from typing import Optional
from xml.sax.saxutils import escape

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 } .small { font-size: 11px; fill: #57606a }
  .grid { stroke: #d0d7de; stroke-width: 1 } .limit { stroke: #57606a; stroke-dasharray: 4 3; fill: none }
  .ours { fill: #0969da } .best { fill: #6e7781 } .other { fill: #b35900 }
  .line { fill: none; stroke-width: 2 }
  .l0 { stroke: #0969da } .l1 { stroke: #b35900 } .l2 { stroke: #1a7f37 } .l3 { stroke: #8250df }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #3d444d } .limit { stroke: #9198a1 }
    .ours { fill: #4493f8 } .best { fill: #9198a1 } .other { fill: #d29922 }
    .l0 { stroke: #4493f8 } .l1 { stroke: #d29922 } .l2 { stroke: #3fb950 } .l3 { stroke: #ab7df8 }
  }
"""
ROW, LEFT, PANEL, GAP, TOP = 24, 200, 300, 60, 52


def bars(title: str, panels: list[tuple[str, str, float]], rows: list[tuple[str, str, list[Optional[float]]]]) -> str:
    """A row for each strategy (title, class, a value for each panel); a panel is a heading, a format and what fills it."""
    width, height = LEFT + len(panels) * (PANEL + GAP), TOP + ROW * len(rows) + 12
    parts = [f'<text class="title" x="8" y="20">{escape(title)}</text>']
    for at, (heading, form, most) in enumerate(panels):
        x = LEFT + at * (PANEL + GAP)
        parts.append(f'<text class="small" x="{x}" y="{TOP - 10}">{escape(heading)}</text>')
        parts.append(f'<line class="grid" x1="{x}" y1="{TOP - 4}" x2="{x}" y2="{height - 10}"/>')
        for row, (_, kind, values) in enumerate(rows):
            y, value = TOP + ROW * row, values[at]
            if value is None:
                continue
            length = min(value / most, 1.0) * PANEL
            parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{length:.1f}" height="{ROW - 8}" rx="2"/>')
            parts.append(f'<text class="small" x="{x + length + 5:.1f}" y="{y + 13}">{escape(form.format(value))}</text>')
    for row, (name, _, _) in enumerate(rows):
        parts.append(f'<text x="{LEFT - 10}" y="{TOP + ROW * row + 13}" text-anchor="end">{escape(name)}</text>')
    return _svg(width, height, title, parts)


def ranges(title: str, rows: list[tuple[str, str, list[float]]]) -> str:
    """For each strategy its median, 95th and 99th percentile in milliseconds, along a logarithm."""
    width, height, span = LEFT + 640, TOP + ROW * len(rows) + 34, 600
    decades = range(6)

    def x(value: float) -> float:
        return LEFT + span * min(math.log10(max(value, 1.0)) / decades[-1], 1.0)

    parts = [f'<text class="title" x="8" y="20">{escape(title)}</text>']
    for decade in decades:
        label = f"{10**decade} ms" if decade < 3 else f"{10 ** (decade - 3)} s"
        parts.append(f'<line class="grid" x1="{x(10**decade):.1f}" y1="{TOP - 8}" x2="{x(10**decade):.1f}" y2="{height - 26}"/>')
        parts.append(f'<text class="small" x="{x(10**decade):.1f}" y="{height - 10}" text-anchor="middle">{label}</text>')
    for row, (name, kind, values) in enumerate(rows):
        y = TOP + ROW * row + 8
        parts.append(f'<text x="{LEFT - 10}" y="{y + 5}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect class="{kind}" x="{x(values[0]):.1f}" y="{y - 1}" width="{x(values[-1]) - x(values[0]):.1f}" height="2"/>'
        )
        for radius, value in zip((6, 4, 3), values):
            parts.append(f'<circle class="{kind}" cx="{x(value):.1f}" cy="{y}" r="{radius}"/>')
    return _svg(width, height, title, parts)


def dots(
    title: str,
    panels: list[tuple[str, str, list[float]]],
    kinds: list[tuple[str, str]],
    rows: list[tuple[str, list[list[tuple[str, float]]]]],
) -> str:
    """A row for each scenario, in each panel of it a dot (class, value) for each strategy; classes named first lie on top.

    A panel is a heading, a format and its ticks, of which the last is a tenth from its end.
    """
    left, span = 385, 240
    width, height = left + len(panels) * (span + GAP), TOP + ROW * len(rows) + 34
    order = [kind for _, kind in kinds]
    parts = [f'<text class="title" x="8" y="20">{escape(title)}</text>']
    for at, (name, kind) in enumerate(kinds):
        x = left + at * 130
        parts.append(
            f'<circle class="{kind}" cx="{x}" cy="16" r="5"/><text class="small" x="{x + 10}" y="20">{escape(name)}</text>'
        )
    for at, (heading, form, ticks) in enumerate(panels):
        x, most = left + at * (span + GAP), 1.1 * ticks[-1]
        parts.append(f'<text class="small" x="{x}" y="{TOP - 10}">{escape(heading)}</text>')
        for tick in ticks:
            here, label = x + tick / most * span, escape(form.format(tick))
            parts.append(f'<line class="grid" x1="{here}" y1="{TOP - 4}" x2="{here}" y2="{height - 26}"/>')
            parts.append(f'<text class="small" x="{here}" y="{height - 10}" text-anchor="middle">{label}</text>')
        for row, (_, values) in enumerate(rows):
            y = TOP + ROW * row + 8
            for kind, value in sorted(values[at], key=lambda dot: order.index(dot[0]), reverse=True):
                place = x + min(value / most, 1.0) * span
                parts.append(f'<circle class="{kind}" cx="{place:.1f}" cy="{y}" r="5" fill-opacity="0.75"/>')
    for row, (name, _) in enumerate(rows):
        parts.append(f'<text x="{left - 14}" y="{TOP + ROW * row + 13}" text-anchor="end">{escape(name)}</text>')
    return _svg(width, height, title, parts)


def course(title: str, limit: list[tuple[float, float]], lines: list[tuple[str, list[tuple[float, float]]]]) -> str:
    """Calls a second over time: what the limit allows, dashed, and what each of up to four strategies got through."""
    width, height, left, bottom = 900, 340, 48, 36
    last = limit[-1][0]
    most = 1.15 * max(value for _, values in [("", limit), *lines] for _, value in values)

    def points(values: list[tuple[float, float]]) -> str:
        places = (
            (left + at / last * (width - left - 20), height - bottom - value / most * (height - bottom - TOP))
            for at, value in values
        )
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)

    parts = [f'<text class="title" x="8" y="20">{escape(title)}</text>']
    for value in range(0, int(most) + 1, 10):
        (spot,) = points([(0, value)]).split()
        y = float(spot.split(",")[1])
        parts.append(f'<line class="grid" x1="{left}" y1="{y}" x2="{width - 20}" y2="{y}"/>')
        parts.append(f'<text class="small" x="{left - 6}" y="{y + 4}" text-anchor="end">{value}</text>')
    for second in range(0, int(last) + 1, 6):
        x = left + second / last * (width - left - 20)
        parts.append(f'<text class="small" x="{x:.1f}" y="{height - 14}" text-anchor="middle">{second} s</text>')
    parts.append(f'<polyline class="limit" points="{points(limit)}"/>')
    for at, (name, values) in enumerate(lines):
        parts.append(f'<polyline class="line l{at}" points="{points(values)}"/>')
        x = left + 10 + at * 200
        parts.append(
            f'<line class="line l{at}" x1="{x}" y1="38" x2="{x + 22}" y2="38"/><text x="{x + 28}" y="42">{escape(name)}</text>'
        )
    return _svg(width, height, title, parts)


def _svg(width: float, height: float, title: str, parts: list[str]) -> str:
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
    return "\n".join([opening, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n"
