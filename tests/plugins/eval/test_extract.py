"""From what models write to programs: a corpus of completions as models really give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hrmctl_sandbox.programs import is_complete, program_of
from hrmctl_sandbox.programs.source import opens_body, parses

PREFIX = 'import math\n\n\ndef area(r):\n    """ Area of a circle.\n    >>> area(0)\n    0.0\n    """\n'
BODY = "    return math.pi * r ** 2\n"
WHOLE = "import math\n\ndef area(r):\n    return math.pi * r ** 2\n"

CONTINUED = {
    "just the body": (BODY, BODY),
    "no last line break": (BODY.rstrip(), BODY.rstrip()),
    "a second function": (BODY + "\n\ndef other():\n    pass\n", BODY + "\n\n"),
    "a decorator": (BODY + "\n@cache\ndef other():\n    pass\n", BODY + "\n"),
    "a call": (BODY + "\nprint(area(2))\n", BODY + "\n"),
    "own asserts": (BODY + "assert area(0) == 0\n", BODY),
    "a main guard": (BODY + '\nif __name__ == "__main__":\n    area(1)\n', BODY + "\n"),
    "prose": (BODY + "\nThis function multiplies pi by the square.\n", BODY + "\n"),
    "a docstring of the next problem": (BODY + '\n"""\nWrite a function\n"""\n', BODY + "\n"),
    "a closing fence": (BODY + "```\n\nHere pi is a constant.\n", BODY),
    "a comment at the margin inside": ("    x = r * r\n# half way\n    return math.pi * x\nx = 1\n",
                                       "    x = r * r\n# half way\n    return math.pi * x\n"),
    "a bracket closed at the margin": ("    return sum([\n        math.pi,\n]) * r ** 2\n\nprint(1)\n",
                                       "    return sum([\n        math.pi,\n]) * r ** 2\n\n"),
    "a string that reaches the margin": ('    text = """\nnot code\n"""\n    return math.pi * r ** 2\nx = 1\n',
                                         '    text = """\nnot code\n"""\n    return math.pi * r ** 2\n'),
    "nested functions": ("    def square(x):\n        return x * x\n    return math.pi * square(r)\n\ndef g(): pass\n",
                         "    def square(x):\n        return x * x\n    return math.pi * square(r)\n\n"),
    "a form feed": ("    x = r\f\n    return x\ny = 1\n", "    x = r\f\n    return x\n"),
    "carriage returns": (BODY.replace("\n", "\r\n") + "\r\nprint(1)\r\n", BODY + "\n"),
    "cut off inside a line": ("    if r < 0:\n        raise Value", "    if r < 0:\n        raise Value"),
    "a body that does not parse": ("    return (r\n\nprint(1)\n", "    return (r\n\n"),
    "a fence in a docstring": ('    """\n```\narea(1)\n```\n    """\n' + BODY,) * 2,
    "nothing": ("", ""),
    "only prose": ("I cannot do that.\n",) * 2,
}  # fmt: skip


@pytest.mark.parametrize("name", CONTINUED)
def test_what_continues_a_prefix(name: str) -> None:
    completion, kept = CONTINUED[name]
    assert program_of(completion, PREFIX, "area") == PREFIX + kept


STATED_AGAIN = {
    "plain": WHOLE,
    "fenced": f"```python\n{WHOLE}```",
    "a chat answer": f"Sure! Here is the function:\n\n```python\n{WHOLE}```\n\nIt uses `math.pi`.",
    "a bare fence": f"Here you go:\n```\n{WHOLE}```\n",
    "an open fence": f"```python\n{WHOLE}",
    "tildes": f"~~~py\n{WHOLE}~~~\n",
    "the second block": f"Install:\n```bash\npip install x\n```\nThen:\n```python\n{WHOLE}```\n",
    "after reasoning": f"<think>\nLet me see.\n```python\ndef area(r): return 0\n```\n</think>\n```python\n{WHOLE}```",
    "with an example": f"```python\n{WHOLE}\n# Example\nprint(area(2))\n```",
}


@pytest.mark.parametrize("prefix", [PREFIX, "def area(r):\n", ""])
@pytest.mark.parametrize("name", STATED_AGAIN)
def test_a_function_stated_again_takes_the_place_of_the_prefix(name: str, prefix: str) -> None:
    program = program_of(STATED_AGAIN[name], prefix, "area")
    assert parses(program)
    space: dict[str, Any] = {}
    exec(compile(program, "program", "exec"), space)
    assert space["area"](1) == pytest.approx(3.14159, abs=1e-4)
    assert "print" not in program


ALONE = {
    "a whole program": (WHOLE, WHOLE),
    "helpers and constants after it": (WHOLE + "\nTWO = 2\n\ndef helper():\n    return TWO\n",) * 2,
    "a separator in a string": ('def area(r):\n    return "\x1c\u2028"\nprint(1)\n',
                                'def area(r):\n    return "\x1c\u2028"\n'),
    "printed examples": (WHOLE + "\nprint(area(2))\nprint(area(3))\n", WHOLE + "\n"),
    "own asserts that fail": (WHOLE + "assert area(1) == 1\n", WHOLE),
    "the next problem of a run-on": (WHOLE + '\n"""\nWrite a function to add.\n"""\ndef add(a, b):\n    return a + b\n',
                                     WHOLE + "\n"),
    "code before the definition stays": ("import sys\nsys.setrecursionlimit(9999)\n" + WHOLE,) * 2,
    "prose before": ("Here is the code you asked for:\n\n" + WHOLE, WHOLE),
    "prose after": (WHOLE + "\nThe function returns the area, as wanted.\n", WHOLE + "\n"),
    "cut off in the next function": (WHOLE + "\ndef other(x):\n    return [x for", WHOLE + "\n"),
    "cut off in the function itself": ("def area(r):\n    return math.pi * (r",) * 2,
    "prose alone": ("I am not able to help.", "I am not able to help."),
    "a function of another name": ("def other(r):\n    return 1\nprint(other(1))\n",) * 2,
}  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_programs_that_stand_alone(name: str) -> None:
    completion, kept = ALONE[name]
    assert program_of(completion, "", "area") == kept


def test_a_prefix_inside_a_class_is_left_by_the_next_method() -> None:
    prefix = "class Circle:\n    def __init__(self, r):\n        self.r = r\n\n    def area(self):\n"
    body = "        return 3 * self.r ** 2\n"
    assert program_of(body + "\n    def other(self):\n        pass\n", prefix) == prefix + body + "\n"


def test_a_prefix_that_is_whole_is_not_a_body() -> None:
    assert not opens_body("import math\n")
    assert (
        program_of("x = 1\n\ndef f():\n    return x\n", "import math\n")
        == "import math\nx = 1\n\ndef f():\n    return x\n"
    )


@pytest.mark.parametrize(
    "hostile",
    ["(" * 100_000, "-" * 100_000 + "1", "a." * 50_000 + "b", "1" * 50_000, "x = 1\0", "\ud800", "```" * 10_000,
     "x = 1\n" * 100_000, "def f():\n" * 5_000, '"\\q" ' * 1_000, "\n" * 300_000],
)  # fmt: skip
def test_nothing_that_a_model_may_write_disturbs_it(hostile: str) -> None:
    program_of(hostile, "", "f")
    program_of(hostile, "def f(x):\n", "f")
    assert parses(hostile) in (True, False)
    assert is_complete(hostile, "def f(x):\n", "f") in (True, False)


@pytest.mark.parametrize(
    ("text", "prefix", "complete"),
    [
        (BODY, PREFIX, False),
        (BODY + "\n\n# note\n", PREFIX, False),
        (BODY + "\nprint(", PREFIX, False),
        (BODY + "\nprint(1)\n", PREFIX, True),
        ("def area(r):\n", PREFIX, False),
        ("\n\nprint(1)\n", PREFIX, False),
        ("```python\n" + WHOLE, PREFIX, False),
        ("```python\n" + WHOLE + "```\n", PREFIX, True),
        ("<think>\n```python\n" + WHOLE + "```\n", PREFIX, False),
        (WHOLE, "", False),
        (WHOLE + "def helper():\n    pass\n", "", False),
        (WHOLE + "\nassert area(0) == 0\n", "", True),
        ("print(1)\n", "", False),
        ("Prose that is not code.\n", "", False),
    ],
)
def test_generation_may_end_where_more_would_be_left_out(text: str, prefix: str, complete: bool) -> None:
    assert is_complete(text, prefix, "area") is complete
    if complete:
        longer = text + "\ndef f(x):\n    return 1\n\nprint(2)\n"
        assert program_of(longer, prefix, "area").rstrip() == program_of(text, prefix, "area").rstrip()


def test_real_references_come_through_unchanged(shared_data: Path) -> None:
    from hrmctl_data.benchmarks import humaneval, mbpp

    rows = [row for rows in mbpp(shared_data / "mbpp.jsonl").values() for row in rows]
    rows += humaneval(shared_data / "HumanEval.jsonl.gz")["test"]
    assert len(rows) == 974 + 164
    for row in rows:
        completion, prefix, name = row["completion"], row.get("prefix", ""), row["entry_point"]
        assert program_of(completion, prefix, name) == prefix + completion, row["task_id"]
        lines = completion.splitlines(keepends=True)
        parts = ["".join(lines[: end + 1]) for end in range(len(lines))]
        assert not any(is_complete(part, prefix, name) for part in parts), row["task_id"]
        run_on = f"{completion}\nprint({name})\n"
        assert program_of(run_on, prefix, name).rstrip() == (prefix + completion).rstrip(), row["task_id"]
