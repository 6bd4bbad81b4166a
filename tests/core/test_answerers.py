"""Who may answer a wait: people, groups, names that exclude, and groups that can't be told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from helmr.errors import GroupsUnknown, NotAnAnswerer, UsageError
from helmr.wire.people import checked_people
from helmr_runtime.core.answerers import GROUPS_AGE_MAX, Answerers, Identity
from helmr_runtime.core.entries import Principal

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
WAIT = "wait_01"
KEY = Principal("api_key", "key_1", "deploy-bot")
ADA = Identity(id="ada", names=("Ada@Example.com",), groups=("finance",), groups_at=NOW)
BO = Identity(id="bo", names=("bo@example.com",), groups_at=NOW)


def require(rule: Answerers, identity: Identity | None, principal: Principal = KEY) -> None:
    rule.require(WAIT, identity, principal, NOW)


@pytest.mark.parametrize(
    "answerers", [("ada",), ("ada@example.com",), ("group:finance",), ("bo", "group:finance"), ()]
)
def test_a_person_is_admitted_by_id_name_or_group_and_by_a_list_of_no_one(
    answerers: tuple[str, ...],
) -> None:
    require(Answerers(answerers=answerers, approvals=2), ADA)


@pytest.mark.parametrize(
    ("rule", "identity", "principal"),
    [
        (Answerers(answerers=("ada",)), BO, KEY),
        (Answerers(answerers=("group:finance",)), BO, KEY),
        (Answerers(answerers=("ada",)), None, KEY),
        (Answerers(answerers=("ada",)), None, Principal("api_key", "k", None, "ada")),
        (Answerers(not_by=("bo",)), None, KEY),
        (Answerers(not_by=("ada@example.com",)), ADA, KEY),
        (Answerers(answerers=("ada",), not_by=("group:finance",)), ADA, KEY),
        (Answerers(not_by=("ada",)), BO, Principal("person", "bo", None, "ADA")),
        (Answerers(not_by=("ada",)), BO, Principal("link", "pat_1", None, "Ada")),
    ],
    ids=[
        "another person",
        "not in the group",
        "a key",
        "a name that a key says",
        "a key where only some may not",
        "excluded by e-mail",
        "excluded by group",
        "excluded by a said name",
        "excluded by the name of a link",
    ],
)
def test_others_are_refused_and_told_who_may(
    rule: Answerers, identity: Identity | None, principal: Principal
) -> None:
    with pytest.raises(NotAnAnswerer) as refused:
        require(rule, identity, principal)
    assert refused.value.code == "not_an_answerer"
    assert rule.words in refused.value.message
    assert refused.value.facts["answerers"] == list(rule.answerers)


@pytest.mark.parametrize(
    ("rule", "identity", "principal", "may"),
    [
        (Answerers(not_by=("ada",)), ADA, Principal("person", "ada"), False),
        (Answerers(not_by=("ada@example.com",)), ADA, Principal("person", "ada"), False),
        (Answerers(not_by=("group:finance",)), ADA, Principal("person", "ada"), False),
        (Answerers(not_by=("ada",)), None, Principal("api_key", "k", None, "Ada"), False),
        (Answerers(not_by=("ada",)), BO, Principal("person", "bo"), True),
        (Answerers(answerers=("ada",)), BO, Principal("person", "bo"), True),
        (Answerers(answerers=("ada",)), None, KEY, True),
    ],
)
def test_no_reason_of_an_admin_overrides_who_may_not(
    rule: Answerers, identity: Identity | None, principal: Principal, may: bool
) -> None:
    def admit() -> object:
        return rule.admit(
            WAIT, identity, principal, NOW, override_reason="both are on leave", may_override=True
        )

    if may:
        assert admit() == {"override_reason": "both are on leave"}
    else:
        with pytest.raises(NotAnAnswerer):
            admit()


def test_the_message_names_people_groups_and_how_many() -> None:
    rule = Answerers(answerers=("ada@example.com", "group:finance"), not_by=("bo",), approvals=2)
    with pytest.raises(NotAnAnswerer) as refused:
        require(rule, BO)
    assert refused.value.message == (
        "wait_01 can't be answered by bo: it is answered by 2 people: ada@example.com or group finance, but not by bo"
    )


@pytest.mark.parametrize(
    ("rule", "is_refused"),
    [
        (Answerers(answerers=("group:finance",)), True),
        (Answerers(not_by=("group:finance",)), True),
        (Answerers(answerers=("ada", "group:finance")), False),
    ],
)
@pytest.mark.parametrize("groups", [None, ("finance",)])
def test_groups_that_are_old_or_unknown_refuse_what_depends_on_them(
    rule: Answerers, is_refused: bool, groups: tuple[str, ...] | None
) -> None:
    old = NOW - GROUPS_AGE_MAX - timedelta(microseconds=1)
    identity = Identity(id="ada", groups=groups, groups_at=old)
    if not is_refused:
        require(rule, identity)
        return
    with pytest.raises(GroupsUnknown):
        require(rule, identity)


def test_groups_of_a_quarter_of_an_hour_ago_count() -> None:
    identity = Identity(id="ada", groups=("finance",), groups_at=NOW - GROUPS_AGE_MAX)
    require(Answerers(answerers=("group:finance",)), identity)


@pytest.mark.parametrize("groups", [None, ("sales",)])
@pytest.mark.parametrize(
    ("rule", "refusal"),
    [
        (Answerers(answerers=("group:on-call",)), None),
        (Answerers(answerers=("group:on-call",), not_by=("bo",)), None),
        (Answerers(not_by=("group:on-call",)), NotAnAnswerer),
        (Answerers(answerers=("group:on-call",), not_by=("group:finance",)), GroupsUnknown),
        (Answerers(answerers=("ada",), not_by=("group:finance",)), GroupsUnknown),
        (Answerers(answerers=("group:finance",)), GroupsUnknown),
        (Answerers(answerers=("group:sales",)), GroupsUnknown),
    ],
)
def test_groups_of_the_file_count_whatever_is_known_of_the_issuers(
    rule: Answerers, refusal: type[Exception] | None, groups: tuple[str, ...] | None
) -> None:
    """A person could pass by a `not_by` with what does not say their groups: a personal key."""
    old = NOW - GROUPS_AGE_MAX - timedelta(microseconds=1)
    identity = Identity(id="ada", groups=groups, groups_at=old, file_groups=("on-call",))
    if refusal is None:
        require(rule, identity)
        recorded = identity.recorded(("group:on-call", "group:sales"), NOW)
        assert recorded == {"id": "ada", "groups": ["on-call"]}
        return
    with pytest.raises(refusal):
        require(rule, identity)


@pytest.mark.parametrize(
    ("refusal", "data", "declines"),
    [
        ("reject", "reject", True),
        ("reject", {"decision": "reject", "why": "no"}, True),
        ("reject", {"decision": "approve"}, False),
        ({"verdict": "no"}, {"verdict": "no", "why": "late"}, True),
        ({"verdict": "no"}, {"verdict": "yes"}, False),
        (False, False, True),
        (False, 0, False),
        (None, None, True),
    ],
)
def test_a_refusal_is_an_answer_a_decision_or_some_fields(
    refusal: object, data: object, declines: bool
) -> None:
    assert Answerers(refusals=(refusal,)).is_refusal(data) is declines


def test_people_agree_on_all_but_comments() -> None:
    rule = Answerers(approvals=2, comments=("reason",))
    one = rule.proposal({"decision": "approve", "cents": 10, "reason": "fine"})
    assert rule.proposal({"cents": 10.0, "decision": "approve"}) == one
    assert rule.proposal({"decision": "approve", "cents": 11, "reason": "fine"}) != one


def test_lists_of_people_have_one_way_to_write_each() -> None:
    names = ["person:Ada@Example.com", "ada@example.com", " group:Finance "]
    assert checked_people(names, "answerers") == ("ada@example.com", "group:Finance")
    for bad in ("ada", ["group:"], [""], [f"p{n}" for n in range(51)], ["a\nb"]):
        with pytest.raises(UsageError):
            checked_people(bad, "answerers")
