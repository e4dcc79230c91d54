"""Deep supervision with halting: what each slot works on, what it learns, and what is told of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hrmctl_models.hrm_act import HrmActConfig, HrmActForCausalLM
from hrmctl_models.hrm_act.losses import token_losses
from hrmctl_models.tokenizers import character_tokenizer
from hrmctl_training.act import ActObjective
from hrmctl_training.examples import IGNORED, Batch, Example
from hrmctl_training.in_place import InPlaceExample, InPlaceExamples, collate_in_place
from hrmctl_training.order import Mixed
from torch.nn import functional

from hrmctl import InputError, StageError

LENGTH, SLOTS = 6, 4
NEVER, ALWAYS = (-9.0, 9.0), (9.0, -9.0)


def model_of(q: tuple[float, float] = NEVER, **options: Any) -> HrmActForCausalLM:
    """A model whose Q-head says `q`, (halting, going on), whatever it sees."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 9, "hidden_size": 16, "num_attention_heads": 2, "intermediate_multiple": 16}
    fixed = {"H_layers": 1, "L_layers": 1, "halt_max_steps": 3, "halt_exploration_prob": 0.0}
    model = HrmActForCausalLM(HrmActConfig(**{**sizes, **fixed, **options})).train()
    with torch.no_grad():
        model.q_head.bias.copy_(torch.tensor(q))
    return model


def objective_of(model: HrmActForCausalLM, **options: Any) -> ActObjective:
    return ActObjective(model, 0, SLOTS, LENGTH, **{"masked": False, **options})


def batch_of(seed: int, rows: int = SLOTS, length: int = LENGTH) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    inputs, labels = torch.randint(1, 9, (2, rows, length), generator=draw)
    return Batch(inputs, labels, tuple(range(rows)), rows * length)


def carry_of(objective: ActObjective, turn: int = 0) -> dict[str, torch.Tensor]:
    return dict(objective.state()["carries"][turn])


def test_slots_keep_their_rows_until_their_last_segment() -> None:
    objective = objective_of(model_of())
    for step in range(1, 4):
        objective.loss(batch_of(step))
        carry = carry_of(objective)
        assert torch.equal(carry["inputs"], batch_of(1).input_ids)
        assert carry["steps"].tolist() == [step] * SLOTS
        assert carry["halted"].tolist() == [step == 3] * SLOTS
    objective.loss(batch_of(4))
    assert torch.equal(carry_of(objective)["labels"], batch_of(4).labels)
    assert carry_of(objective)["steps"].tolist() == [1] * SLOTS


def test_slots_that_halt_take_the_row_of_their_number_and_begin_anew() -> None:
    model = model_of()
    objective = objective_of(model)
    objective.loss(batch_of(1))
    state = copy.deepcopy(dict(objective.state()))
    state["carries"][0]["halted"][2] = True
    objective.load_state(state)
    objective.loss(batch_of(2))
    carry, fresh = carry_of(objective), objective_of(model)
    assert carry["steps"].tolist() == [2, 2, 1, 2]
    assert torch.equal(carry["inputs"][2], batch_of(2).input_ids[2])
    assert torch.equal(carry["inputs"][[0, 1, 3]], batch_of(1).input_ids[[0, 1, 3]])
    fresh.loss(batch_of(2))
    assert torch.allclose(carry["z_H"][2], carry_of(fresh)["z_H"][2], atol=1e-6)


def test_nothing_of_one_row_reaches_another() -> None:
    model, first, second = model_of(), batch_of(1), batch_of(1)
    second.input_ids[1:] = batch_of(2).input_ids[1:]
    one, other = objective_of(model), objective_of(model)
    for _ in range(2):
        one.loss(first)
        other.loss(second)
    for name in ("z_H", "z_L"):
        assert torch.allclose(carry_of(one)[name][0], carry_of(other)[name][0], atol=1e-6)
        assert not torch.allclose(carry_of(one)[name][1], carry_of(other)[name][1], atol=1e-2)


def test_q_head_halts_at_once_unless_the_lot_says_later() -> None:
    at_once = objective_of(model_of(ALWAYS))
    at_once.loss(batch_of(1))
    assert carry_of(at_once)["halted"].all()
    explored = objective_of(model_of(ALWAYS, halt_exploration_prob=1.0, halt_max_steps=9))
    torch.manual_seed(1)
    explored.loss(batch_of(1))
    assert not carry_of(explored)["halted"].any()
    seen: set[int] = set()
    for step in range(40):
        explored.loss(batch_of(step))
        carry = carry_of(explored)
        seen |= set(carry["steps"][carry["halted"]].tolist())
    assert len(seen) > 2
    assert 1 not in seen


@pytest.mark.parametrize("step", [1, 3])
def test_loss_is_the_sum_of_its_three_parts(step: int) -> None:
    """Against the definition, with values of the Q-head that depend on the state."""
    model = model_of()
    with torch.no_grad():
        model.q_head.weight.copy_(torch.randn(2, 16) * 0.2)
        model.q_head.bias.copy_(torch.tensor([-2.0, 2.0]))
    objective, batch = objective_of(model), batch_of(1)
    batch.labels[0, :3] = IGNORED
    batch.labels[1] = IGNORED
    for _ in range(step):
        found = objective.loss(batch)
    backbone = model.model
    embeddings = backbone.embed(batch.input_ids, slice(0, LENGTH))
    sight, states = model.sight(embeddings, None), backbone.initial(embeddings)
    with torch.no_grad():
        for _ in range(step):
            states = backbone.segment(states, embeddings, sight)
        here, after = model.read(states), model.read(backbone.segment(states, embeddings, sight))
    count = (batch.labels != IGNORED).sum(1)
    language = (token_losses(here.logits, batch.labels, "stablemax").sum(1) / count.clamp(min=1)).sum()
    right = ((here.logits.argmax(-1) == batch.labels) | (batch.labels == IGNORED)).all(1).float()
    best = after.q_halt if step == 3 else torch.maximum(after.q_halt, after.q_continue)
    halting = functional.binary_cross_entropy_with_logits(here.q_halt, right, reduction="sum")
    going_on = functional.binary_cross_entropy_with_logits(here.q_continue, best.sigmoid(), reduction="sum")
    assert found.total.item() == pytest.approx((language + (halting + going_on) / 2).item(), rel=1e-6)
    sums = {name: float(total) for name, (total, _) in found.sums.items()}
    assert sums["q_continue_loss"] == pytest.approx(going_on.item(), rel=1e-5)
    # A row without labels counts in no accuracy, and a row that still runs in none either.
    assert found.sums["exact_accuracy"][1] == (3 if step == 3 else 0)


def test_target_of_going_on_has_no_gradient() -> None:
    model = model_of()
    with torch.no_grad():
        model.q_head.weight.copy_(torch.randn(2, 16))
    calls: list[bool] = []
    model.model.H_level.register_forward_hook(lambda _m, _i, out: calls.append(out.requires_grad))
    objective_of(model).loss(batch_of(1)).total.backward()
    # The last pass of the segment, and neither of the next one's.
    assert calls == [False, True, False, False]


def test_without_a_continuing_value_there_is_one_pass_and_no_loss_of_it() -> None:
    model = model_of(q_continue=False)
    calls: list[int] = []
    model.model.H_level.register_forward_hook(lambda *_: calls.append(1))
    loss = objective_of(model).loss(batch_of(1))
    assert len(calls) == model.config.H_cycles
    assert float(loss.sums["q_continue_loss"][0]) == 0
    loss.total.backward()
    assert not model.q_head.weight.grad[1].any()
    assert model.q_head.weight.grad[0].any()


def test_small_batch_fills_every_slot() -> None:
    objective = objective_of(model_of())
    objective.loss(batch_of(1, rows=3, length=4))
    inputs = carry_of(objective)["inputs"]
    assert torch.equal(inputs[3], inputs[0])
    assert inputs.shape == (SLOTS, LENGTH)
    assert (carry_of(objective)["labels"][:, 4:] == IGNORED).all()
    assert objective.units(batch_of(1, rows=3)) == SLOTS
    objective.model.eval()
    assert objective.units(batch_of(1, rows=3)) == 3


def test_padding_is_seen_only_where_rows_are_alike() -> None:
    batch = batch_of(1)
    batch.input_ids[:, 4:] = 0
    batch.labels[:, 4:] = IGNORED
    shorter = Batch(batch.input_ids[:, :4], batch.labels[:, :4], batch.lines, batch.tokens)
    losses = {}
    for masked in (True, False):
        longer = ActObjective(model_of(), 0, SLOTS, LENGTH, masked=masked).loss(batch).total.item()
        losses[masked] = longer == pytest.approx(ActObjective(model_of(), 0, SLOTS, 4).loss(shorter).total.item())
    assert losses == {True: True, False: False}


def test_broken_slot_is_given_a_new_row() -> None:
    objective = objective_of(model_of())
    objective.loss(batch_of(1))
    state = copy.deepcopy(dict(objective.state()))
    state["carries"][0]["z_H"][1] = torch.nan
    objective.load_state(state)
    assert not torch.isfinite(objective.loss(batch_of(2)).total)
    assert carry_of(objective)["halted"].tolist() == [False, True, False, False]
    assert torch.isfinite(objective.loss(batch_of(3)).total)


def test_restored_objective_goes_on_with_every_bit() -> None:
    def steps(objective: ActObjective, numbers: range) -> list[float]:
        return [objective.loss(batch_of(n)).total.item() for n in numbers if torch.manual_seed(n)]

    whole = objective_of(model_of(halt_exploration_prob=0.5), passes=2)
    expected = steps(whole, range(1, 12))
    first = objective_of(model_of(halt_exploration_prob=0.5), passes=2)
    assert steps(first, range(1, 6)) == expected[:5]
    second = objective_of(model_of(halt_exploration_prob=0.5), passes=2)
    second.load_state(first.state())
    assert steps(second, range(6, 12)) == expected[5:]
    fresh = objective_of(model_of(halt_exploration_prob=0.5), passes=2)
    assert steps(fresh, range(6, 12)) != expected[5:]


def test_forward_passes_of_a_step_have_slots_of_their_own() -> None:
    objective = objective_of(model_of(), passes=2)
    for n in (1, 2, 3):
        objective.loss(batch_of(n))
    assert [carry_of(objective, turn)["steps"][0].item() for turn in (0, 1)] == [2, 1]
    assert torch.equal(carry_of(objective, 1)["inputs"], batch_of(2).input_ids)


def test_evaluation_agrees_with_solving() -> None:
    model = model_of(halt_max_steps=6)
    with torch.no_grad():
        model.q_head.weight[0] = 1.5 * torch.randn(16)
        model.q_head.bias.zero_()
    model.eval()
    batch = batch_of(3, rows=16)
    solved = model.solve(batch.input_ids)
    assert len(set(solved.steps.tolist())) > 1
    # Half of the rows are right where they halt.
    batch.labels[::2] = solved.tokens[::2]
    with torch.no_grad():
        found = objective_of(model).evaluate(batch)
    sums = {name: (float(total), count) for name, (total, count) in found.sums.items()}
    assert sums["halted_exact_accuracy"] == ((solved.tokens == batch.labels).all(1).sum().item(), 16)
    assert sums["halt_steps"] == (solved.steps.sum().item(), 16)
    last = model(batch.input_ids).logits.argmax(-1) == batch.labels
    assert sums["exact_accuracy"] == (last.all(1).sum().item(), 16)
    assert sums["token_accuracy"][0] == pytest.approx(last.float().mean(1).sum().item())


def test_causal_rows_are_shifted_and_judged_at_their_last_answer() -> None:
    model = model_of(causal=True, loss_type="softmax", halt_max_steps=1)
    with torch.no_grad():
        model.q_head.weight[0] = torch.randn(16)
    rows = [Example(1, [3, 4, 5, 6, 7, 2], 3), Example(2, [3, 4, 5, 2], 2)]
    objective = ActObjective.for_examples(model, 0, rows, batch=2)
    batch = objective.collate(rows)
    loss = objective.loss(batch)
    expected = 0.0
    for row in rows:
        with torch.no_grad():
            ids = torch.tensor([row.ids])
            logits = model(ids, use_cache=False).logits[0, row.start - 1 : -1]
            embeddings = model.model.embed(ids[:, :-1], slice(0, len(row.ids) - 1))
            segment = model.segment(model.model.initial(embeddings), embeddings, model.sight(embeddings, None))
        targets = torch.tensor(row.ids[row.start :])
        right = (logits.argmax(-1) == targets).all().float()
        expected += functional.cross_entropy(logits, targets).item()
        expected += functional.binary_cross_entropy_with_logits(segment.q_halt[0], right).item() / 2
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)


def encoded(prompt: str, completion: str, line: int = 1) -> Example:
    ids = [*TOKENIZER(prompt)["input_ids"], *TOKENIZER(completion)["input_ids"], TOKENIZER.eos_token_id]
    return Example(line, ids, len(prompt))


TOKENIZER = character_tokenizer(["1234."])


def test_rows_become_questions_and_answers_of_one_length() -> None:
    rows = InPlaceExamples([encoded("1..", "123"), encoded("4.", "41", 2)], TOKENIZER, lambda _: "file")
    vocabulary = TOKENIZER.get_vocab()
    assert rows[1] == InPlaceExample(2, [vocabulary["4"], vocabulary["."]], [vocabulary["4"], vocabulary["1"]])
    assert rows.lengths.tolist() == [3, 2]
    batch = collate_in_place([rows[0], rows[1]], pad=0)
    assert batch.input_ids[1].tolist() == [vocabulary["4"], vocabulary["."], 0]
    assert batch.labels[1].tolist() == [vocabulary["4"], vocabulary["1"], IGNORED]
    assert (batch.lines, batch.tokens) == ((1, 2), 5)


@pytest.mark.parametrize(
    ("prompt", "completion", "said"),
    [
        ("12.", "12", "3 tokens and the completion 2"),
        ("1x.", "123", "character 2 of the prompt"),
        ("1", "y", "1 of the c"),
    ],
)
def test_row_that_cannot_be_answered_in_place_is_named(prompt: str, completion: str, said: str) -> None:
    rows = [encoded("1.", "12"), encoded(prompt, completion, 17)]
    with pytest.raises(StageError) as error:
        InPlaceExamples(rows, TOKENIZER, lambda number: f"file-{number}")
    assert said in str(error.value)
    assert "file-1:17" in str(error.value)


def test_mixed_data_sets_keep_their_shares() -> None:
    mixed = Mixed([[encoded("1.", "12")], [encoded("2.", "21", 2)]], [1, 3])
    rows = InPlaceExamples(mixed, TOKENIZER, lambda _: "file")
    assert rows.epoch_size == 4
    assert rows.drawn(0, 0).tolist() == mixed.drawn(0, 0).tolist()


def test_rows_longer_than_the_model_are_refused() -> None:
    model = model_of(max_position_embeddings=2)
    with pytest.raises(InputError, match=r"3 positions and the model 2"):
        ActObjective.for_examples(model, 0, [InPlaceExample(1, [1, 2, 3], [1, 2, 3])], batch=1)
