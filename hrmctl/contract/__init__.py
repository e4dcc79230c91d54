"""Contracts: falsifiable claims that are parsed, proven able to fail, bound to evidence and judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hrmctl.contract.bench import Bench
from hrmctl.contract.evaluate import Outcome, judge
from hrmctl.contract.gate import Gate, check_gate, prove_gate
from hrmctl.contract.load import load_contracts, load_one, parse_text
from hrmctl.contract.prove import Proof, prove
from hrmctl.contract.spec import Contract
from hrmctl.model import MeasureSpec


def proof_of(item: Contract | Gate, measures: Mapping[str, MeasureSpec]) -> Proof:
    """The proof of a contract or a gate."""
    return proofs([item], measures)[0]


def proofs(items: Iterable[Contract | Gate], measures: Mapping[str, MeasureSpec]) -> list[Proof]:
    """The proofs of contracts and gates; examples that several of them show are measured once."""
    bench = Bench()
    return [prove_gate(item) if isinstance(item, Gate) else prove(item, measures, bench) for item in items]


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
    "proof_of",
    "proofs",
    "prove_gate",
]
