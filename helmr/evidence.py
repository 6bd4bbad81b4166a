"""Checks the evidence of a wait: `facts=`, `links=`, `diff=` and `attach=` become one `Evidence`.

Unlike a subject or a body, nothing here is cut: a fact that is not all there misleads. Each bound has an error, when
the wait is made.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from helmr.errors import UsageError
from helmr.models.attachments import ATTACHMENTS_MAX, Attachment
from helmr.models.evidence import (
    DIFF_CHARS_MAX,
    DIFF_SIDE_CHARS_MAX,
    DIFF_SIDE_LINES_MAX,
    FACT_NAME_MAX,
    FACT_VALUE_MAX,
    FACTS_MAX,
    LINK_LABEL_MAX,
    LINK_URL_MAX,
    LINKS_MAX,
    Evidence,
    EvidenceLink,
    FactValue,
    value_text,
)
from helmr.wire.schema import Codec

Links = Mapping[str, str] | Iterable[str | tuple[str, str]]
"""Addresses, each with a label if it has one."""
Diff = str | tuple[Any, Any]
"""A unified diff, or what was before and what would be after."""

SCHEMES = ("https", "http", "mailto")

_JSON: Codec[Any] = Codec(Any, what="evidence")


def evidence(
    facts: Any = None, links: Any = None, diff: Any = None, attach: Any = None
) -> Mapping[str, Any] | None:
    """Return the evidence as `wait.opened` records it, None if there is none.

    Raises:
        UsageError: A part has the wrong type, is too long, or is a link that must not be followed.
    """
    found = Evidence(
        facts=_facts(facts) if facts is not None else {},
        links=_links(links) if links is not None else [],
        diff=_diff(diff) if diff is not None else None,
        attachments=_attachments(attach) if attach is not None else [],
    )
    return found.recorded() or None


def _facts(facts: Any) -> dict[str, FactValue]:
    if not isinstance(facts, Mapping):
        raise UsageError(
            f"facts are an object, not {type(facts).__name__}", hint='Write facts={"amount": 120}.'
        )
    if len(facts) > FACTS_MAX:
        raise UsageError(
            f"a wait has at most {FACTS_MAX} facts, not {len(facts)}",
            hint="Put the rest in its body.",
        )
    return {
        _label(name, FACT_NAME_MAX, "a fact's name"): _value(name, facts[name]) for name in facts
    }


def _value(name: str, value: Any) -> FactValue:
    plain = _JSON.encode(value)
    if isinstance(plain, dict | list):
        raise UsageError(
            f"the fact {name!r} is one value, not {type(value).__name__}",
            hint="Give each of its parts a fact, or write it into the body.",
        )
    if isinstance(plain, str):
        plain = _line(plain)
    if isinstance(plain, float) and not math.isfinite(plain):
        raise UsageError(
            f"the fact {name!r} is {plain}, which JSON can't hold", hint="Write it as text."
        )
    # Python refuses to write integers of more than 4,300 digits.
    is_huge = isinstance(plain, int) and plain.bit_length() > 4 * FACT_VALUE_MAX
    if is_huge or len(value_text(plain)) > FACT_VALUE_MAX:
        raise UsageError(
            f"the fact {name!r} is longer than {FACT_VALUE_MAX} characters",
            hint="Put long texts in the body.",
        )
    found: FactValue = plain
    return found


def _links(links: Any) -> list[EvidenceLink]:
    if isinstance(links, str) or not isinstance(links, Iterable):
        raise UsageError(
            f"links are a list, not {type(links).__name__}",
            hint='Write links={"Ticket": "https://…"} or links=["https://…"].',
        )
    given = list(links.items() if isinstance(links, Mapping) else links)
    if len(given) > LINKS_MAX:
        raise UsageError(f"a wait has at most {LINKS_MAX} links, not {len(given)}")
    return [_link(one) for one in given]


def _link(given: Any) -> EvidenceLink:
    label, url = given if isinstance(given, tuple | list) and len(given) == 2 else (None, given)
    if not isinstance(url, str):
        raise UsageError(
            f"a link is an address, or a label and an address, not {type(url).__name__}",
            hint='Write links={"Ticket": "https://…"}.',
        )
    parts = checked_url(url)
    name = label if label is not None else (parts.hostname or parts.path)
    return EvidenceLink(label=_label(name, LINK_LABEL_MAX, "a link's label"), url=url)


def checked_url(url: str, schemes: Sequence[str] = SCHEMES) -> SplitResult:
    """Return the parts of an address that people may follow.

    Raises:
        UsageError: It is too long or no address, has another scheme, or says a user or password.
    """
    shown = ascii(url[:100])
    if len(url) > LINK_URL_MAX:
        raise UsageError(f"the link {shown}… is longer than {LINK_URL_MAX} characters")
    if not url.isascii() or not url.isprintable() or any(sign in url for sign in ' <>"`|\\'):
        raise UsageError(
            f"the link {shown} has characters that an address can't have",
            hint="Percent-encode them (urllib.parse.quote), and write the host's name in ASCII.",
        )
    try:
        parts = urlsplit(url)
        has_place = parts.path if parts.scheme == "mailto" else parts.hostname
    except ValueError as error:
        raise UsageError(f"the link {shown} is not an address: {error}") from None
    if parts.scheme not in schemes or not has_place:
        begins = [one + (":" if one == "mailto" else "://") for one in schemes]
        raise UsageError(
            f"the link {shown} is not one that people can follow",
            hint=f"Links begin with {' or '.join(begins)}.",
        )
    if "@" in parts.netloc:
        raise UsageError(
            "a link names a user or password before its host",
            hint="Everyone who sees the wait would have it: leave it out.",
        )
    return parts


def _diff(diff: Any) -> str | None:
    if isinstance(diff, str):
        text = without_surrogates(diff).replace("\r\n", "\n").strip("\n")
    elif isinstance(diff, tuple | list) and len(diff) == 2:
        before, after = (_side(one) for one in diff)
        lines = difflib.unified_diff(before, after, "before", "after", lineterm="")
        text = "\n".join(lines) or "no difference"
    else:
        raise UsageError(
            f"a diff is a text, or what is before and after, not {type(diff).__name__}",
            hint="Write diff=(before, after).",
        )
    if len(text) > DIFF_CHARS_MAX:
        raise UsageError(
            f"a diff has at most {DIFF_CHARS_MAX} characters, not {len(text)}",
            hint="Show the part that matters, and a link to the whole.",
        )
    return text or None


def _side(value: Any) -> list[str]:
    """The lines of one side of a comparison; a value that is not text is written as JSON."""
    plain = value if isinstance(value, str) else _JSON.encode(value)
    if not isinstance(plain, str):
        plain = json.dumps(plain, indent=2, ensure_ascii=False, sort_keys=True)
    lines = without_surrogates(plain).replace("\r\n", "\n").removesuffix("\n").split("\n")
    if len(plain) > DIFF_SIDE_CHARS_MAX or len(lines) > DIFF_SIDE_LINES_MAX:
        raise UsageError(
            f"each side of a diff has at most {DIFF_SIDE_LINES_MAX} lines and {DIFF_SIDE_CHARS_MAX} characters",
            hint="Compare the part that matters, or give a diff that you made: diff=text.",
        )
    return lines


def _attachments(attach: Any) -> list[Attachment]:
    if not isinstance(attach, list | tuple) or not all(isinstance(a, Attachment) for a in attach):
        raise UsageError(
            "attach is a list of files of the session",
            hint="Write attach=[ref], with ref = await attachments.store(…).",
        )
    if len(attach) > ATTACHMENTS_MAX:
        raise UsageError(f"a wait has at most {ATTACHMENTS_MAX} files, not {len(attach)}")
    return list({one.id: one for one in attach}.values())


def _label(value: Any, limit: int, what: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{what} is text, not {type(value).__name__}")
    line = _line(value)
    if not 1 <= len(line) <= limit:
        raise UsageError(f"{what} has 1 to {limit} characters, not {len(line)}")
    return line


def _line(text: str) -> str:
    """Return the text on one line."""
    return " ".join(without_surrogates(text).split())


def without_surrogates(text: str) -> str:
    """Return the text without lone surrogates, which no entry can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
