"""The contract that `hrmctl contracts new` writes: it loads and proves as written."""

from __future__ import annotations

from hrmctl.contract.clauses import ID
from hrmctl.errors import InputError

_TEMPLATE = """\
# A falsifiable claim, fixed before the run. See what it does: hrmctl contracts prove FILE
kind: contract
id: {id}
title: {title}
why: Say what breaks for whom when this does not hold.

# One obligation each. A label is what the stage that made the artifact calls it. A proxy never
# stands for the claim. `needs` says what the machine must have: without it the verdict is BLOCKED.
subjects:
  claim: {{model: hrm-27m, dataset: mbpp@test, needs: [cuda]}}
  proxy: {{model: hrm-tiny, dataset: microcode@test}}

# The observations wanted: their type, the kind of stage that reports them, and their name where the
# stage reports several of the type.
evidence:
  e: {{type: samples/v1, stage: eval}}

# What is computed from them; `hrmctl plugins list` names the functions and what each returns.
measure:
  p: {{fn: pass_at_k, of: [e], k: 1}}

# Every check must hold. `else` says what it means when one does not: FAIL (the default), INVALID
# (the instrument is broken) or INCONCLUSIVE.
require:
  - {{id: whole, left: p.n, op: eq, right: 200, else: INVALID}}
  - {{id: target, left: p.value, op: ge, right: 0.2}}

# Example evidence with the verdict it must give and the check that must cause it. Every check needs
# a control that it decides alone, on each side of its threshold and close to it.
controls:
  - {{expect: PASS, data: {{e: {{passed: 40, n: 200}}}}}}
  - {{expect: FAIL, because: target, data: {{e: {{passed: 39, n: 200}}}}}}
  - {{expect: INVALID, because: whole, data: {{e: {{passed: 60, n: 199}}}}}}
  - {{expect: INVALID, because: whole, data: {{e: {{passed: 60, n: 201}}}}}}
  - {{expect: UNTESTED, because: e, data: {{}}}}
"""


def template(id: str, title: str = "HRM solves at least 20 % of the test problems at the first try") -> str:
    """The text of a new contract. Raises InputError where `id` is none."""
    if not ID.match(id):
        raise InputError(f"'{id}' is not an id; use letters, digits, . _ and -")
    quoted = '"' + title.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
    return _TEMPLATE.format(id=id if not id[0].isdigit() else f'"{id}"', title=quoted)
