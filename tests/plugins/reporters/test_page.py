"""The page: nothing foreign in it, everything said in words, curves inside their frame."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hrmctl_reporters import style, view
from hrmctl_reporters.chart import HEIGHT, MOST_POINTS, WIDTH, chart, thinned
from hrmctl_reporters.page import run_page
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hrmctl import RunReport, StageFinished

from .checks import ATTACK, DIGEST, EVERY, GREEN, HOSTILE, NOTHING

CURVE = ([1, 2, 3], [3.0, 2.0, 1.5])
FULL = RunReport(
    EVERY,
    "quickstart",
    [
        StageFinished("r1", "data", "cached", 0.1),
        StageFinished("r1", "hrm", "done", 81.234),
        StageFinished("r1", "bench", "failed", 3.0, "no memory figure; run on Linux"),
        StageFinished("r1", "late", "blocked", 0.0, "stage bench failed"),
    ],
    {"hrm": {"loss": CURVE, "val_loss": CURVE}, "gpt2": {"loss": CURVE}},
    {"seed": "7"},
)
HOSTILE_RUN = RunReport(
    ATTACK,
    HOSTILE,
    [StageFinished(HOSTILE, HOSTILE, HOSTILE, 1.0, HOSTILE)],
    {HOSTILE: {HOSTILE: CURVE}},
    {HOSTILE: HOSTILE},
)
PAGES = {"full": FULL, "attack": HOSTILE_RUN, "check": EVERY, "nothing": NOTHING, "green": GREEN}
VOID = {"meta"}


class Page(HTMLParser):
    """Tags with attributes, text by enclosing tag, and whether tags nest."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.styles: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.styles if self.open and self.open[-1] == "style" else self.texts).append(data)


@pytest.fixture(params=PAGES.values(), ids=PAGES)
def page(request):
    return Page(run_page(request.param))


ALLOWED = {"html", "head", "meta", "title", "style", "body", "header", "section", "h1", "h2", "p", "a", "code", "span"}
ALLOWED |= {"ul", "li", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "div", "dl", "dt", "dd"}
ALLOWED |= {"figure", "figcaption", "svg", "path", "polyline", "circle", "text"}


def test_only_known_tags_and_attributes(page):
    assert {tag for tag, _ in page.tags} <= ALLOWED
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"style", "src", "srcset", "action"})
    assert page.open == []


def test_links_stay_on_the_page_and_lead_somewhere(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    links = [attributes["href"] for _, attributes in page.tags if "href" in attributes]
    assert len(set(ids)) == len(ids)
    assert sorted(links) == sorted(f"#{name}" for name in ids)


def test_the_policy_allows_this_very_style_and_nothing_else(page):
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    [css] = page.styles
    assert base64.b64encode(hashlib.sha256(css.encode()).digest()).decode() in policy
    assert not re.search(r"url\(|@import|expression", css)


def test_hostile_names_are_text():
    page = Page(run_page(HOSTILE_RUN))
    everything = " ".join(page.texts)
    assert view.plain(HOSTILE) in everything
    assert "<script>alert(1)</script>" in everything
    assert not {"\x1b", "\u202e"} & set(run_page(HOSTILE_RUN))
    assert len(Page(run_page(FULL)).tags) > 50


def test_what_the_page_says_first():
    text = "\n".join(Page(run_page(FULL)).texts)
    places = [
        text.index(word)
        for word in ("1 of 7", "2 do not hold", "1 refuted", "\nClaims\n", "\nHypotheses\n", "\nTraining\n")
    ]
    assert places == sorted(places)
    assert view.REFUTED_LINE in text
    for label in ("PASS", "FAIL", "INVALID", "BLOCKED", "UNTESTED", "INCONCLUSIVE"):
        assert label in text
    for label in ("SUPPORTED", "REFUTED", "UNDECIDED", "NOT MEASURED"):
        assert label in text


def test_a_refuted_hypothesis_does_not_look_like_a_failure():
    shown = run_page(FULL)
    looks = dict(re.findall(r'<span class="v (\w+)"><span aria-hidden="true">.</span>([A-Z ]+)</span>', shown))
    labels = {label: look for look, label in looks.items()}
    assert labels["FAIL"] == "bad"
    assert "REFUTED" not in {label for look, label in looks.items() if look == "bad"}
    assert 'class="v answer"><span aria-hidden="true">✕</span>REFUTED' in shown


def test_every_figure_and_digest_is_in_the_details():
    text = "\n".join(Page(run_page(FULL)).texts)
    for wanted in ("guess.value", "6.238324625039508", DIGEST, DIGEST[::-1], "hrm-tiny", "868000000"):
        assert wanted in text


def test_stages_share_the_chart_of_a_metric():
    figures = re.findall(r"<figure.*?</figure>", run_page(FULL))
    assert [figure.count("<polyline") for figure in figures] == [2, 1]
    assert "hrm" in figures[0]
    assert "gpt2" in figures[0]


def test_stages_tell_what_happened():
    text = "\n".join(Page(run_page(FULL)).texts)
    for wanted in ("from the cache", "81.23 s", "no memory figure; run on Linux", "stage bench failed"):
        assert wanted in text
    assert "\n0 s" not in text


def test_a_check_without_a_run_has_no_empty_sections():
    text = "\n".join(Page(run_page(GREEN)).texts)
    assert "All 2 acceptance claims hold." in text
    for absent in ("Training", "Stages", "Hypotheses"):
        assert absent not in text
    assert view.NOTHING in "\n".join(Page(run_page(NOTHING)).texts)


# --- style ------------------------------------------------------------------------------------------


def luminance(color: str) -> float:
    if len(color) == 4:
        color = "#" + "".join(2 * c for c in color[1:])
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_has_enough_contrast(mode):
    colors = dict(re.findall(r"--([\w-]+):(#\w+)", re.findall(r":root\{[^}]*\}", style.CSS)[mode]))
    badges = [(name, f"{name}-bg") for name in ("good", "bad", "broken", "wait", "none", "answer")]
    texts = [("ink", "page"), ("soft", "page"), ("link", "page"), *badges]
    assert {
        pair: contrast(colors[pair[0]], colors[pair[1]]) for pair in texts if contrast(*map(colors.get, pair)) < 4.5
    } == {}
    assert all(contrast(colors[f"s{i}"], colors["page"]) >= 3 for i in range(6))


# --- charts -----------------------------------------------------------------------------------------


values = st.floats(-1e9, 1e9) | st.sampled_from([float("nan"), float("inf"), 0.0])


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), st.lists(values, max_size=30), max_size=8))
@example({"a": [0.0, 5e-324]})
@example({"a": [1e16, 1e16 + 2]})
@example({"a": [-1e99, 1e99]})
def test_lines_stay_inside_the_frame(curves):
    shown = chart("loss", {name: (range(len(v)), v) for name, v in curves.items()})
    for points in re.findall(r'points="([^"]*)"', shown):
        for x, y in (map(float, p.split(",")) for p in points.split(" ")):
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
    finite = [v for v in curves.values() if any(abs(x) < 1e100 for x in v)]
    assert len(re.findall(r'<polyline|<circle class="dot', shown)) == len(finite)
    assert bool(shown) is bool(finite)


def test_axes_have_round_ticks():
    texts = re.findall(r">([^<>]+)</text>", chart("loss", {"a": ([1, 600], [6.23, 0.41])}))
    assert texts == ["0", "2", "4", "6", "8", "0", "200", "400", "600", "step"]


def test_a_constant_and_a_single_point_are_drawn():
    assert "<polyline" in chart("lr", {"a": ([1, 2], [0.5, 0.5])})
    assert "<circle" in chart("lr", {"a": ([1], [0.5])})


def test_a_falling_loss_falls():
    [points] = re.findall(r'points="([^"]*)"', chart("loss", {"a": CURVE}))
    heights = [float(p.split(",")[1]) for p in points.split(" ")]
    assert all(a < b for a, b in pairwise(heights))


def test_thinning_keeps_the_spike_and_both_ends():
    points = [(float(i), 1.0) for i in range(100_000)]
    points[31_337] = (31_337.0, 50.0)
    kept = thinned(points)
    assert len(kept) <= MOST_POINTS + 2
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert points[31_337] in kept
    assert kept == sorted(kept)
