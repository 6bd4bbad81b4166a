"""Docs, help, docstrings and error texts speak as the field does: words that we do not use, and what to say instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

WORDS = {
    r"whoever": "the caller that …, anyone who …, any holder of",
    r"nobody": "no one, or say who does not",
    r"somebody": "someone, or say who",
    r"everybody": "every caller, all operators",
    r"anybody": "anyone",
    r"(is|are|was|were|be|been) told": "gets, sees, hears, the API returns",
    r"(tells?|told) of": "reports, brings, shows",
    r"(is|are) held to": "the test asserts, must keep",
    r"(is|are) at it": "has claimed it, works on it",
    r"(is|are|be) at (a|the|this|that) wait": "has claimed the wait, works on it",
    r"anew": "again",
    r"so long": "that long, or the time",
    r"ladders?": "escalation",
    r"rungs?": "step of an escalation",
    r"rehears\w+": "dry run",
    r"held (send|answer)s?": "pending send, pending answer",
    r"the desk": "inbox, review queue",
    r"severed|severs?": "aborted, fenced",
    r"deaths?": "crash",
    r"nil session": "system stream",
    r"puts? (it |them |that )?off": "snooze",
    r"kept states?": "warm cache",
    r"in the name of": "on behalf of",
    r"the trap": "caveat",
    r"be cruel": "say what to do",
}
GAP = r"[\s#]+"
FOUND = {word: re.compile(rf"(?:{word.replace(' ', GAP)})\b") for word in WORDS}
FENCE = re.compile(r"^```.*?^```$", flags=re.M | re.S)
CODE = re.compile(r"`[^`\n]*`|<a id=\"\w+\"></a>|\]\([^)]*\)|<!--.*?-->")
TEXTS = (".py", ".jinja")
SOURCES = ("helmr", "runtime", "console")
OLD_NAMES = "old_names.py"
"""Old names that are read for ever stand there and nowhere else."""


def pages(root: Path) -> list[Path]:
    found = [*(root / "docs").glob("*.md"), *root.glob("*.md")]
    return sorted(one for one in found if one.name != "CHANGELOG.md")


def sources(root: Path) -> list[Path]:
    found = [one for folder in SOURCES for one in (root / folder).rglob("*") if one.suffix in TEXTS]
    return sorted(one for one in found if one.name != OLD_NAMES)


def met(text: str) -> Iterator[str]:
    lower = text.lower()  # a pattern that begins with its letters is found ten times as fast
    for word, pattern in FOUND.items():
        for match in pattern.finditer(lower):
            start, end = match.span()
            if start == 0 or not lower[start - 1].isalnum():
                around = text[max(0, start - 40) : end + 40].replace("\n", " ")
                yield f"{match[0]!r} in “{around}”: say {WORDS[word]}"


def test_pages_use_the_words_of_the_field(project_root: Path) -> None:
    wrong = [
        f"{page.relative_to(project_root)}: {one}"
        for page in pages(project_root)
        for one in met(CODE.sub("", FENCE.sub("", page.read_text(encoding="utf-8"))))
    ]
    assert wrong == []


def test_sources_use_the_words_of_the_field(project_root: Path) -> None:
    """Docstrings, comments, help, labels, errors and hints: every text of a source file, and its names too."""
    found = sources(project_root)
    assert len(found) > 300
    wrong = [
        f"{source.relative_to(project_root)}: {one}"
        for source in found
        for one in met(source.read_text(encoding="utf-8"))
    ]
    assert wrong == []


@pytest.mark.parametrize("word", WORDS)
def test_each_word_would_be_found(word: str) -> None:
    example = word.replace("?", "").replace(r"\w+", "al").replace("(it |them |that )", "it ")
    example = re.sub(r"\((\w+)\|.*?\)|(\w+)\|.*", r"\1\2", example)
    assert list(met(f"Then {example} comes."))
