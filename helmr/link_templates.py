"""Links that an operator adds to every wait: `[links]` of `helmr.toml`, a label and a template of a URL in each row.

```toml
[links]
Trace = "https://langfuse.example.com/project/agents/traces/{trace_id}"
Logs = "https://grafana.example.com/explore?session={session_id}"
```

The runtime fills them in when a wait is read. They are no part of the question, so its hash does not cover them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from helmr.errors import UsageError
from helmr.evidence import checked_url
from helmr.models import ANSWERABLE
from helmr.models.evidence import LINK_LABEL_MAX, LINKS_MAX, EvidenceLink

TRACE_ID: Final = "trace_id"

PLACEHOLDERS: Final[Mapping[str, str]] = {
    TRACE_ID: "trace_id",
    "session_id": "session_id",
    "run_id": "run_id",
    "wait_id": "id",
    "task": "task",
    "stream": "stream",
}
"""Names in templates, and the field of `WaitInfo` that each stands for."""

SCHEMES = ("https", "http")

_PLACE: Final = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class LinkTemplate:
    """A link whose URL is filled in for each wait."""

    label: str
    url: str

    @property
    def names(self) -> list[str]:
        """The placeholders in it."""
        return _PLACE.findall(self.url)

    def filled(self, values: Mapping[str, str | None]) -> EvidenceLink | None:
        """Return the link with these values, percent-encoded; None if one that it needs is None."""
        if any(values[name] is None for name in self.names):
            return None

        def value(found: re.Match[str]) -> str:
            return quote(values[found[1]] or "", safe="", errors="replace")

        return EvidenceLink(label=self.label, url=_PLACE.sub(value, self.url))


def links_of(templates: Iterable[LinkTemplate], wait: Mapping[str, Any]) -> list[EvidenceLink]:
    """Return the links of a wait; none for one that no person answers.

    Args:
        templates: The templates.
        wait: The wait as JSON, as the ledger returns it.
    """
    if wait["kind"] not in ANSWERABLE:
        return []
    values = {name: wait.get(of) for name, of in PLACEHOLDERS.items()}
    return [link for one in templates if (link := one.filled(values)) is not None]


def read_links(table: Any, where: str) -> tuple[LinkTemplate, ...]:
    """Return the templates in the table `[links]`.

    Args:
        table: The table, from labels to templates.
        where: The file, for errors.

    Raises:
        UsageError: A row is no label and template of a URL; names the row.
    """
    if not isinstance(table, Mapping):
        raise UsageError(
            f"{where}: [links] is a table from labels to URLs",
            hint='Write Trace = "https://…/{trace_id}" below [links].',
        )
    if len(table) > LINKS_MAX:
        raise UsageError(f"{where}: [links] has at most {LINKS_MAX} rows, not {len(table)}")
    return tuple(_template(label, url, where) for label, url in table.items())


def _template(label: str, url: Any, where: str) -> LinkTemplate:
    row = f"{where}: {label[:LINK_LABEL_MAX]!a} of [links]"
    if not 1 <= len(label) <= LINK_LABEL_MAX or not label.isprintable() or label.strip() != label:
        raise UsageError(
            f"{row} can't be a label",
            hint=f"A label is one line of 1 to {LINK_LABEL_MAX} characters.",
        )
    if not isinstance(url, str):
        raise UsageError(f"{row} is a URL, not {type(url).__name__}")
    unknown = [name for name in _PLACE.findall(url) if name not in PLACEHOLDERS]
    if unknown or set(_PLACE.sub("", url)) & {"{", "}"}:
        what = f"{{{ascii(unknown[0][:100])[1:-1]}}}" if unknown else "a brace alone"
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise UsageError(
            f"{row} has {what}, which is no placeholder",
            hint=f"There are {known}. In a URL, braces are %7B and %7D.",
        )
    try:
        checked_url(_PLACE.sub(r"\1", url), SCHEMES)
    except UsageError as error:
        raise UsageError(f"{row}: {error.message}", hint=error.hint) from error
    if "{" in re.split("[/?#]", url.partition("://")[2], maxsplit=1)[0]:
        raise UsageError(
            f"{row} has a placeholder in its host", hint="Placeholders stand behind the host."
        )
    return LinkTemplate(label, url)
