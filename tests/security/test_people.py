"""What `[people]` may say, whom a name means, and what is refused with a message that says what to do."""

from __future__ import annotations

import tomllib

import pytest

from helmr.errors import PersonNotFound, UsageError
from helmr.wait_details import WaitDetails
from helmr.wire.people import checked_people
from helmr.wire.roles import Role
from helmr_runtime.security.people import NO_PEOPLE, PeopleConfig, read_people

TOML = """
[people]
role = "viewer"
domains = ["Example.com"]
[people.ada]
email = "Ada@Example.com"
groups = ["finance", "on call"]
role = "admin"
[people.bob]
"""


def people(text: str = TOML) -> PeopleConfig:
    return read_people(tomllib.loads(text)["people"], "helmr.toml")


@pytest.mark.parametrize("name", ["ada", "person:ada", "ada@example.com", " ADA@example.COM "])
def test_a_person_has_one_id_whatever_they_are_called(name: str) -> None:
    found = people().get(name)
    assert (found.id, found.names) == ("ada", {"ada", "ada@example.com"})
    assert found.groups == ("finance", "on call")


def test_an_e_mail_of_an_allowed_domain_is_a_person_and_no_other_is() -> None:
    found = people().get("Grace@example.com")
    assert (found.id, found.groups) == ("grace@example.com", ())
    for name in ("grace@example.org", "grace@sub.example.com", "x@y@example.com", "grace", ""):
        with pytest.raises(PersonNotFound):
            people().get(name)
        assert people().canonical(name) == name


@pytest.mark.parametrize("said", ["ada", "person:ada", " ada ", "bob", "mi\u212ae@example.com", ""])
def test_a_proof_of_an_e_mail_names_no_one_by_their_id(said: str) -> None:
    assert people().with_email(said) is None
    assert people('[people]\ndomains=["example.com"]').with_email(said) is None


def test_letters_that_only_fold_to_those_of_a_person_name_someone_else() -> None:
    found = people('[people.mike]\nemail = "mike@example.com"')
    assert found.get("MIKE@example.com").id == "mike"
    assert found.find("mi\u212ae@example.com") is None


def test_a_role_is_the_persons_own_or_that_of_all() -> None:
    found = people()
    assert found.role_of(found.get("ada")) is Role.ADMIN
    assert found.role_of(found.get("bob")) is Role.VIEWER
    without = people("[people.bob]")
    assert without.role_of(without.get("bob")) is Role.OPERATOR


def test_a_runtime_without_the_table_knows_no_one() -> None:
    assert read_people(None, "helmr.toml") is NO_PEOPLE
    with pytest.raises(PersonNotFound, match="no person") as raised:
        NO_PEOPLE.get("ada@example.com")
    assert "helmr.toml" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("people = 1", "not a table"),
        ('[people]\nrole = "boss"', "role"),
        ("[people]\ncolour = 1", "colour"),
        ('[people]\ndomains = ["x"]', "'x' is not a domain"),
        ('[people."a@b.c"]', "can't be a person's name"),
        ('[people.ada]\nemail = "ada"', "'ada' is not an e-mail address"),
        ('[people.ada]\nemail = "mi\u212ae@example.com"', "of ASCII characters"),
        ('[people.ada]\ngroups = ["a:b"]', "name of a group"),
        ('[people.ada]\ngroup = ["a"]', "group"),
        ('[people.ada]\nemail = "a@b.c"\n[people.eve]\nemail = "A@B.c"', "two people"),
    ],
)
def test_what_can_not_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        people(text)
    assert "helmr.toml" in raised.value.message


def of_a_wait(*answerers: str, approvals: int = 1, not_by: tuple[str, ...] = ()) -> WaitDetails:
    return WaitDetails(
        answerers=checked_people(answerers, "answerers"),
        not_by=checked_people(not_by, "not_by"),
        approvals=approvals,
    )


FILE = """
[people.ada]
email = "ada@example.com"
groups = ["finance"]
[people.Bob]
groups = ["finance", "board"]
"""
IDENTITY = (
    '[people]\nissuer = "https://id.example.com"\nclient_id = "helmr"\ngroups_claim = "groups"\n'
)
DOMAIN = '[people]\ndomains = ["example.com"]\n'


@pytest.mark.parametrize(
    ("before", "said", "refused"),
    [
        ("", of_a_wait("ada", "ada@example.com", approvals=2), "helmr.toml knows 1 who may: ada"),
        ("", of_a_wait("ada", "bob", approvals=2), None),
        ("", of_a_wait("ada", "group:finance", approvals=2), None),
        ("", of_a_wait("group:finance", approvals=3), "3 people are to agree .* knows 2 who may"),
        ("", of_a_wait("group:finanse"), "knows no group:finanse"),
        ("", of_a_wait("ada", not_by=("group:finanse",)), "knows no group:finanse"),
        ("", of_a_wait("eve"), "helmr.toml knows no one who may"),
        ("", of_a_wait("eve@example.com"), "helmr.toml knows no one who may"),
        (DOMAIN, of_a_wait("eve@example.com"), None),
        (DOMAIN, of_a_wait("ada", "ada@example.com", "eve@example.com", approvals=3), "knows 2"),
        ("", of_a_wait("ada", "bob", not_by=("bob",), approvals=2), "knows 1 who may: ada"),
        ("", of_a_wait("ada", not_by=("group:finance",)), "knows no one"),
        ("", of_a_wait("ada", not_by=("starter",)), None),
        ("", of_a_wait(approvals=2), None),
        ("", of_a_wait(), None),
        (IDENTITY, of_a_wait("group:finanse", approvals=5), None),
        (IDENTITY, of_a_wait("ada", "ada@example.com", approvals=2), "knows 1 who may: ada"),
    ],
)
def test_a_wait_that_too_few_people_may_answer_is_refused(
    before: str, said: WaitDetails, refused: str | None
) -> None:
    known = people(before + FILE)
    if refused is None:
        known.check_rule(said)
    else:
        with pytest.raises(UsageError, match=refused) as raised:
            known.check_rule(said)
        assert raised.value.hint
    NO_PEOPLE.check_rule(said)
