"""A check with every verdict, and one whose names attack the form they are shown in."""

from __future__ import annotations

from typing import Any

from hrmctl import CheckReport, Judgement, Verdict

DIGEST = "0123456789abcdef" * 4


def judgement(name: str, verdict: str, kind: str = "acceptance", **given: Any) -> Judgement:
    """One judgement; `name` is `CONTRACT/subject`."""
    contract, _, subject = name.rpartition("/")
    fields: dict[str, Any] = {"contract": contract, "contract_digest": DIGEST, "subject": subject, "run": "r1"}
    fields |= {"title": f"Claim {contract}", "kind": kind, "verdict": Verdict(verdict)}
    return Judgement(**(fields | given))


PAIRED = {"value": 0.052, "lo": 0.018, "hi": 0.086, "p": 0.0044, "mcnemar_p": 0.004868154, "n": 500}

EVERY = CheckReport(
    "20250102T030405-ab12cd34",
    "r1",
    [
        judgement(
            "QS-LOSS/claim",
            "PASS",
            title="Training loss ends below chance",
            measured={"loss": {"first": 6.2314, "last": 0.41, "n": 600}, "guess": {"value": 6.238324625039508, "n": 1}},
            evidence=(DIGEST, DIGEST[::-1]),
            subjects={"model": DIGEST},
            labels={"model": "hrm-tiny"},
        ),
        judgement(
            "QS-SIZE/claim",
            "FAIL",
            title="int4 weights take under half of fp16",
            because="half",
            reason="size.value is 0.62, not less than 0.5",
            remedy="hrmctl quantize --scheme int4",
            measured={"size": {"value": 0.62, "left": 868_000_000, "right": 1_400_000_000, "n": 1}},
            profile="kpi",
        ),
        judgement(
            "QS-MODE/claim",
            "INVALID",
            because="proof",
            reason="the contract is not proven: a control misbehaved",
            measured={"m": {"value": "sealed", "n": 200}},
        ),
        judgement("MBPP/claim", "BLOCKED", because="e", reason="no evidence e: it needs cuda", remedy="use a GPU"),
        judgement("MBPP/proxy", "UNTESTED", because="e", reason="no evidence e", remedy="run the stage eval"),
        judgement("QS-DELTA/claim", "INCONCLUSIVE", because="d", reason="all 200 problems differ by 0"),
        judgement("HRM-GPT2/claim", "FAIL", "hypothesis", because="better", measured={"d": PAIRED}),
        judgement("HRM-SMALL/claim", "PASS", "hypothesis", measured={"d": PAIRED}),
        judgement("HRM-LONG/claim", "INCONCLUSIVE", "hypothesis", because="d", reason="no first samples disagree"),
        judgement("HRM-27M/claim", "UNTESTED", "hypothesis", because="e", reason="no evidence e"),
        judgement("release/gate", "FAIL", "gate", because="half", reason="NO-GO: a claim fails"),
    ],
    3,
)

HOSTILE = "\"'><script>alert(1)</script>&amp;|`|[x](javascript:1)\n::error::\x1b[31m\u202e]]>"
ATTACK = CheckReport(
    HOSTILE,
    HOSTILE,
    [
        judgement(
            "",
            verdict,
            kind,
            contract=HOSTILE,
            subject=HOSTILE,
            title=HOSTILE,
            because=HOSTILE,
            reason=HOSTILE,
            remedy=HOSTILE,
            measured={HOSTILE: {"value": 1.5, HOSTILE: HOSTILE, "unit": HOSTILE}},
            evidence=(HOSTILE,),
            subjects={HOSTILE: HOSTILE},
            labels={HOSTILE: HOSTILE},
            contract_digest=HOSTILE,
            profile=HOSTILE,
        )
        for verdict in ("PASS", "FAIL", "BLOCKED")
        for kind in ("acceptance", "hypothesis")
    ],
    1,
)

NOTHING = CheckReport("c0", "", [], 3)
GREEN = CheckReport("c1", "r1", [judgement("A/claim", "PASS"), judgement("B/claim", "PASS")], 0)
SPANS = CheckReport(
    "c2",
    "",
    [
        judgement("A/claim", "PASS", run="r1", attempts=3, measured={"p": {"value": 0.3, "n": 500}}),
        judgement(
            "B/proxy", "FAIL", run="r2", attempts=1, because="big", reason="0.1 is not 0.2", remedy="hrmctl eval"
        ),
        judgement("C/claim", "UNTESTED", run="", because="e", reason="no evidence e", remedy="hrmctl pipeline x.yaml"),
        judgement("D/claim", "FAIL", "hypothesis", run="r2", attempts=2, because="big", reason="0.1 is not 0.2"),
    ],
    3,
)
"""A check of two runs, with something that no run measured."""
