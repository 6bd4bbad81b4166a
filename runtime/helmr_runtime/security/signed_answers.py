"""Signed answers: checked when they are given, and again from a session file (S-115). No I/O.

What is checked of an answer is that the wait's own words make its question hash, that the signature is over this wait,
question, data and person, and whose key has made it. None of it asks a runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from helmr.errors import BadRequest, BadSignature
from helmr.models import AnswerMode
from helmr.signing import SignedFor, message
from helmr.wait_details import asks
from helmr.wire.people import person_key
from helmr_runtime.core.answerers import AnswerSignature
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.core.session_file import entry_of
from helmr_runtime.security.sshsig import AllowedSigner, signer


def check_given(
    armored: str,
    *,
    wait_id: str,
    question_hash: str,
    data: Any,
    person: str,
    keys: Iterable[str],
    signed_for: SignedFor | None = None,
) -> AnswerSignature:
    """The signature of an answer that is given now.

    Args:
        armored: As `ssh-keygen -Y sign` has made it.
        wait_id: Which wait is answered.
        question_hash: Of that wait.
        data: With what.
        person: By whom.
        keys: Fingerprints of the keys that are registered for them and not revoked.
        signed_for: Whose deputy they are.

    Raises:
        BadSignature: It is over something else, or by a key that is not theirs.
    """
    signed = message(
        wait_id=wait_id,
        question_hash=question_hash,
        data=data,
        person=person,
        signed_for=signed_for,
    )
    key = signer(armored, signed)
    if key.fingerprint not in keys:
        raise BadSignature(
            f"{key.fingerprint} is not a key of {person}",
            hint=f"An admin registers it: helmr person add-key {person} @KEY.pub",
            key=key.fingerprint,
        )
    return AnswerSignature(wait_id=wait_id, key=key.fingerprint, sshsig=armored)


@dataclass(slots=True, kw_only=True)
class RecordedAnswer:
    """An answer or vote of a session file, and what is known of its signature.

    Attributes:
        seq: Of the entry that says it.
        wait_id, subject: What was answered.
        said: `answer`, `vote`, `kept`, `default` or `override`.
        person: Who gave it, as the runtime has proven them, or as a key said.
        deputy_for: For whom, if they gave it as a deputy.
        recorded_at: When.
        key: Fingerprint of the key that signed it; None if it is not signed.
        principal: Whose key that is by the allowed signers.
        problem: What is wrong; None if nothing is.
        signed: The bytes that are signed.
        sshsig: The signature.
    """

    seq: int
    wait_id: str
    subject: str | None
    said: str
    person: str | None
    recorded_at: datetime
    deputy_for: str | None = None
    key: str | None = None
    principal: str | None = None
    problem: str | None = None
    signed: bytes | None = field(default=None, repr=False)
    sshsig: str | None = field(default=None, repr=False)


_SAY_ANSWERS = frozenset(
    {
        EntryKind.SESSION_CREATED,
        EntryKind.WAIT_OPENED,
        EntryKind.INPUT_ACCEPTED,
        EntryKind.WAIT_VOTED,
        EntryKind.WAIT_FULFILLED,
        EntryKind.WAIT_TIMED_OUT,
        EntryKind.WAIT_CANCELLED,
    }
)


def recorded_answers(
    lines: Iterable[Mapping[str, Any]],
    session_id: str,
    allowed: Sequence[AllowedSigner] | None,
) -> Iterator[RecordedAnswer]:
    """Each answer and vote among a session file's entries, with who signed it.

    Args:
        lines: The entries, in order.
        session_id: Whose they are.
        allowed: Who may have signed; None says of each signature only by which key it is.

    Raises:
        UsageError: An entry is none that this version knows.
    """
    asked: dict[str, Mapping[str, Any]] = {}
    records: dict[str, Any] = {}
    task = ""
    for line in lines:
        if line["kind"] not in _SAY_ANSWERS:
            continue  # one that a later Helmr has, perhaps
        entry = entry_of(line, session_id)
        body = entry.body
        match entry.kind:
            case EntryKind.SESSION_CREATED:
                task = str(body["task"])
            case EntryKind.WAIT_OPENED if body["kind"] in ("input", "token"):
                asked[body["wait_id"]] = {**body, "task": task}
            case EntryKind.INPUT_ACCEPTED if "wait_id" in body:
                records[body["record_id"]] = body["data"]
            case EntryKind.WAIT_VOTED:
                yield _checked(entry, asked.get(body["wait_id"], {}), body["data"], allowed)
            case EntryKind.WAIT_FULFILLED if body["wait_id"] in asked:
                opened = asked.pop(body["wait_id"])
                data = records.pop(body.get("record_id", ""), body.get("data"))
                yield _checked(entry, opened, data, allowed)
            case EntryKind.WAIT_TIMED_OUT | EntryKind.WAIT_CANCELLED:
                asked.pop(body["wait_id"], None)
            case _:
                pass


def _checked(
    entry: Entry,
    opened: Mapping[str, Any],
    data: Any,
    allowed: Sequence[AllowedSigner] | None,
) -> RecordedAnswer:
    body = entry.body
    proven = body.get("person", {}).get("id")
    found = RecordedAnswer(
        seq=entry.seq,
        wait_id=body["wait_id"],
        subject=opened.get("subject"),
        said=_said(entry),
        person=proven or entry.principal.person,
        recorded_at=entry.recorded_at,
        deputy_for=body.get("delegation", {}).get("delegator"),
    )
    signature = body.get("signature")
    if signature is None:
        if opened.get("signed") and found.said in ("answer", "vote"):
            found.problem = "it is not signed, and its wait takes signed answers only"
        return found
    try:
        found.sshsig = str(signature["sshsig"])
        _check_signed(found, entry, opened, data, proven)
        _check_allowed(found, allowed)
    except (BadSignature, BadRequest) as error:
        found.problem = error.message
    except (KeyError, TypeError, ValueError):
        found.problem = "what it says of its signature can't be read"
    return found


def _check_signed(
    found: RecordedAnswer,
    entry: Entry,
    opened: Mapping[str, Any],
    data: Any,
    person: str | None,
) -> None:
    """Set the key, or raise what is wrong."""
    signature = entry.body["signature"]
    signed_wait, hashed = str(signature["wait_id"]), str(opened.get("question_hash"))
    if signed_wait != found.wait_id and "copied_from" not in entry.body:
        raise BadSignature(f"the signature is for {signed_wait}")
    if not asks(opened, hashed):
        raise BadSignature("the question is not the one that its hash names")
    if person is None:
        raise BadSignature("the entry names no person")
    acting = entry.body.get("delegation")
    found.signed = message(
        wait_id=signed_wait,
        question_hash=hashed,
        data=data,
        person=person,
        signed_for=SignedFor(str(acting["id"]), str(acting["delegator"])) if acting else None,
    )
    assert found.sshsig is not None
    key = signer(found.sshsig, found.signed)
    if key.fingerprint != signature["key"]:
        raise BadSignature(f"the signature is by {key.fingerprint}, which is not the key it names")
    found.key = key.fingerprint


def _check_allowed(found: RecordedAnswer, allowed: Sequence[AllowedSigner] | None) -> None:
    """Set whose key it is, or raise that it is none of theirs."""
    if allowed is None or found.key is None or found.person is None:
        return
    person, at = person_key(found.person), found.recorded_at
    if not any(one.admits(person, found.key, at) for one in allowed):
        raise BadSignature(f"{found.key} is not a key of {person} then, by the allowed signers")
    found.principal = person


def _said(entry: Entry) -> str:
    body = entry.body
    if entry.kind is EntryKind.WAIT_VOTED:
        return "vote"
    if "kept_from" in body:
        return "kept"
    if "override_reason" in body:
        return "override"
    return "default" if body.get("mode") == AnswerMode.DEFAULT.value else "answer"
