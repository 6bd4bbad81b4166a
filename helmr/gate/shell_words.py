"""Plain words of a shell's command: what bash, zsh, dash and fish all read as one command with its arguments.

Outside quotes a plain word has letters, digits and `_ . / , : @ % + = - ~`, the last two but one not where they expand;
inside quotes it has what each of the four takes literally. Everything else (joins, substitutions, redirections, globs
with their qualifiers, braces, history, escapes) makes a command something else than plain words, whatever it would do:
a shell that is not known here may do more with it.

A rule that allows takes plain words only, apart from text that it spells itself. The deciding corpus runs in the real
shells: `tests/gate/test_in_real_shells.py`.

Invariants: S-109 (an allowed command is one command).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

COMMAND_MAX = 10_000
"""Characters of a command that a rule or a grant allows; a longer one is asked about, which costs no time."""

SPACES = " \t\n"
"""Characters that all shells strip from both ends of a command."""

_BARE = r"[\w./,:@%+-]|(?<=[\w./-])~|(?<=[^\s'\"])="
_QUOTED = r"'[^'\\\x00-\x1f\x7f]*'" + "|" + r'"[^"\\$`!\x00-\x1f\x7f]*"'
_PAIRS = re.compile(_QUOTED)
_WORD = re.compile(rf"(?:{_BARE}|{_QUOTED})+")
_FIRST = re.compile(r"[\w./][\w./+@%,:-]*")
_NOTHING = re.compile(r"(?!)")
_TAKEN = rf"(?:{_BARE}| )"
"""Text that a wildcard matches in a command that a rule spells beyond plain words; quotes could be the rule's."""


def plain_words(command: str) -> tuple[str, ...] | None:
    """The words of a command without their quotes; None if it is more than plain words, or too long."""
    text = command.strip(SPACES)
    if len(text) > COMMAND_MAX:
        return None
    spelt = _split(text)
    if spelt is None or not text.isprintable():
        return None
    if spelt and not _FIRST.fullmatch(spelt[0]):
        return None
    return tuple(_bare(word) for word in spelt)


def _split(text: str) -> list[str] | None:
    """The words as they are spelt; None if something between them is no space."""
    words, at = [], 0
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        found = _WORD.match(text, at)
        if found is None or (found.end() < len(text) and text[found.end()] != " "):
            return None
        words.append(found.group())
        at = found.end()
    return words


def _bare(word: str) -> str:
    return _PAIRS.sub(lambda found: found.group()[1:-1], word)


def is_single(command: str, glob: str) -> bool:
    """True if a glob that allows matches this command: plain words, or what the glob itself spells beyond them."""
    text = command.strip(SPACES)
    if len(text) > COMMAND_MAX:
        return False
    if plain_words(text) is not None:
        return _like(glob).match(text) is not None
    return _spelt(glob).match(text) is not None


@lru_cache(maxsize=2_048)
def _like(glob: str) -> re.Pattern[str]:
    return _pattern(glob, ".")


@lru_cache(maxsize=2_048)
def _spelt(glob: str) -> re.Pattern[str]:
    spelt = "".join(one for part in _between_stars(glob) for one in part if one != "?")
    return _pattern(glob, _TAKEN) if re.search(r"[^\w./,:@%+ -]", spelt) else _NOTHING


def _pattern(glob: str, taken: str) -> re.Pattern[str]:
    """The glob as an expression that takes time in proportion to the text; wildcards take `taken`."""
    parts = [_literal(part, taken) for part in _between_stars(glob)]
    first, *rest = parts
    middle = "".join(f"(?>{taken}*?{part})" for part in rest[:-1])
    last = f"{taken}*{rest[-1]}" if rest else ""
    return re.compile(rf"{first}{middle}{last}\Z", re.DOTALL)


def _between_stars(glob: str) -> list[list[str]]:
    """The glob's parts between stars; each is a list of characters and bracketed classes."""
    parts: list[list[str]] = [[]]
    at = 0
    while at < len(glob):
        end = at + 1
        if glob[at] == "[":
            close = glob.find("]", at + 3 if glob[at + 1 : at + 2] == "!" else at + 2)
            end = close + 1 if close >= 0 else end
        if glob[at] == "*":
            parts.append([])
        else:
            parts[-1].append(glob[at:end])
        at = end
    return parts


def _literal(part: list[str], taken: str) -> str:
    return "".join(_one(one, taken) for one in part)


def _one(one: str, taken: str) -> str:
    if one == "?":
        return taken
    if len(one) == 1:
        return re.escape(one)
    inside = one[1:-1]
    if len(inside) == 1:  # as `glob.escape` writes what is no wildcard
        return re.escape(inside)
    negated = inside.startswith("!")
    listed = "".join(_ranges(inside[1:] if negated else inside))
    if listed:
        chosen = f"[{'^' if negated else ''}{listed}]"
    else:  # only ranges that hold no character, as [z-a]
        chosen = "." if negated else "(?!)"
    return chosen if taken == "." else f"(?={taken}){chosen}"


def _ranges(listed: str) -> Iterator[str]:
    """The characters and ranges of a class, written for an expression; a range that holds no character is left out."""
    at = 0
    while at < len(listed):
        if listed[at + 1 : at + 2] == "-" and at + 2 < len(listed):
            first, last = listed[at], listed[at + 2]
            at += 3
            if first <= last:
                yield f"{re.escape(first)}-{re.escape(last)}"
        else:
            yield re.escape(listed[at])
            at += 1


def loose_parts(command: str) -> tuple[str, ...]:
    """The command, and each that a shell might find in it, for rules that ask or deny: rather one too many.

    Quotes and escapes are left out and spaces counted once: `git  "push"` is what it is.
    """
    text = command.strip()
    flat = " ".join(re.sub(r"[\"'\\]", "", text).split(" "))
    found = [text]
    for one in (text, re.sub(r" {2,}", " ", flat)):
        found += [one, *(part.strip() for part in _JOINS.split(one))]
    return tuple(dict.fromkeys(found))


_JOINS = re.compile(r"[;&|\n\r(){}`]+")
