"""Which part of Helmr each operation and each entry kind belongs to: the rows of ARCHITECTURE's table of parts.

`PARTS` is data: a feature that plugs itself in by a value of its own (its folders, its page, its operations, its entry
kinds) takes the place of its row here. `tests/docs/test_map.py` finds what has no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from helmr.wire.operation import Operation
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.feature import Feature
from helmr_runtime.features import FEATURES
from helmr_runtime.ledger.index.features import FeatureMemories


@dataclass(frozen=True)
class Part:
    """A row of the table.

    Attributes:
        about: What it does, in one line.
        folders: Folders and files, as a reader of the map looks for them.
        page: Of the docs, without its folder.
        tags: Operations of these tags.
        operations: Names of operations of other tags; they stand here, not in the row of their tag.
        entries: Entry kinds, or their beginnings up to a dot.
        is_kernel: It decides in core, in each flush or between an op and its opening: it can't be taken out.
    """

    name: str
    about: str
    folders: tuple[str, ...]
    page: str
    tags: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    is_kernel: bool = False


def _of_feature(one: Feature) -> Part:
    """The row of a feature that plugs itself in, from its values."""
    face, here = one.face, f"features/{one.name}/"
    kinds = FeatureMemories([one]).parts[one.name].kinds if one.ledger else ()
    return Part(
        one.name,
        face.about[:1].lower() + face.about[1:].removesuffix("."),
        (here,),
        face.page,
        tags=tuple(dict.fromkeys([one.name, *map(tag_of, face.rows)])),
        entries=tuple(kind.value for kind in kinds),
    )


def tag_of(row: Operation[Any]) -> str:
    """The noun that an operation belongs to."""
    return row.tag or row.call.partition(".")[0]


def all_kinds() -> list[str]:
    """The kernel's entry kinds, then those of features."""
    parts = FeatureMemories(FEATURES).parts.values()
    return [kind.value for kinds in (EntryKind, *(one.kinds for one in parts)) for kind in kinds]


PARTS: tuple[Part, ...] = (
    Part(
        "sessions and runs",
        "start, continue, follow, end",
        ("service/sessions.py", "session/", "core/decide/lifecycle.py"),
        "concepts.md",
        tags=("sessions", "streams", "runs", "tasks"),
        entries=(
            *("session.", "run.", "note.", "step.", "input.", "output.", "clock.", "peek."),
            *("history.", "patch.", "catalog."),
        ),
        is_kernel=True,
    ),
    Part(
        "waits",
        "ask a person, take the answer; one-time links",
        ("service/waits.py", "core/decide/inputs.py", "helmr/person/review/", "http/answer_page/"),
        "answering.md",
        tags=("waits",),
        operations=(
            *("show_home", "show_inbox", "follow_inbox", "show_inbox_wait", "answer_inbox_wait"),
        ),
        entries=("wait.",),
        is_kernel=True,
    ),
    Part(
        "people, votes, signatures",
        "who may answer, how many must agree, signed answers, deputies, disabled people",
        ("core/answerers.py", "core/decide/votes.py", "core/people.py", "security/sshsig.py"),
        "who-may-answer.md",
        tags=("people",),
        operations=("withdraw_vote",),
        entries=("wait.voted", "wait.vote_withdrawn", "person."),
        is_kernel=True,
    ),
    Part(
        "claims and escalations",
        "who works on a wait; what happens while no one answers",
        ("core/claims.py", "helmr/escalation.py", "core/decide/inputs.py"),
        "escalations.md",
        operations=("claim_wait", "release_wait", "assign_wait"),
        entries=("wait.claimed", "wait.claim_ended", "wait.assigned", "wait.reminded"),
        is_kernel=True,
    ),
    Part(
        "corrections",
        "amend, rewind, fork, dry run",
        ("core/corrections.py", "core/fork.py", "service/corrections.py", "session/dry_run.py"),
        "corrections.md",
        operations=(
            *("fork_session", "dry_run_answer", "preview_amend", "amend_wait"),
            *("preview_rewind", "rewind_run"),
        ),
        entries=("session.forked", "run.rewound"),
        is_kernel=True,
    ),
    Part(
        "tokens and keys",
        "callbacks, public tokens, API keys",
        ("service/tokens.py", "service/access.py", "security/", "ledger/index/tokens.py"),
        "security.md",
        tags=("tokens", "callbacks", "auth", "keys"),
        entries=("token.", "public_token.", "api_key."),
        is_kernel=True,
    ),
    Part(
        "limits and permits",
        "how many steps or runs at once, how many in a time",
        ("core/limits.py", "directory/limiter.py", "session/permits.py"),
        "limits.md",
        tags=("limits",),
        is_kernel=True,
    ),
    Part(
        "stores and standby",
        "the log in a bucket or database; a second runtime that takes over",
        ("ledger/log/", "ledger/standby.py", "core/shared_log.py"),
        "high-availability.md",
        entries=("ledger.",),
        is_kernel=True,
    ),
    Part(
        "upkeep",
        "health, metrics, backup, prune",
        ("service/health.py", "service/exports.py", "ledger/tools/"),
        "operations.md",
        tags=("health", "backup", "prune"),
        entries=("sessions.pruned",),
        is_kernel=True,
    ),
    *map(_of_feature, FEATURES),
    Part(
        "sign-in",
        "OIDC, sessions of browsers, keys given to a page",
        ("service/sign_in.py", "service/browser_sessions.py", "http/sign_in_pages.py"),
        "people.md",
        tags=("pages",),
        operations=("how_to_sign_in", "who_am_i"),
    ),
    Part(
        "notices",
        "messages to people's channels",
        ("notices/", "service/notices.py", "service/notice_teller.py"),
        "notices.md",
        tags=("notices",),
        entries=("notices.",),
    ),
    Part(
        "rules and experiments",
        "answers by rules, compared with what people answered",
        ("helmr/rules.py", "helmr/matching.py", "helmr/experiments/"),
        "rules.md",
    ),
    Part(
        "integrations",
        "LangGraph, OpenAI Agents, Pydantic AI, FastAPI",
        ("helmr/integrations/",),
        "your-agent.md",
    ),
    Part(
        "SQL",
        "read the tables",
        ("ledger/query.py", "ledger/tables/public_views.py", "helmr/wire/query.py"),
        "sql.md",
        tags=("query",),
    ),
    Part(
        "bulk",
        "one action on many runs, after a preview",
        ("service/bulk.py", "helmr/person/review/bulk.py"),
        "many-runs.md",
        tags=("bulk",),
    ),
)


def operations_of(part: Part, rows: Iterable[Operation[Any]]) -> list[Operation[Any]]:
    """The rows that belong to it: by their names, else by their tags."""
    by_name = {name for one in PARTS for name in one.operations}
    return [
        row
        for row in rows
        if row.name in part.operations or (row.name not in by_name and tag_of(row) in part.tags)
    ]


def kinds_of(part: Part, kinds: Iterable[str]) -> list[str]:
    """The entry kinds that belong to it: a kind that is named stands where it is, the others by their beginning."""
    exact = {name for one in PARTS for name in one.entries if not name.endswith(".")}
    return [
        kind
        for kind in kinds
        if kind in part.entries
        or (kind not in exact and f"{kind.partition('.')[0]}." in part.entries)
    ]


def feature_table(rows: Sequence[Operation[Any]], kinds: Sequence[str], *, is_kernel: bool) -> str:
    """The parts of the kernel, or the features: what each does, and where it is."""
    lines = [
        "| part | what it does | where | page | operations | entries |",
        "|---|---|---|---|---|---|",
    ]
    for part in PARTS:
        if part.is_kernel is is_kernel:
            cells = (
                part.name,
                part.about,
                ", ".join(f"`{one}`" for one in part.folders),
                f"[{part.page.removesuffix('.md')}](docs/{part.page})",
                _operations(operations_of(part, rows)),
                _shortened(kinds_of(part, kinds)),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _operations(rows: Sequence[Operation[Any]]) -> str:
    """How many of each noun: `grants` 4."""
    counts: dict[str, int] = {}
    for row in rows:
        noun = row.call.partition(".")[0] or tag_of(row)
        counts[noun] = counts.get(noun, 0) + 1
    return ", ".join(f"`{noun}` {count}" for noun, count in counts.items())


def _shortened(kinds: Sequence[str]) -> str:
    """`grant.created`, `.revoked`."""
    said, last = [], ""
    for kind in kinds:
        head, _, tail = kind.partition(".")
        said.append(f"`.{tail}`" if head == last else f"`{kind}`")
        last = head
    return ", ".join(said)
