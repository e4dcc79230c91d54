"""Badges: the endpoint document of shields.io, and a picture that needs no service."""

from __future__ import annotations

from html import escape

from hrmctl import CheckReport, Verdict
from hrmctl.jsonio import canonical
from hrmctl_reporters import view

LABEL = "hrmctl"
COLORS = {"brightgreen": "#2a7d2e", "red": "#b3261e", "orange": "#9a5200", "lightgrey": "#5b6470"}
"""Dark enough for white text (4.5:1)."""
_CHARACTER, _PAD, _HEIGHT = 6.6, 10, 20


def endpoint(check: CheckReport) -> str:
    """The endpoint document of shields.io: how many acceptance claims hold, and the colour of the worst verdict."""
    message, color = summary(check)
    shown = {"schemaVersion": 1, "label": LABEL, "message": message, "color": color, "isError": color == "red"}
    return canonical(shown)


def svg(check: CheckReport) -> str:
    """The same as a self-contained SVG of 20 pixels' height, with a title for those who do not see it."""
    message, color = summary(check)
    left, right = (_PAD + _CHARACTER * len(text) for text in (LABEL, message))
    title = escape(f"{LABEL}: {message}", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right:g}" height="{_HEIGHT}" role="img" '
        f'aria-label="{title}"><title>{title}</title>'
        f'<rect width="{left:g}" height="{_HEIGHT}" fill="#444"/>'
        f'<rect x="{left:g}" width="{right:g}" height="{_HEIGHT}" fill="{COLORS[color]}"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f"{_text(LABEL, left / 2)}{_text(message, left + right / 2)}</g></svg>"
    )


def _text(text: str, x: float) -> str:
    # The length is given, so that the text fits whatever font there is.
    return f'<text x="{x:g}" y="14" textLength="{_CHARACTER * len(text):g}">{escape(text)}</text>'


def summary(check: CheckReport) -> tuple[str, str]:
    """How many acceptance claims hold, and the colour of the worst verdict."""
    required = view.claims(check.judgements)
    broken = sum(j.verdict == Verdict.INVALID for j in check.judgements)
    found = view.totals(required)
    message = f"{found.get(Verdict.PASS, 0)} of {len(required)} hold" if required else "nothing checked"
    return f"{broken} invalid, {message}" if broken else message, _color(found, broken)


def _color(found: dict[Verdict, int], broken: int) -> str:
    if broken or Verdict.FAIL in found:
        return "red"
    if not found:
        return "lightgrey"
    return "brightgreen" if set(found) == {Verdict.PASS} else "orange"
