"""How evalplus 0.3.1 decides whether an output is right, as source for the judge.

Written after `unsafe_execute` of evalplus/eval/__init__.py and evalplus/eval/_special_oracle.py (Apache-2.0). It
imports nothing: imports of a judge's setup are visible to the program. Where evalplus asks numpy.allclose, shapes that
numpy would broadcast into each other are different here.
"""

from __future__ import annotations

from collections.abc import Mapping

NOT_NONE = "not none"
MBPP_RULES: Mapping[str, str] = {
    **dict.fromkeys(("check_str", "text_match_three", "text_starta_endb"), NOT_NONE),
    **dict.fromkeys(
        (
            *("similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly"),
            *("larg_nnum", "intersection_array", "find_dissimilar", "Diff"),
        ),
        "same members",
    ),
    "sum_div": "or zero",
    "surface_Area": "or pyramid",
    "digit_distance_nums": "or digits",
}
"""Rule by entry point; every other output is compared as it is.

evalplus lets any output of `are_equivalent` (Mbpp/164) pass. A check that cannot fail is none, so it is compared here.
"""

SOURCE = '''
class EvalPlus:
    """Compares outputs in order: once a float was expected, all that follow have its tolerance."""

    def __init__(self, rule, atol):
        self.rule, self.atol = rule, atol

    def __call__(self, arguments, output, expected):
        try:
            if self.rule == "root":
                return abs(sum(c * float(output) ** i for i, c in enumerate(arguments[0]))) <= self.atol
            return self.agrees(arguments, output, expected)
        except Exception:
            return False

    def agrees(self, arguments, output, expected):
        exact = output == expected
        if self.rule != "plain":
            exact = getattr(self, self.rule.replace(" ", "_"))(arguments, output, expected, exact)
        if not self.atol and self.floats(expected):
            self.atol = 1e-6
        if exact or not self.atol:
            return exact
        same = type(output) is type(expected)
        return same and self.allclose(output, expected, 1e-07, self.atol)

    def not_none(self, arguments, output, expected, exact):
        return output == expected if isinstance(output, bool) else expected == (output is not None)

    def same_members(self, arguments, output, expected, exact):
        return set(output) == set(expected)

    def or_zero(self, arguments, output, expected, exact):
        return exact or output == 0

    def or_pyramid(self, arguments, output, expected, exact):
        edge, height = arguments
        slant = __import__("math").sqrt((edge / 2) ** 2 + height**2)
        return exact or abs(output - round(edge**2 + 4 * (edge * slant) / 2)) <= self.atol

    def or_digits(self, arguments, output, expected, exact):
        one, two = map(str, arguments)
        length = max(len(one), len(two))
        return exact or output == sum(abs(int(a) - int(b)) for a, b in zip(one.zfill(length), two.zfill(length)))

    @staticmethod
    def floats(value):
        if isinstance(value, (list, tuple)):
            return bool(value) and all(isinstance(item, float) for item in value)
        return isinstance(value, float)

    @classmethod
    def allclose(cls, output, expected, rtol=1e-05, atol=1e-08):
        if isinstance(output, (list, tuple)) and isinstance(expected, (list, tuple)):
            pairs = zip(output, expected)
            return len(output) == len(expected) and all(cls.allclose(a, b, rtol, atol) for a, b in pairs)
        for value in (output, expected):
            # Whole numbers of more than 64 bits are objects to numpy, which it does not compare.
            if not isinstance(value, (int, float, complex)) or (isinstance(value, int) and value.bit_length() > 64):
                raise TypeError("only numbers are close to each other")
        infinite = abs(expected) in (float("inf"), float("-inf"))
        return output == expected or (not infinite and abs(output - expected) <= atol + rtol * abs(expected))
'''

NUMPY = '''

class np:
    """What the tests of evalplus on the hub ask of numpy."""

    allclose = EvalPlus.allclose
    ndarray, float32, float64 = (), float, float
'''
