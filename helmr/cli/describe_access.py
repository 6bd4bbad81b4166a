"""How tokens, public tokens and API keys look to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr.cli.describe import schema_summary, time_and_distance, time_text, value_text, who

if TYPE_CHECKING:
    from pydantic import BaseModel

    from helmr.models import (
        AnswerLinkInfo,
        ApiKeyInfo,
        ApiKeyReceipt,
        PublicTokenInfo,
        PublicTokenReceipt,
        PublicTokenScopeInfo,
        TokenInfo,
        TokenReceipt,
    )

TOKEN_COLUMNS = ("ID", "STATUS", "SUBJECT", "EXPIRES", "ENDED", "BY", "TAGS", "SESSION")
PUBLIC_TOKEN_COLUMNS = ("ID", "MAY", "USES LEFT", "LAST USE", "EXPIRES", "REVOKED")
LINK_COLUMNS = ("ID", "PERSON", "LIVE", "CREATED", "EXPIRES", "REVOKED")
KEY_COLUMNS = ("ID", "NAME", "ROLE", "CREATED", "REVOKED")

Fields = list[tuple[str, object]]


def token_row(one: TokenInfo) -> tuple[object, ...]:
    """Cells of `TOKEN_COLUMNS`."""
    return (
        one.id,
        one.status,
        one.subject,
        time_text(one.expires_at),
        time_text(one.ended_at),
        who(one.ended_by),
        one.tags,
        one.session_id,
    )


def token_fields(one: TokenInfo) -> Fields:
    """A token in full."""
    pairs: Fields = [
        ("token", one.id),
        ("status", one.status),
        ("session", one.session_id),
        ("tags", one.tags),
        ("metadata", value_text(one.metadata) if one.metadata else None),
        ("subject", one.subject),
        ("created", time_and_distance(one.created_at)),
        ("expires", time_and_distance(one.expires_at)),
    ]
    if one.body:
        pairs.append(("body", one.body))
    if one.json_schema is not None:
        pairs.append(("data must be", schema_summary(one.json_schema)))
    if one.verify is not None:
        pairs.append(("signed by", one.verify))
    if one.ended_at is not None:
        pairs += [("ended", time_and_distance(one.ended_at)), ("by", who(one.ended_by))]
    if one.status == "completed":
        pairs.append(("data", value_text(one.data)))
    return pairs


def token_receipt_fields(one: TokenReceipt) -> Fields:
    """A token with its secrets."""
    return [
        ("token", one.id),
        ("expires", time_and_distance(one.expires_at)),
        ("callback url", one.callback_url),
        ("public access token", one.public_access_token),
    ]


def public_token_row(one: PublicTokenInfo) -> tuple[object, ...]:
    """Cells of `PUBLIC_TOKEN_COLUMNS`."""
    return (
        one.id,
        _scope(one.scope),
        one.uses_left if one.max_uses is not None else "unlimited",
        time_text(one.last_used_at),
        time_text(one.expires_at),
        time_text(one.revoked_at),
    )


def public_token_fields(one: PublicTokenInfo) -> Fields:
    """A public token."""
    return [
        ("public token", one.id),
        ("may", _scope(one.scope)),
        ("uses", f"{one.uses} of {one.max_uses}" if one.max_uses is not None else one.uses),
        ("last use", time_and_distance(one.last_used_at)),
        ("expires", time_and_distance(one.expires_at)),
        ("origins", one.allowed_origins),
        ("revoked", time_and_distance(one.revoked_at)),
    ]


def public_token_receipt_fields(one: PublicTokenReceipt) -> Fields:
    """A public token with its secret."""
    return [*public_token_fields(one), ("public access token", one.public_access_token)]


def link_row(one: AnswerLinkInfo) -> tuple[object, ...]:
    """Cells of `LINK_COLUMNS`."""
    live = "yes" if one.is_live else "no"
    times = (time_text(at) for at in (one.created_at, one.expires_at, one.revoked_at))
    return (one.id, one.person, live, *times)


def key_row(one: ApiKeyInfo) -> tuple[object, ...]:
    """Cells of `KEY_COLUMNS`."""
    return (one.id, one.name, one.role, time_text(one.created_at), time_text(one.revoked_at))


def key_fields(one: ApiKeyInfo) -> Fields:
    """An API key."""
    return [
        ("key", one.id),
        ("name", one.name),
        ("role", one.role),
        ("created", time_and_distance(one.created_at)),
        ("revoked", time_and_distance(one.revoked_at)),
    ]


def key_receipt_fields(one: ApiKeyReceipt) -> Fields:
    """An API key with its secret."""
    return [("key", one.id), ("name", one.name), ("role", one.role), ("secret", one.secret)]


def fields_of(one: BaseModel) -> Fields:
    """Any receipt."""
    parts: dict[str, Any] = one.model_dump(mode="json", exclude_none=True)
    return [(name.replace("_", " "), value_text(value).strip('"')) for name, value in parts.items()]


def _scope(scope: PublicTokenScopeInfo) -> str:
    what = scope.stream or scope.token or scope.wait or ""
    where = f" of {scope.session}" if scope.session is not None else ""
    whom = scope.correlation_id or scope.person
    for_ = f" for {whom}" if whom is not None else ""
    verbs = {
        "session.input.send": "send to",
        "session.output.read": "read",
        "wait.answer": "answer",
    }
    verb = verbs.get(scope.type, "complete")
    return f"{verb} {what}{where}{for_}"
