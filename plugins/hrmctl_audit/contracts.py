"""The stage `audit.contracts`: can every contract fail, and do its clauses rest on functions that ran?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hrmctl import Artifact, Context, MeasureSpec, Observation, Output, Problem, StageError, StageInputs, StageResult
from hrmctl.contract import Contract, Gate, load_contracts, prove_gate
from hrmctl.jsonio import canonical, write_atomic
from hrmctl.plugins import catalog
from hrmctl_audit.params import ContractsParams
from hrmctl_audit.tracing import traced_proof


@dataclass(frozen=True, slots=True)
class Finding:
    """One contract or gate; `uses` are those of measures. A gate measures nothing: it has neither clauses nor uses."""

    id: str
    file: str
    kind: str
    controls: int
    behaved: int
    mutants: int
    killed: int
    clauses: int
    clauses_ran: int
    clauses_measurable: int
    uses: int
    uses_ran: int
    faults: Sequence[str]


def run(params: ContractsParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Prove every contract and gate of the input `contracts` and count what was seen.

    A clause counts as run when the function of each measure that it reads was called in the proof and returned the
    field that the clause names: nothing is inferred from names. It counts as measurable when in addition a plugin
    provides every stage that is to report the evidence of these measures. Raises StageError where there is no
    contract, and InputError for one that does not load.
    """
    folder: Artifact = inputs["contracts"]
    measures, stages = catalog().measures, catalog().stages
    items = load_contracts([folder.path], measures)
    if not any(isinstance(item, Contract) for item in items):
        raise StageError(f"{folder.label} holds no contract, only gates; give a folder with contracts")
    found: list[Finding] = []
    for item in items:
        found.append(
            _of_gate(item, folder.path) if isinstance(item, Gate) else _of_contract(item, folder.path, measures, stages)
        )
        ctx.progress(len(found), len(items), mutants=sum(f.mutants for f in found))
    output = Output(ctx.scratch / "contracts.jsonl", f"{folder.label}/proofs")
    write_atomic(output.path, "".join(canonical(asdict(f)) + "\n" for f in found))
    about = {"contracts": folder}
    return StageResult({"proofs": output}, [_observed(name, *pair, about) for name, pair in _counts(found).items()])


def _of_gate(gate: Gate, folder: Path) -> Finding:
    proof = prove_gate(gate)
    behaved = sum(control.ok for control in proof.controls)
    faults = _faults(proof.problems, folder)
    return Finding(
        gate.id, _within(gate.file, folder), "gate", len(proof.controls), behaved, proof.total, proof.killed,
        0, 0, 0, 0, 0, faults,
    )  # fmt: skip


def _of_contract(
    contract: Contract, folder: Path, measures: Mapping[str, MeasureSpec], stages: Collection[str]
) -> Finding:
    proof, gave = traced_proof(contract, measures)
    ran = [all(_given(path, gave) for path in clause.paths()) for clause in contract.require]
    there = [all(_reported(path, contract, stages) for path in clause.paths()) for clause in contract.require]
    measurable = sum(both == (True, True) for both in zip(ran, there, strict=True))
    return Finding(
        contract.id, _within(contract.file, folder), "contract", len(proof.controls),
        sum(control.ok for control in proof.controls), proof.total, proof.killed, len(ran), sum(ran), measurable,
        len(contract.measures), len(gave), _faults(proof.problems, folder),
    )  # fmt: skip


def _given(path: str, gave: Mapping[str, set[str]]) -> bool:
    measure, _, field = path.partition(".")
    return field in gave.get(measure, ())


def _reported(path: str, contract: Contract, stages: Collection[str]) -> bool:
    """Whether a plugin provides each stage that the measure of `path` needs; the ledger's own evidence needs none."""
    pieces = [contract.evidence[name] for name in contract.measures[path.partition(".")[0]].of]
    return all(query.recorded or query.stage in stages for query in pieces)


def _faults(problems: Sequence[Problem], folder: Path) -> list[str]:
    return [str(replace(problem, file=_within(problem.file, folder))) for problem in problems]


def _within(file: str, folder: Path) -> str:
    path = Path(file)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _counts(found: Sequence[Finding]) -> dict[str, tuple[int, int]]:
    """How many, and of how many, by name of the measurement."""
    contracts = [f for f in found if f.kind == "contract"]
    return {
        "contracts": (len(contracts), len(contracts)),
        "gates": (len(found) - len(contracts), len(found)),
        "proven": (sum(not f.faults for f in found), len(found)),
        "controls_behaved": (sum(f.behaved for f in found), sum(f.controls for f in found)),
        "mutants_killed": (sum(f.killed for f in found), sum(f.mutants for f in found)),
        "clauses_run": (sum(f.clauses_ran for f in contracts), sum(f.clauses for f in contracts)),
        "clauses_measurable": (sum(f.clauses_measurable for f in contracts), sum(f.clauses for f in contracts)),
        "measures_run": (sum(f.uses_ran for f in contracts), sum(f.uses for f in contracts)),
    }


def _observed(name: str, count: int, n: int, about: dict[str, Artifact]) -> Observation:
    return Observation(name, "measurement/v1", {"value": count, "unit": "count", "n": n}, about)
