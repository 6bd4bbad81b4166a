"""Runtimes by name: kept without a secret, meant by --at and HELMR_AT, by command line and console alike."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from helmr.client.profiles import Context, add_context, contexts_path, find_context, read_contexts
from helmr.errors import UsageError
from tests.cli.conftest import Said
from tests.client.gateway import KEY, Gateway

Run = Callable[..., Said]


@pytest.fixture
def settings(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where settings stand; no runtime is found otherwise."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(nowhere / "config"))
    monkeypatch.delenv("HELMR_AT", raising=False)
    (nowhere / "eu.key").write_text(KEY + "\n")
    (nowhere / "eu.key").chmod(0o600)
    return nowhere / "config" / "helmr" / "contexts.toml"


@pytest.fixture
def named(settings: Path, gateway: Gateway, helmr: Run) -> Gateway:
    """A runtime with the name eu."""
    said = helmr(
        "context",
        "add",
        "eu",
        "--url",
        gateway.url,
        "--key-file",
        "eu.key",
        "--on-behalf-of",
        "ana",
    )
    assert (said.code, said.err) == (0, "")
    return gateway


def test_a_runtime_is_meant_by_its_name_with_its_key_and_its_person(
    named: Gateway, helmr: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = named.session()
    for words in (["--at", "eu", "session", "list"], ["session", "list", "--at", "eu"]):
        assert session_id in helmr(*words).out
    monkeypatch.setenv("HELMR_AT", "eu")
    monkeypatch.setenv("HELMR_URL", "http://127.0.0.1:9")
    assert session_id in helmr("session", "list").out
    assert {one.headers["authorization"] for one in named.seen} == {f"Bearer {KEY}"}
    assert {one.headers["on-behalf-of"] for one in named.seen} == {"ana"}
    helmr("session", "list", "--on-behalf-of", "bob")
    assert named.seen[-1].headers["on-behalf-of"] == "bob"


def test_a_context_with_a_key_file_says_that_the_environments_key_is_not_used(
    named: Gateway,
    helmr: Run,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    named.session()
    monkeypatch.setenv("HELMR_API_KEY", "hlmr_key_other")
    helmr("session", "list", "--at", "eu")
    assert named.seen[-1].headers["authorization"] == f"Bearer {KEY}"
    assert "HELMR_API_KEY is not used" in caplog.text
    assert "hlmr_key_other" not in caplog.text
    said = helmr("session", "list", "--url", "http://127.0.0.1:9", "--key-file", "eu.key")
    assert (said.code, "127.0.0.1:9" in said.err) == (6, True)


def test_a_key_file_may_be_named_from_the_home_folder(
    named: Gateway, settings: Path, nowhere: Path, helmr: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(nowhere))
    settings.write_text(settings.read_text().replace(f"{nowhere}/eu.key", "~/eu.key"))
    assert helmr("--at", "eu", "session", "list").code == 0
    assert {one.headers["authorization"] for one in named.seen} == {f"Bearer {KEY}"}


def test_no_secret_is_stored_and_the_file_is_for_one_alone(
    named: Gateway, settings: Path, nowhere: Path
) -> None:
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    assert KEY not in settings.read_text()
    assert f'key_file = "{nowhere}/eu.key"' in settings.read_text()


def test_they_are_listed_changed_and_forgotten(
    named: Gateway, helmr: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    helmr("context", "add", "us", "--url", "https://us.example.com")
    monkeypatch.setenv("HELMR_AT", "eu")
    lines = [line.split() for line in helmr("context", "list").out.splitlines()[1:]]
    assert lines[0][:3] == ["*", "eu", named.url]
    assert lines[1][:2] == ["us", "https://us.example.com"]
    assert helmr("context", "add", "us", "--url", "https://us2.example.com").code == 0
    found = json.loads(helmr("context", "list", "--json").out)["items"]
    assert [one["url"] for one in found] == [named.url, "https://us2.example.com"]
    assert helmr("context", "remove", "us").code == 0
    said = helmr("status", "--at", "us")
    assert (said.code, said.out) == (2, "")
    assert "there is no context 'us'" in said.err
    assert "Contexts: eu." in said.err


def test_a_name_that_is_gone_keeps_no_context_command_from_working(
    settings: Path, helmr: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELMR_AT", "gone")
    assert helmr("context", "list").code == 0
    assert helmr("status").code == 2


def test_a_key_that_others_can_read_is_told(settings: Path, helmr: Run, nowhere: Path) -> None:
    (nowhere / "eu.key").chmod(0o644)
    said = helmr("context", "add", "eu", "--url", "https://x.example", "--key-file", "eu.key")
    assert said.code == 0
    assert "others can read the key in eu.key: chmod 600" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["context", "add", "eu"], "needs the runtime's URL"),
        (["context", "add", "eu", "--url", "x.example"], "the URL is none of a runtime"),
        (["context", "add", "eu", "--url", "https://a:b@x.example"], "a user or password in it"),
        (["context", "add", "a/b", "--url", "https://x.example"], "is not a name of a context"),
        (["context", "add", "eu", "--url", "https://x.example", "--data-dir", "."], "by its URL"),
        (["context", "remove", "eu"], "there is no context 'eu'"),
        (["status", "--at", "eu", "--url", "https://x.example"], "can't go with --url"),
    ],
)
def test_what_can_not_be_meant_is_refused(
    settings: Path, helmr: Run, words: list[str], said: str
) -> None:
    found = helmr(*words)
    assert (found.code, found.out) == (2, "")
    assert said in found.err
    assert not settings.exists()


@pytest.mark.parametrize(
    "text",
    [
        "contexts = 1",
        "[contexts.a]",
        "[contexts.a]\nurl = 1",
        "[contexts.a]\nurl = 'https://x'\nkey = 'y'",
        "[",
    ],
)
def test_a_file_that_says_nothing_is_one_error(settings: Path, helmr: Run, text: str) -> None:
    settings.parent.mkdir(parents=True)
    settings.write_text(text)
    said = helmr("context", "list")
    assert (said.code, said.out) == (2, "")
    assert str(settings) in said.err


def test_any_name_and_person_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    odd = Context(name="a.b-c_1", url="https://x.example/é?a=b", on_behalf_of='Zoë "the" \\ 者')
    assert not add_context(environ, odd)
    assert add_context(environ, odd)
    assert read_contexts(environ) == {odd.name: odd}
    assert find_context(environ, odd.name) == odd
    with pytest.raises(UsageError, match="there is no context"):
        find_context(environ, "a")
    assert contexts_path(environ).exists()
