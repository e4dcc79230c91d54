"""The stages of this package; their names begin with `audit.`."""

from __future__ import annotations

from hrmctl import InputSpec, OutputSpec, StageSpec
from hrmctl_audit.params import ContractsParams, GapsParams, ProjectParams, ReportParams, StartupParams

STAGES = (
    StageSpec(
        "audit.report",
        "recompute every figure of an evaluation report from the evidence that it cites",
        ReportParams,
        "hrmctl_audit.report:run",
        inputs={
            "report": InputSpec("report", "the report: Markdown, as `hrmctl report --export` writes it"),
            "bundle": InputSpec("report", "the folder beside it: evidence by digest, and the check"),
            "quoted": InputSpec("dataset", "the committed figures of other systems", required=False),
        },
        outputs={"findings": OutputSpec("report", "JSONL: each fault with its line, what it says and why")},
        code=("hrmctl_statistics",),
    ),
    StageSpec(
        "audit.contracts",
        "prove every contract of a folder, and trace which measures ran for its clauses",
        ContractsParams,
        "hrmctl_audit.contracts:run",
        inputs={"contracts": InputSpec("report", "a folder of contracts and gates")},
        outputs={"proofs": OutputSpec("report", "JSONL: each contract with its controls, mutants and clauses")},
        code=("hrmctl", "hrmctl_statistics"),
    ),
    StageSpec(
        "audit.project",
        "run the quality gates on a source tree: format, lint, types, imports, tests, docs, security, licences",
        ProjectParams,
        "hrmctl_audit.project:run",
        inputs={"tree": InputSpec("report", "the files and folders of the tree's root", many=True)},
        outputs={
            "findings": OutputSpec("report", "JSONL: each finding with its gate, its place and what it says"),
            "tests": OutputSpec("report", "JSONL: the same of the tests, apart, for they may be a part of all"),
        },
    ),
    StageSpec(
        "audit.startup",
        "measure how long `hrmctl --help` takes against starting Typer, in turn",
        StartupParams,
        "hrmctl_audit.startup:run",
        outputs={"times": OutputSpec("report", "JSON: both commands and the seconds of each start")},
        exclusive=True,
        code=("hrmctl",),
    ),
    StageSpec(
        "audit.gaps",
        "look up what each row of a register of gaps names, in the plugins or in the documentation",
        GapsParams,
        "hrmctl_audit.gaps:run",
        inputs={
            "register": InputSpec(
                "report", "YAML: one row a gap, with the stage, measure, command or page that closes it"
            ),
            "docs": InputSpec("report", "the folder of the documentation"),
        },
        outputs={"gaps": OutputSpec("report", "JSONL: each gap, what closes it, and what is wrong with that")},
    ),
)
