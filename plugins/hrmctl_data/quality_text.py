"""Measures of any text: characters, lines, words and repetition, by the rules of Gopher, C4, Codex and The Stack."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
_BULLETS = ("•", "-", "*", "‣", "·")
_WORTH_PACKING = 300
_GRAM = 5
_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36,}|\bxox[abprs]-[\w-]{10,}"
    r"|\bsk-[A-Za-z0-9_-]{20,}|\bhf_[A-Za-z0-9]{30,}|\bAIza[\w-]{35}|\bglpat-[\w-]{20}|\beyJ[\w-]{10,2000}\.eyJ[\w-]{10}"
)
_KEY_HINTS = ("-----BEGIN", "AKIA", "gh", "xox", "sk-", "hf_", "AIza", "glpat-", "eyJ")
_NAMED = re.compile(
    r"(?i:api_?key|secret|token|passwd|password)['\"]?\s{0,9}[:=]\s{0,9}['\"](?=[^'\"]*\d)[A-Za-z0-9+/_.-]{16,}['\"]"
)
_NAMED_HINTS = ("key", "secret", "token", "passw")
_EMAIL = re.compile(r"\b[\w.+-]{1,64}@((?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24})\b")
_PHONE = re.compile(r"(?<![\w.])\+\d{1,3}[ -]\(?\d{2,4}\)?(?:[ -]\d{2,4}){2,4}(?![\w.])")
_RESERVED = re.compile(r"(?:.*\.)?(?:example|test|invalid|localhost)(?:\.(?:com|org|net))?", re.IGNORECASE)


def garbage_share(text: str) -> float:
    """Control, private, unassigned and replacement characters, of all."""
    if text.isascii() and text.isprintable():
        return 0.0
    bad = sum(n for char, n in Counter(text).items() if char not in "\n\r\t\f" and _is_garbage(char))
    return bad / len(text) if text else 0.0


def _is_garbage(char: str) -> bool:
    return char == "\ufffd" or unicodedata.category(char) in ("Cc", "Co", "Cn", "Cs")


def alphanumeric_share(text: str) -> float:
    """Letters and digits among the characters that are not whitespace; 1 where there are none."""
    dense = "".join(text.split())
    return sum(map(str.isalnum, dense)) / len(dense) if dense else 1.0


def foreign_share(text: str) -> float:
    """Characters beyond ASCII, of all."""
    return 0.0 if text.isascii() else 1 - len(text.encode("ascii", "ignore")) / len(text)


def repeated_line_share(text: str) -> float:
    """Characters of lines that stood there before, of all lines' (Rae et al. 2021, table A1)."""
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    total = sum(map(len, lines))
    return (total - sum(map(len, set(lines)))) / total if total else 0.0


def repeated_gram_share(words: Sequence[str]) -> float:
    """Words covered by 5-grams that occur more than once, of all (Rae et al. 2021, table A1)."""
    if len(words) < 2 * _GRAM:
        return 0.0
    grams = [tuple(words[i : i + _GRAM]) for i in range(len(words) - _GRAM + 1)]
    often = {gram for gram, count in Counter(grams).items() if count > 1}
    covered: set[int] = set()
    for place, gram in enumerate(grams) if often else ():
        if gram in often:
            covered.update(range(place, place + _GRAM))
    return len(covered) / len(words)


def packed_share(text: str) -> float:
    """Bytes after zlib, of those before; 1 for texts of fewer than 300 bytes, which do not pack."""
    raw = text.encode("utf-8", "surrogatepass")
    return len(zlib.compress(raw)) / len(raw) if len(raw) >= _WORTH_PACKING else 1.0


def secrets(text: str) -> int:
    """Texts with the form of a key: private keys, tokens of known services, long literals called password or key."""
    known = sum(1 for _ in _KEY.finditer(text)) if any(hint in text for hint in _KEY_HINTS) else 0
    folded = text.lower()
    return known + (sum(1 for _ in _NAMED.finditer(text)) if any(hint in folded for hint in _NAMED_HINTS) else 0)


def personal(text: str) -> int:
    """E-mail addresses (but those at reserved names, as example.com) and international telephone numbers."""
    mails = sum(not _RESERVED.fullmatch(match[1]) for match in _EMAIL.finditer(text)) if "@" in text else 0
    return mails + (sum(1 for _ in _PHONE.finditer(text)) if "+" in text else 0)


def mean_length(words: Sequence[str]) -> float:
    """Characters a word; 0 without words."""
    return sum(map(len, words)) / len(words) if words else 0.0


def letter_share(words: Sequence[str]) -> float:
    """Words that hold a letter, of all; 1 without words."""
    return sum(any(map(str.isalpha, word)) for word in words) / len(words) if words else 1.0


def stop_word_share(words: Sequence[str]) -> float:
    """Gopher's eight English stop words, of all words; 0 without words."""
    return sum(word.lower() in STOP_WORDS for word in words) / len(words) if words else 0.0


def bullet_share(lines: Sequence[str]) -> float:
    """Lines that begin with a bullet, of all."""
    return sum(line.lstrip().startswith(_BULLETS) for line in lines) / len(lines) if lines else 0.0


def ellipsis_share(lines: Sequence[str]) -> float:
    """Lines that end with an ellipsis, of all."""
    return sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines) if lines else 0.0


def ends_a_sentence(text: str) -> bool:
    """Whether the last mark ends a sentence, quotes and brackets aside (Raffel et al. 2020)."""
    return text.rstrip().rstrip("\"'”’)]* ").endswith((".", "!", "?", ":", "…", "。"))
