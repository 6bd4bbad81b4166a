"""Which waits of a batch are unlike the others, and in what: they are looked at first. Pure.

Arithmetic over what is on screen, each time with its reason in words. It decides nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from helmr.models import BODY_DRAWN_CHARS, WaitInfo

ALIKE_MIN = 3
"""Of fewer there is no common shape."""
MOST = 0.5
"""More than this part of them is what most say."""
SHARED = 0.8
"""A word in this part of the texts belongs to their shape."""
TIMES_LONGER = 3
LONGER_MIN = 200
TIMES_LARGER = 5

_WORD = re.compile(r"[^\W\d_]{2,}")
_NUMBER = re.compile(r"(?<![\w.])\d{1,15}(?:\.\d+)?(?![\w])")


def outliers(waits: Sequence[WaitInfo]) -> dict[str, str]:
    """Why a wait is unlike the others, by id; only those that are. The texts are not made safe."""
    if len(waits) < ALIKE_MIN:
        return {}
    found: dict[str, str] = {}
    for judge in (_by_initial, _by_words, _by_length, _by_number):
        for wait_id, why in judge(waits).items():
            found.setdefault(wait_id, why)
    return found


def _by_initial(waits: Sequence[WaitInfo]) -> dict[str, str]:
    """The value that the form begins with; of objects the first field that differs."""
    found: dict[str, str] = {}
    values = [wait.initial for wait in waits]
    if all(isinstance(value, dict) for value in values):
        names = dict.fromkeys(name for value in values for name in value)
        for name in names:
            parts = {wait.id: _text(wait.initial, name) for wait in waits}
            for wait_id, (said, most) in _rare(parts).items():
                found.setdefault(wait_id, f"{name} begins with {said}, most with {most}")
        return found
    for wait_id, (said, most) in _rare({wait.id: _json(wait.initial) for wait in waits}).items():
        found[wait_id] = f"begins with {said}, most with {most}"
    return found


def _by_words(waits: Sequence[WaitInfo]) -> dict[str, str]:
    """A word that nearly all texts have and this one has not."""
    words = {
        wait.id: dict.fromkeys(word.casefold() for word in _WORD.findall(_says(wait)))
        for wait in waits
    }
    counts = Counter(word for said in words.values() for word in said)
    shape = [word for word, count in counts.items() if SHARED * len(waits) <= count < len(waits)]
    return {
        wait_id: f"lacks the word “{lacks[0]}”, which {counts[lacks[0]]} of {len(waits)} have"
        for wait_id, said in words.items()
        if (lacks := [word for word in shape if word not in said])
    }


def _by_length(waits: Sequence[WaitInfo]) -> dict[str, str]:
    lengths = {wait.id: len(wait.body or "") for wait in waits}
    usual = median(lengths.values())
    return {
        wait_id: f"its text has {length:,} characters, usual are {usual:,.0f}"
        for wait_id, length in lengths.items()
        if length > TIMES_LONGER * usual and length > usual + LONGER_MIN
    }


def _by_number(waits: Sequence[WaitInfo]) -> dict[str, str]:
    """A number that is far above those at its place in the others: an amount that is none of the usual ones.

    A place whose numbers lie far from each other, as those of tickets and orders may, has no usual one.
    """
    places: dict[tuple[str, int], dict[str, float]] = {}
    for wait in waits:
        for place, number in _numbers(wait).items():
            places.setdefault(place, {})[wait.id] = number
    found: dict[str, str] = {}
    for numbers in places.values():
        usual = median(numbers.values())
        near = [one for one in numbers.values() if usual <= TIMES_LARGER * one]
        near = [one for one in near if one <= TIMES_LARGER * usual]
        if usual <= 0 or len(numbers) <= MOST * len(waits) or len(near) < SHARED * len(numbers):
            continue
        for wait_id, number in numbers.items():
            if number > TIMES_LARGER * usual:
                found.setdefault(wait_id, f"holds {number:,g}, usual is {usual:,g}")
    return found


def _numbers(wait: WaitInfo) -> dict[tuple[str, int], float]:
    """The numbers of a wait by their places: in the question, the text, and each part of the initial value."""
    initial = wait.initial if isinstance(wait.initial, dict) else {"": wait.initial}
    texts = {"subject": wait.subject or "", "body": (wait.body or "")[:BODY_DRAWN_CHARS]}
    texts |= {f"initial {name}": _json(value) for name, value in initial.items()}
    return {
        (part, place): float(number)
        for part, text in texts.items()
        for place, number in enumerate(_NUMBER.findall(text))
    }


def _rare(parts: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What differs from what most say: what it says, and what most do."""
    most, count = Counter(parts.values()).most_common(1)[0]
    if count <= MOST * len(parts):
        return {}
    return {key: (said, most) for key, said in parts.items() if said != most}


def _says(wait: WaitInfo) -> str:
    return f"{wait.subject or ''}\n{(wait.body or '')[:BODY_DRAWN_CHARS]}"


def _text(initial: Mapping[str, Any], name: str) -> str:
    return _json(initial[name]) if name in initial else "nothing"


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:199]}…"
