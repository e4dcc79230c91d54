"""The stage eval-puzzles: the rules on right and wrong answers, both kinds of model, and what is measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hrmctl_data import maze as made_mazes
from hrmctl_data import sudoku as made_sudoku
from hrmctl_data.puzzle_params import MazeParams, SudokuParams
from hrmctl_eval.puzzle_answers import Answered, Halt, PuzzleAnswer
from hrmctl_eval.puzzle_params import PuzzleParams
from hrmctl_eval.puzzle_rules import PuzzleTask, read_puzzles
from hrmctl_eval.puzzles import of_answers, of_puzzles, run
from hrmctl_models.loading import build, save
from hrmctl_models.tokenizers import character_tokenizer, train_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from hrmctl import Artifact, InputError, StageError, StageResult
from hrmctl.testing import make_artifact, make_context

SOLVED = "1234341221434321"
FOUR = PuzzleTask("four", "sudoku", "12.4341.214343.1", SOLVED)
SIX = PuzzleTask("six", "sudoku", "." * 36, "123456456123231564564231312645645312")
MAZE = PuzzleTask("maze", "maze", "S..#.####.G##..#", "S..#.####.G##..#")
# Two ways from S to G: the short one through the top, the long one around.
RING = PuzzleTask("ring", "maze", "S.G" + ".#." + "...", "SoG.#....")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (SOLVED, "passed"),
        (SOLVED[:-1], "wrong_length"),
        (SOLVED + "1", "wrong_length"),
        ("", "wrong_length"),
        (SOLVED.replace("3", ".", 1), "bad_symbol"),
        (SOLVED.replace("3", "5", 1), "bad_symbol"),
        (SOLVED.replace("3", "?", 1), "bad_symbol"),
        ("2134341221434321", "changed_given"),
        # A solved grid all the same, but of another puzzle.
        (SOLVED.translate(str.maketrans("12", "21")), "changed_given"),
        ("1224341221434321", "breaks_rules"),
    ],
)
def test_sudoku_is_judged_by_its_rules(answer: str, outcome: str) -> None:
    assert FOUR.outcome(answer) == outcome


def test_any_solution_counts_and_boxes_do() -> None:
    assert SIX.outcome(SIX.completion) == "passed"
    assert SIX.outcome(SIX.completion.translate(str.maketrans("123", "231"))) == "passed"
    # Rows and columns are right, boxes are not.
    latin = "".join("123456"[i:] + "123456"[:i] for i in range(6))
    assert SIX.outcome(latin) == "breaks_rules"
    rows_and_boxes = "123456456123" * 3
    assert SIX.outcome(rows_and_boxes) == "breaks_rules"
    columns_and_boxes = "".join(rows_and_boxes[i::6] for i in range(6))
    assert SIX.outcome(columns_and_boxes) == "breaks_rules"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("SoG.#....", "passed"),
        ("S.G.#....", "no_path"),
        ("S.Go#oooo", "not_shortest"),
        ("SoGo#....", "not_shortest"),
        ("SoG.#...o", "not_shortest"),
        ("SoGooo...", "changed_given"),
        ("SoG......", "changed_given"),
        ("SoS.#....", "changed_given"),
        ("ooG.#....", "changed_given"),
        ("SoG##....", "bad_symbol"),
        ("SxG.#....", "bad_symbol"),
        ("SoG.#...", "wrong_length"),
    ],
)
def test_mazes_are_judged_by_their_rules(answer: str, outcome: str) -> None:
    assert RING.outcome(answer) == outcome


def test_either_of_two_shortest_paths_counts() -> None:
    square = PuzzleTask("square", "maze", "S..G", "SoG.")
    assert square.outcome("So.G") == square.outcome("S.oG") == "passed"
    assert square.outcome("SooG") == "not_shortest"


def test_a_row_does_not_go_on_in_the_next() -> None:
    """The last cell of a row and the first of the next are no neighbours."""
    assert PuzzleTask("wrap", "maze", "..SG.....", "..SG.....").outcome("..SG.....") == "no_path"


@given(st.sampled_from([FOUR, RING]), st.text("1234.#SGo", min_size=1, max_size=16))
def test_any_text_has_an_outcome_and_only_solutions_pass(task: PuzzleTask, text: str) -> None:
    assert (task.outcome(text) == "passed") == (text == task.completion)


def test_references_of_both_generators_pass(tmp_path: Path) -> None:
    """The generators and the rules share no code."""
    sizes: dict[str, Any] = {"train": 10, "test": 5, "augment": 2}
    results = [
        made_sudoku.run(SudokuParams(size=4, **sizes), {}, make_context(tmp_path / "4")),
        made_sudoku.run(SudokuParams(size=6, **sizes), {}, make_context(tmp_path / "6")),
        made_sudoku.run(SudokuParams(size=9, **sizes), {}, make_context(tmp_path / "9")),
        made_mazes.run(MazeParams(size=9, **sizes), {}, make_context(tmp_path / "maze")),
    ]
    tasks = [task for result in results for output in result.artifacts.values() for task in read_puzzles(output.path)]
    assert len(tasks) > 100
    assert {task.outcome(task.completion) for task in tasks} == {"passed"}
    assert "passed" not in {task.outcome(task.prompt) for task in tasks}


def row(task: PuzzleTask) -> dict[str, str]:
    return {"task_id": task.task_id, "source": task.source, "prompt": task.prompt, "completion": task.completion}


def dataset(path: Path, tasks: Sequence[PuzzleTask], label: str = "sudoku-4@test") -> Artifact:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row(task)) + "\n" for task in tasks), encoding="utf-8")
    return make_artifact(path, "dataset", label)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "chess"}, "no rules for puzzles of source 'chess'; known are maze, sudoku"),
        ({"source": None}, "task_id, source, prompt and completion must all be there"),
        ({"prompt": ""}, "task_id, source, prompt and completion must all be there"),
        ({"completion": "12"}, "the completion has 2 cells, the prompt 16"),
        ({"prompt": "1" * 25, "completion": "1" * 25}, "a sudoku has 16, 36 or 81 cells, this one 25"),
        ({"prompt": "5" + "." * 15}, "'5' is neither a digit of this size nor '.'"),
        ({"source": "maze", "prompt": "S..", "completion": "S.."}, "3 cells are no square"),
        ({"source": "maze", "prompt": "S.x#", "completion": "S.x#"}, "'x' is none of the signs"),
        ({"source": "maze", "prompt": "S.S#", "completion": "S.S#"}, "a maze has one S and one G"),
        ({"task_id": "four"}, "task_id four occurs twice"),
    ],
)
def test_rows_that_are_no_puzzles_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(row(FOUR)) + "\n" + json.dumps({**row(FOUR), "task_id": "b", **change}) + "\n")
    with pytest.raises(StageError) as caught:
        read_puzzles(path)
    assert message in str(caught.value)
    assert [problem.line for problem in caught.value.problems] == [2]


@pytest.mark.parametrize(("text", "message"), [("{", "not a JSON object"), ("[]", "not a JSON object"), ("", "no puz")])
def test_files_that_are_no_data_set_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    with pytest.raises(StageError, match=message):
        read_puzzles(path)


def said(*texts: str) -> list[PuzzleAnswer]:
    return [PuzzleAnswer(text, len(text)) for text in texts]


def test_measurements_of_answers() -> None:
    tasks = [FOUR, FOUR, FOUR, FOUR]
    wrong = "1234341221434322"
    texts = [SOLVED, wrong, SOLVED[:4], SOLVED]
    answered = Answered(said(*texts), 2.5, [Halt(1, 0.5), Halt(8, -2.0), Halt(3, 0.0), Halt(8, -0.1)], 8)
    outcomes = [task.outcome(text) for task, text in zip(tasks, texts, strict=True)]
    found = {name: (p["value"], p["n"]) for name, p in of_answers(tasks, answered, outcomes).items()}
    assert found == {
        "exact_accuracy": (0.5, 4),
        # Open are cells 2, 7 and 14: the third answer has only the first of them.
        "cell_accuracy": (10 / 12, 12),
        "cell_accuracy_all": ((16 + 15 + 4 + 16) / 64, 64),
        "tokens_generated": (52, 4),
        "solve_seconds": (2.5, 4),
        "mean_steps": (5.0, 4),
        "halt_max_steps": (8, 4),
        "halted_early": (0.5, 4),
        # The Q-value of 0 says right and that answer is not; the last is right and its Q-value says no.
        "q_halt_accuracy": (0.5, 4),
    }


def test_a_causal_model_has_no_halting() -> None:
    assert "mean_steps" not in of_answers([FOUR], Answered(said(SOLVED), 0.1), ["passed"])


def test_baselines_without_a_model() -> None:
    easy = PuzzleTask("easy", "sudoku", "1234341221434.21", SOLVED)
    found = {name: p["value"] for name, p in of_puzzles([FOUR, easy], seed=1).items()}
    # The open cells hold 3, 2, 2 and 3: the first of the two most frequent fills them all.
    assert found["frequent_exact_accuracy"] == 0.5
    assert found["frequent_cell_accuracy"] == 0.5
    assert found["open_cells"] == 2
    assert found["reference_failures"] == 0
    broken = PuzzleTask("broken", "sudoku", easy.prompt, "1" * 16)
    assert of_puzzles([easy, broken], seed=1)["reference_failures"]["value"] == 1
    many = [PuzzleTask(str(i), "sudoku", easy.prompt, SOLVED) for i in range(50)] + [FOUR] * 50
    guessed = of_puzzles(many, seed=1)
    assert guessed == of_puzzles(many, seed=1)
    assert guessed != of_puzzles(many, seed=2)
    assert 0 < guessed["guess_exact_accuracy"]["value"] < 1
    assert 0.2 < guessed["guess_cell_accuracy"]["value"] < 0.8


LEARNED = [FOUR, PuzzleTask("other", "sudoku", "...." + SOLVED[4:], SOLVED)]
TWISTED = PuzzleTask("twisted", "sudoku", "..12............", "3412123443212143")


def learned_in_place(folder: Path) -> Artifact:
    """An in-place model that has learned to answer `SOLVED` whatever it is asked."""
    tokenizer = character_tokenizer([".1234"])
    model = build("hrm-act-tiny", len(tokenizer), {"bos": None, "eos": 1, "pad": 0}, seed=1)
    questions = torch.tensor([tokenizer(task.prompt)["input_ids"] for task in LEARNED])
    answers = torch.tensor([tokenizer(task.completion)["input_ids"] for task in LEARNED])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(25):
        optimizer.zero_grad()
        model(input_ids=questions, labels=answers).loss.backward()
        optimizer.step()
    save(model.eval(), tokenizer, folder)
    return make_artifact(folder, "model", "hrm-act-tiny")


def learned_causal(folder: Path) -> Artifact:
    """A language model that has learned the two puzzles, in tokens of several cells."""
    texts = [text for task in LEARNED for text in (task.prompt, task.completion)]
    tokenizer = train_tokenizer(texts * 3, 270)
    model = build("gpt2-micro", len(tokenizer), {"bos": 1, "eos": 2, "pad": 0}, seed=1)
    pairs = [(tokenizer(t.prompt)["input_ids"], tokenizer(t.completion)["input_ids"] + [2]) for t in LEARNED]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        for head, tail in pairs:
            ids = torch.tensor([head + tail])
            labels = ids.clone()
            labels[:, : len(head)] = -100
            model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    save(model.eval(), tokenizer, folder)
    return make_artifact(folder, "model", "gpt2-micro")


def evaluated(folder: Path, model: Artifact, tasks: Sequence[PuzzleTask], **params: Any) -> StageResult:
    inputs = {"model": model, "tasks": (dataset(folder / "tasks.jsonl", tasks),)}
    return run(PuzzleParams(**params), inputs, make_context(folder))


@pytest.mark.parametrize("learned", [learned_in_place, learned_causal])
def test_a_model_is_judged(tmp_path: Path, learned: Any) -> None:
    model = learned(tmp_path / "model")
    result = evaluated(tmp_path / "a", model, [*LEARNED, TWISTED])
    observed = {o.name: o for o in result.evidence}
    samples = observed["samples"].payload
    assert (samples["n"], samples["limit"], samples["dataset_problems"]) == (1, 0, 3)
    assert samples["engine"] == ("in place" if learned is learned_in_place else "greedy")
    assert [(p["id"], p["c"]) for p in samples["problems"]] == [("four", 1), ("other", 1), ("twisted", 0)]
    assert samples["problems"][2]["outcomes"] != ["passed"]
    assert observed["exact_accuracy"].payload["value"] == 2 / 3
    assert ("mean_steps" in observed) == (learned is learned_in_place)
    assert observed["example"].payload["completion"] == SOLVED
    assert all(o.about.keys() == {"model", "dataset"} for o in result.evidence)
    output = result.artifacts["samples"]
    assert output.label == f"{model.label}/sudoku-4@test"
    written = [json.loads(line) for line in output.path.read_text(encoding="utf-8").splitlines()]
    assert [(r["task_id"], r["answer"] == SOLVED) for r in written][:2] == [("four", True), ("other", True)]
    # One at a time gives the same.
    alone = evaluated(tmp_path / "b", model, [*LEARNED, TWISTED], batch_size=1)
    again = [json.loads(line)["answer"] for line in alone.artifacts["samples"].path.read_text().splitlines()]
    assert again == [r["answer"] for r in written]


def test_limit_sizes_and_progress(tmp_path: Path) -> None:
    tokenizer = character_tokenizer([".123456"])
    folder = tmp_path / "model"
    save(build("hrm-act-tiny", len(tokenizer), {"bos": None, "eos": 1, "pad": 0}, seed=1), tokenizer, folder)
    model = make_artifact(folder, "model", "hrm-act-tiny")
    ctx = make_context(tmp_path)
    inputs = {
        "model": model,
        "tasks": (
            dataset(tmp_path / "a.jsonl", [FOUR, SIX, TWISTED], "mixed@test"),
            dataset(tmp_path / "b.jsonl", [FOUR], "four@test"),
        ),
    }
    result = run(PuzzleParams(limit=2), inputs, ctx)
    samples = [o.payload for o in result.evidence if o.name == "samples"]
    assert [(s["limit"], s["dataset_problems"], len(s["problems"])) for s in samples] == [(2, 3, 2), (0, 1, 1)]
    written = [json.loads(line) for line in result.artifacts["samples"].path.read_text().splitlines()]
    assert [(r["task"], r["task_id"], len(r["answer"])) for r in written] == [
        ("mixed@test", "four", 16),
        ("mixed@test", "six", 36),
        ("four@test", "four", 16),
    ]
    assert all(1 <= r["steps"] <= 8 for r in written)
    assert ctx.rows[-1][:2] == (3, 3)


def test_cells_that_the_tokenizer_does_not_know_are_an_error(tmp_path: Path) -> None:
    tokenizer = character_tokenizer([".123"])
    save(build("hrm-act-tiny", len(tokenizer), {"bos": None, "eos": 1, "pad": 0}, seed=1), tokenizer, tmp_path / "m")
    with pytest.raises(StageError, match="four: the character '4' is not in the model"):
        evaluated(tmp_path, make_artifact(tmp_path / "m", "model", "hrm-act-tiny"), [FOUR])


def test_tasks_are_needed_once_each(tmp_path: Path) -> None:
    task = dataset(tmp_path / "t.jsonl", [FOUR])
    model = make_artifact(tmp_path / "t.jsonl", "model", "none")
    with pytest.raises(InputError, match="no task"):
        run(PuzzleParams(), {"model": model}, make_context(tmp_path))
    with pytest.raises(InputError, match="given twice"):
        run(PuzzleParams(), {"model": model, "tasks": (task, task)}, make_context(tmp_path))
