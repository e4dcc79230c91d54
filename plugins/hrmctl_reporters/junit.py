"""JUnit XML: FAIL is a failure, INVALID an error, what is not proven is `skipped` with its reason.

JUnit has a state of its own for it, which TAP has not. Many a CI shows skipped tests as green: the exit code does not,
nor do the totals of the file and of each suite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from hrmctl import CheckReport, Judgement, Verdict
from hrmctl_reporters import view

TAGS = {Verdict.FAIL: "failure", Verdict.INVALID: "error"}


def report(check: CheckReport) -> str:
    """The check as JUnit XML: a suite of claims, and one of hypotheses where there are any.

    Any answer passes a hypothesis's case and is told in its output; one without an answer is skipped. A check of
    nothing is an error.
    """
    root = ET.Element("testsuites", name=view.plain(f"hrmctl check {check.check}"))
    required, asked = view.claims(check.judgements), view.hypotheses(check.judgements)
    if not check.judgements:
        case = ET.SubElement(
            ET.SubElement(root, "testsuite", name="claims"), "testcase", classname="hrmctl", name="check"
        )
        ET.SubElement(case, "error", type="UNTESTED", message=view.NOTHING)
    if required:
        _suite(root, "claims", required)
    if asked:
        _suite(root, "hypotheses", asked)
    for suite in root:
        _count(suite, [suite])
    _count(root, list(root))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _suite(root: ET.Element, name: str, judgements: Sequence[Judgement]) -> None:
    suite = ET.SubElement(root, "testsuite", name=name)
    totals = view.totals(judgements)
    _properties(suite, {f"total.{verdict.value}": totals.get(verdict, 0) for verdict in Verdict})
    for judgement in judgements:
        subject = judgement.obligation.removeprefix(f"{judgement.contract}/")
        case = ET.SubElement(
            suite, "testcase", classname=view.plain(judgement.contract), name=view.plain(subject), time="0"
        )
        _outcome(case, judgement)
        ET.SubElement(case, "system-out").text = _output(judgement)


def _properties(element: ET.Element, found: Mapping[str, object]) -> None:
    properties = ET.SubElement(element, "properties")
    for name, value in found.items():
        ET.SubElement(properties, "property", name=view.plain(name), value=view.plain(str(value)))


def _outcome(case: ET.Element, judgement: Judgement) -> None:
    if view.passed(judgement):
        return
    message = f"{judgement.verdict.value}: {view.explanation(judgement) or view.word(judgement)}"
    tag = TAGS.get(judgement.verdict, "skipped")
    ET.SubElement(case, tag, type=judgement.verdict.value, message=message).text = view.plain(judgement.remedy)


def _output(judgement: Judgement) -> str:
    why = view.explanation(judgement) if judgement.verdict != Verdict.PASS else ""
    run = f"run {view.plain(judgement.run)}" if judgement.run else ""
    lines = [view.plain(judgement.title), f"{judgement.verdict.value} ({view.word(judgement)})", why, run]
    values = [
        view.plain(f"{measure}.{name} = {value}")
        for measure, found in judgement.measured.items()
        for name, value in found.items()
    ]
    return "\n".join(line for line in [*lines, view.attempts(judgement), *values] if line)


def _count(element: ET.Element, suites: Sequence[ET.Element]) -> None:
    def number(tag: str) -> str:
        return str(sum(len(suite.findall(tag)) for suite in suites))

    element.set("tests", number("testcase"))
    element.set("failures", number("testcase/failure"))
    element.set("errors", number("testcase/error"))
    element.set("skipped", number("testcase/skipped"))
