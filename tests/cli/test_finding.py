"""An id may be given by its beginning, its end, or as `last`, wherever a command asks for one."""

from __future__ import annotations

import json

import pytest

from tests.client.gateway import Gateway


def test_an_id_is_found_by_its_beginning_and_by_its_end(helmr, here: Gateway) -> None:
    wait = here.wait(here.session(), subject="Mine?")
    for part in (wait["id"][:20], wait["id"][5:20], wait["id"][-6:]):
        said = helmr("wait", "get", part, "--json")
        assert (said.code, json.loads(said.out)["id"]) == (0, wait["id"])
        assert said.err == f"wait {wait['id']}\n"
    assert helmr("wait", "get", wait["id"], "--json").err == ""


@pytest.mark.parametrize("words", ["session get", "session transcript", "output read {} progress"])
def test_last_is_the_newest(helmr, here: Gateway, words: str) -> None:
    here.session()
    newest = here.session()
    command = words.format("last").split() if "{}" in words else [*words.split(), "last"]
    said = helmr(*command, "--json")
    assert said.code == 0
    assert said.err == f"session {newest}\n"


def test_an_ambiguous_part_lists_what_it_fits_and_nothing_is_done(helmr, here: Gateway) -> None:
    first, second = here.session(), here.session()
    said = helmr("session", "cancel", first[:9])
    assert said.code == 2
    line, hint = said.err.splitlines()
    assert line == f"helmr: '{first[:9]}' matches 2 sessions: {first}, {second}"
    assert hint.startswith("hint: Give more characters of the id")
    assert not here.requests("POST", f"/v1/sessions/{first}/cancel")


def test_a_part_of_nothing_is_not_found(helmr, here: Gateway) -> None:
    here.session()
    said = helmr("session", "get", "zzzzzz")
    assert said.code == 3
    assert said.err.splitlines() == [
        "helmr: zzzzzz: no id begins or ends with 'zzzzzz'",
        "hint: `helmr session list` shows what there is.",
    ]
    assert helmr("run", "get", "last").code == 3


def test_less_than_four_characters_are_no_part_of_an_id(helmr, here: Gateway) -> None:
    session_id = here.session()
    said = helmr("session", "get", session_id[-3:])
    assert (said.code, here.requests("GET", "/v1/sessions")) == (2, [])


def test_a_part_is_looked_for_on_every_page(helmr, here: Gateway) -> None:
    oldest = here.session()
    for _ in range(450):
        here.session()
    assert helmr("session", "get", oldest[-8:], "--json").code == 0
