"""Tables and sections of the docs that are made from code: `make tables` writes them.

They stand between `<!-- table: NAME -->` and `<!-- end -->`: on the HTTP page the routes of the nouns that the name
lists, on the security page the roles and what each may call, on the page of errors those of the class with that code,
on the console's page its keys, on the page of the ways in what the contract calls over each, in ARCHITECTURE the parts
of the kernel and the features, whose words are put into its glossary. A row of `helmr.wire.operations`, of
`tests.docs.feature_rows` or a class of `helmr.errors` is all that they need. What pages say of features
(`tests.docs.feature_pages`) has its headings too.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from helmr import errors, features
from helmr.wire.operation import EVENTS, Operation
from helmr.wire.roles import ROLE_SUMMARIES, Need, Role, may
from helmr_console.actions import key_table
from tests.contract import page as transports
from tests.contract.cases import CASES
from tests.contract.faces import operations
from tests.docs import feature_pages
from tests.docs.feature_rows import all_kinds, feature_table, tag_of

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (
    "errors.md",
    "http.md",
    "security.md",
    "cli.md",
    "sdk.md",
    "api/client.md",
    "console.md",
    "transports.md",
    "../ARCHITECTURE.md",
)
COMMAND = "make tables"
ERRORS = "errors of "

OF_FEATURES: Mapping[str, Callable[[], str]] = {
    "commands of features": feature_pages.command_sections,
    "methods of features": feature_pages.method_sections,
    "clients of features": feature_pages.client_table,
    "reference of features": feature_pages.reference,
}

_TABLE = re.compile(r"<!-- table: ([a-z_, ]+) -->\n((?:(?!<!-- ).)*)<!-- end -->", re.DOTALL)


def shown(page: str, rows: tuple[Operation[Any], ...] = features.OPERATIONS) -> str:
    """The page with each table as it follows from the rows."""

    def table(found: re.Match[str]) -> str:
        return f"<!-- table: {found[1]} -->\n\n{_made(found[1], found[2], rows)}\n<!-- end -->"

    return _TABLE.sub(table, page)


def _made(name: str, table: str, rows: tuple[Operation[Any], ...]) -> str:
    """What stands below that name; `table` is what stands there now."""
    if name == "roles":
        return role_table()
    if name == "rights":
        return rights_table(rows)
    if name in ("kernel", "features"):
        kinds = all_kinds()
        return feature_table(rows, kinds, is_kernel=name == "kernel")
    if name == "glossary":
        return feature_pages.glossary(table)
    if name == "keys":
        return key_table()
    if name == "operations by way":
        return transports.table(operations())
    if name == "cases":
        return "".join(f"- {case.__name__.replace('_', ' ')}\n" for case in CASES)
    if name == "routes of features":
        return route_sections(rows)
    if name in OF_FEATURES:
        return OF_FEATURES[name]()
    if name.startswith(ERRORS):
        return error_table(errors.all_codes()[name.removeprefix(ERRORS)])
    nouns = name.split(", ")
    return route_table([row for row in rows if row.is_documented and tag_of(row) in nouns])


def route_table(rows: list[Operation[Any]]) -> str:
    """What each of these takes and does."""
    assert rows
    lines = ["| route | takes | does |", "|---|---|---|"]
    for row in rows:
        said = f"{row.summary} {row.description}".strip()
        if row.need is Need.ADMINISTER:
            said += " Needs the role `admin`."
        lines.append(f"| `{row.route}` | {taken(row)} | {said} |")
    return "\n".join(lines) + "\n"


def route_sections(rows: tuple[Operation[Any], ...]) -> str:
    """The routes of each feature, below its heading."""
    parts: list[str] = []
    for one in features.FEATURES:
        nouns = {tag_of(row) for row in one.rows}
        own = [row for row in rows if row.is_documented and tag_of(row) in nouns]
        if own:
            parts += [f"### {one.heading}", route_table(own).rstrip(), feature_pages.more_on(one)]
    return "\n\n".join(parts) + "\n"


def taken(row: Operation[Any]) -> str:
    """Fields of its body or query string, those that it needs in bold, and headers of its own."""
    fields = [
        _field(field.alias or name, field.is_required(), field.default)
        for model in (row.query, row.body)
        if model is not None
        for name, field in _fields(model).items()
    ]
    if EVENTS in (row.reply, row.also):
        fields.append("header `Last-Event-ID`")
    elif row.also is not None:
        fields.append("header `accept`")
    return ", ".join(fields)


def _fields(model: type[BaseModel]) -> Mapping[str, Any]:
    """Those of lists come last: they say how much of the answer, not of what."""
    own = dict(model.model_fields)
    paging: dict[str, Any] = {name: own.pop(name) for name in ("limit", "cursor") if name in own}
    return {**own, **paging}


def _field(name: str, is_required: bool, default: Any) -> str:
    if is_required:
        return f"**`{name}`**"
    plain = default.value if isinstance(default, Enum) else default
    if isinstance(plain, bool | str):
        return f"`{name}` ({json.dumps(plain)})"
    return f"`{name}`"


def role_table() -> str:
    """What each role is for."""
    lines = ["| role | may |", "|---|---|"]
    lines += [f"| `{role.value}` | {summary} |" for role, summary in ROLE_SUMMARIES.items()]
    return "\n".join(lines) + "\n"


def rights_table(rows: tuple[Operation[Any], ...] = features.OPERATIONS) -> str:
    """Every operation, which role may call it, and whose things it reaches."""
    roles = " | ".join(role.value for role in Role)
    lines = [f"| route | needs | {roles} | reaches | public token |"]
    lines.append("|---" * (len(Role) + 4) + "|")
    for row in rows:
        ticks = " | ".join("✓" if may(role, row.need) else "" for role in Role)
        scope = f"`{row.scope.value}`" if row.scope else ""
        lines.append(
            f"| `{row.route}` | {row.need.value} | {ticks} | {row.owner.value} | {scope} |"
        )
    return "\n".join(lines) + "\n"


def error_table(family: type[errors.HelmrError]) -> str:
    """A class of errors and those below it; what only a task sees has no status of HTTP."""
    is_sent = family is not errors.OutcomeError
    heads = ["code", "class", *(["HTTP"] if is_sent else []), "what it means", "what to do"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for code, one in errors.all_codes().items():
        if issubclass(one, family):
            anchor = f'<a id="{code}"></a>'
            cells = [
                f"{anchor}`{code}`",
                f"`{one.__name__}`",
                *([str(one.status)] if is_sent else []),
            ]
            lines.append(f"| {' | '.join([*cells, one.meaning(), one.what_to_do()])} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the tables; 1 if an operation has no table to stand in."""
    for name in PAGES:
        page = DOCS / name
        page.write_text(shown(page.read_text(encoding="utf-8")), encoding="utf-8")
    text = (DOCS / "http.md").read_text(encoding="utf-8")
    lacking = {
        tag_of(row)
        for row in features.OPERATIONS
        if row.is_documented and f"`{row.route}`" not in text
    }
    for one in sorted(lacking):
        sys.stderr.write(f"docs/http.md has no table of {one}: add '<!-- table: {one} -->'\n")
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
