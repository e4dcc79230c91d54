"""Contracts: falsifiable claims that are parsed, proven able to fail, bound to evidence and judged."""

from hrmctl.contract.evaluate import Outcome, judge
from hrmctl.contract.gate import Gate, check_gate, prove_gate
from hrmctl.contract.load import load_contracts, load_one, parse_text
from hrmctl.contract.prove import Proof
from hrmctl.contract.spec import Contract

__all__ = [
    "Contract",
    "Gate",
    "Outcome",
    "Proof",
    "check_gate",
    "judge",
    "load_contracts",
    "load_one",
    "parse_text",
    "prove_gate",
]
