"""What `helmr.toml` may say of notice targets, and what is refused with a message that says what to do."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from helmr.cli.config import notices_table
from helmr.errors import UsageError
from helmr_runtime.notices.secrets import Secrets
from helmr_runtime.notices.targets import (
    CommandTarget,
    EmailTarget,
    for_people,
    read_targets,
    to_json,
)
from helmr_runtime.security.people import read_people

KEY = "whsec_" + "A" * 40
ALL = """
[notices.oncall]
type = "webhook"
url = "https://alerts.example.com/in"
secret_env = "ONCALL_SECRET"
events = ["wait.opened", "wait.due_soon"]
filter = "priority:high -tag:test"
links = "assignee"

[notices.team]
type = "slack"
url_file = "slack.url"
title = "$event: $subject"

[notices.mail]
type = "email"
host = "smtp.example.com"
user = "helmr"
password_env = "SMTP_PASSWORD"
from = "helmr@example.com"
to = ["ada@example.com"]
detail = "full"

[notices.desk]
type = "command"
command = ["notify-send", "Helmr"]
env = ["DISPLAY"]

[notices.phone]
type = "ntfy"
url = "https://ntfy.sh"
topic_file = "phone.topic"
token_env = "NTFY_TOKEN"
"""


def test_targets_are_read_and_cross_a_process_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "slack.url").write_text("https://hooks.example.com/services/T0/B0/abc\n")
    (tmp_path / "phone.topic").write_text("helmr-f00d")
    table = tomllib.loads(ALL)["notices"]
    targets = read_targets(table, str(tmp_path / "helmr.toml"))
    assert [one.name for one in targets] == ["oncall", "team", "mail", "desk", "phone"]
    assert read_targets(to_json(targets), "elsewhere") == targets
    environ = {"ONCALL_SECRET": KEY, "SMTP_PASSWORD": "not told", "NTFY_TOKEN": "tk_hidden"}
    for one in targets:
        one.check(Secrets(environ))
    assert not re.search("hooks.example.com|f00d|hidden", str(to_json(targets)))
    assert isinstance(targets[3], CommandTarget)
    assert targets[3].folder == tmp_path, "that of the file, wherever it is sent from"


@pytest.mark.parametrize(("given", "found"), [("hooks", "hooks"), ("/srv/hooks", "/srv/hooks")])
def test_a_commands_folder_is_looked_up_from_the_file(
    tmp_path: Path, given: str, found: str
) -> None:
    parts = {"type": "command", "command": ["true"], "folder": given}
    [target] = read_targets({"desk": parts}, str(tmp_path / "helmr.toml"))
    assert isinstance(target, CommandTarget)
    assert target.folder == tmp_path / found


def test_mail_to_one_person_names_one_address() -> None:
    table = tomllib.loads(ALL.replace('["ada@example.com"]', '"ada@example.com"'))["notices"]
    assert read_targets(table, "helmr.toml") == read_targets(
        tomllib.loads(ALL)["notices"], "helmr.toml"
    )


HOOK = 'type = "webhook"\nurl = "https://a.example"\nsecret_env = "S"\n'
PUSH = 'type = "ntfy"\nurl = "https://ntfy.sh"\ntopic = "t"\n'
MAIL = 'type = "email"\nhost = "h"\nfrom = "a@b"\nto = ["c@d"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('type = "pigeon"', "pigeon"),
        ("", "type"),
        (HOOK + 'filter = "colour:red"', "colour: is not a field"),
        (HOOK + 'filter = "is:mine"', "is:mine"),
        (HOOK + 'events = ["wait.open"]', "events"),
        (HOOK + "events = []", "events"),
        (HOOK + 'due_soon = "soon"', "soon"),
        (HOOK + 'text = "x"', "text"),
        (HOOK.replace("https://a", "ftp://a"), "http or https"),
        (HOOK.replace("https://a", "https://u:p@a"), "a user or a password"),
        (HOOK.replace('secret_env = "S"', ""), "exactly one of secret_env, secret_file"),
        (HOOK + 'url_env = "U"', "exactly one of url"),
        ('type = "slack"\nurl_env = "U"\ntext = "$colour"', "colour"),
        ('type = "slack"\nurl_env = "U"\ntext = "100$"', "is not a word of a template"),
        ('type = "slack"\nurl = "https://hooks"', "url"),
        (MAIL + 'user = "u"', "password_env"),
        (MAIL + 'user = "u"\npassword_env = "P"\nsecurity = "none"', "in the clear"),
        (MAIL.replace("c@d", "nobody"), "is not an address"),
        (PUSH.replace('topic = "t"', ""), "exactly one of topic, topic_env, topic_file"),
        (PUSH + 'topic_env = "T"', "exactly one of topic, topic_env, topic_file"),
        (PUSH.replace('"t"', '"a/b"'), "a topic is 1 to 64 letters"),
        (PUSH.replace("ntfy.sh", "ntfy.sh/mine"), "the topic stands in `topic`"),
        (PUSH.replace("ntfy.sh", "ntfy.sh?auth=x"), "it names more than the server"),
        (PUSH.replace("https", "ftp"), "http or https"),
        (PUSH.replace("https", "http") + 'token_env = "T"', "not sent in the clear"),
        (PUSH + 'token_env = "T"\ntoken_file = "t"', "exactly one of token_env, token_file"),
        (PUSH + 'links = "ada"\ndetail = "none"', "an answer link is a secret"),
        (PUSH + 'events = ["wait.due_soon"]', "wait.due_soon wants wait.opened too"),
        (PUSH + 'filter = "due<1h"', "due<1h changes while a wait is pending"),
        (PUSH + 'filter = "-claimed:ada"', "claimed:ada changes while a wait is pending"),
        (PUSH + 'filter = "is:unassigned,claimed"', "changes while a wait is pending"),
        ('type = "command"\ncommand = []', "command"),
        ('type = "command"\ncommand = "notify-send Helmr"', "command: it should be a list"),
    ],
)
def test_what_can_not_be_meant_is_refused_by_name(text: str, said: str) -> None:
    table = tomllib.loads(f"[notices.one]\n{text}")["notices"]
    with pytest.raises(UsageError) as raised:
        read_targets(table, "helmr.toml")
    assert "helmr.toml: [notices.one]" in raised.value.message
    assert said in raised.value.message
    assert raised.value.hint


ASKED = ["wait.opened", "run.failed"]
ENDS = ["wait.resolved", "wait.timed_out"]


@pytest.mark.parametrize(
    ("parts", "heard"),
    [
        ({"events": ASKED}, [*ASKED, *ENDS]),
        ({"events": ASKED, "filter": "priority:high -tag:eu"}, [*ASKED, *ENDS]),
        ({"events": ASKED, "filter": "assignee:ada"}, [*ASKED, "wait.assigned", *ENDS]),
        ({"events": ASKED, "filter": "is:unassigned"}, [*ASKED, "wait.assigned", *ENDS]),
        ({"events": ASKED, "filter": "refund"}, [*ASKED, "wait.assigned", *ENDS]),
        ({"events": [*ENDS, *ASKED]}, [*ENDS, *ASKED]),
        ({"events": ["run.blocked"]}, ["run.blocked"]),
        ({"events": ["wait.resolved"]}, ["wait.resolved"]),
    ],
)
def test_a_phone_that_is_told_of_waits_is_told_what_became_of_them(
    parts: dict[str, Any], heard: list[str]
) -> None:
    push = {"type": "ntfy", "url": "https://ntfy.sh", "topic": "t", **parts}
    [target] = read_targets({"phone": push}, "helmr.toml")
    assert [one.value for one in target.heard] == heard
    hook = {"type": "webhook", "url": "https://a.example", "secret_env": "S"}
    [target] = read_targets({"hook": {**hook, **parts}}, "helmr.toml")
    assert [one.value for one in target.heard] == parts["events"]


@pytest.mark.parametrize("topic", ["", "a b", "x" * 65])
def test_a_topic_elsewhere_that_is_none_is_said_without_showing_it(topic: str) -> None:
    push = {"type": "ntfy", "url": "https://ntfy.sh", "topic_env": "T"}
    [target] = read_targets({"phone": push}, "helmr.toml")
    with pytest.raises(UsageError) as raised:
        target.check(Secrets({"T": topic}))
    assert "[notices.phone] topic" in raised.value.message
    assert not topic or topic not in str(raised.value)


@pytest.mark.parametrize("name", ["a b", "", "x" * 65, "ü"])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(UsageError, match="is not a name of a notice target"):
        read_targets({name: {}}, "helmr.toml")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "environment variable S holds no line of text"),
        ({"S": "short"}, "not a key of Standard Webhooks"),
        ({"S": "whsec_!!!"}, "not a key of Standard Webhooks"),
        ({"S": "a\nb"}, "holds no line of text"),
    ],
)
def test_a_secret_that_is_not_there_is_said_without_showing_it(
    environ: dict[str, str], said: str
) -> None:
    (target,) = read_targets(tomllib.loads(f"[notices.one]\n{HOOK}")["notices"], "helmr.toml")
    with pytest.raises(UsageError) as raised:
        target.check(Secrets(environ))
    assert said in raised.value.message
    assert not any(value in str(raised.value) for value in environ.values())


def test_the_file_beside_the_data_directory_is_read_unless_another_is_named(tmp_path: Path) -> None:
    data_dir = tmp_path / ".helmr"
    assert notices_table(None, data_dir)[0] == {}
    (tmp_path / "helmr.toml").write_text(f"[notices.one]\n{HOOK}")
    assert set(notices_table(None, data_dir)[0]) == {"one"}
    other = tmp_path / "other.toml"
    with pytest.raises(UsageError, match="there is no such file"):
        notices_table(other, data_dir)
    other.write_text("[notice.one]\n")
    with pytest.raises(UsageError, match="'notice' is not a key of this file"):
        notices_table(other, data_dir)
    other.write_text("[notices")
    with pytest.raises(UsageError, match="can't be read"):
        notices_table(other, data_dir)


def test_mail_to_a_person_goes_to_the_e_mail_of_their_table(tmp_path: Path) -> None:
    people = read_people({"ada": {"email": "Ada@example.com"}, "bob": {}}, "helmr.toml")
    parts = {"type": "email", "host": "mail.test", "from": "helmr@example.com", "security": "none"}
    to = ["person:ada", "desk@example.com"]
    [target] = read_targets({"mail": {**parts, "to": to}}, str(tmp_path / "helmr.toml"))
    found = for_people(target, people)
    assert isinstance(found, EmailTarget)
    assert found.to == ("ada@example.com", "desk@example.com")
    for name in ("person:bob", "person:eve"):
        [target] = read_targets({"mail": {**parts, "to": name}}, str(tmp_path / "helmr.toml"))
        with pytest.raises(UsageError, match=f"{name} names no one with an e-mail"):
            for_people(target, people)


@pytest.mark.parametrize(
    ("to", "links", "made_for"),
    [
        ("person:ada", "assignee", "ada"),
        ("Ada@example.com", "assignee", "ada"),
        ("person:ada", "ada@example.com", "ada"),
        ("person:ada", None, None),
        (["person:ada", "person:grace"], None, None),
        ("desk@example.com", "assignee", "assignee"),
        ("desk@example.com", "grace", "grace"),
        ("person:ada", "grace", UsageError),
        (["person:ada", "person:grace"], "assignee", UsageError),
        (["person:ada", "desk@example.com"], "assignee", UsageError),
        (["ada@example.com", "grace@example.com"], "ada", UsageError),
    ],
)
def test_a_mail_holds_links_for_who_reads_it_and_no_one_else(
    tmp_path: Path, to: Any, links: str | None, made_for: Any
) -> None:
    people = read_people(
        {"ada": {"email": "ada@example.com"}, "grace": {"email": "grace@example.com"}}, "x"
    )
    parts = {"type": "email", "host": "mail.test", "from": "helmr@example.com", "security": "none"}
    said = {**parts, "to": to, **({"links": links} if links is not None else {})}
    [target] = read_targets({"mail": said}, str(tmp_path / "helmr.toml"))
    if made_for is UsageError:
        with pytest.raises(UsageError, match="links made for others"):
            for_people(target, people)
    else:
        assert for_people(target, people).links == made_for
