"""Which commands are plain words in every shell, and that what allows takes nothing else (S-109)."""

from __future__ import annotations

import re
import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helmr.gate.shell_words import COMMAND_MAX, is_single, loose_parts, plain_words
from tests.budget import examples
from tests.gate.shell_corpus import PLAIN, spellings

GLOBS = ("*", "ls*", "ls *", "wc *", "git status*", "l? *", "ls -la*")


def test_no_glob_takes_a_command_that_some_shell_reads_otherwise() -> None:
    assert len(spellings()) > 400
    allowed = [one for one in spellings() if any(is_single(one, glob) for glob in GLOBS)]
    assert allowed == []


@pytest.mark.parametrize("command", PLAIN)
def test_plain_words_are_taken(command: str) -> None:
    assert is_single(command, "ls*")
    assert is_single(f" {command}\n", "ls*")


def test_words_come_without_the_quotes_around_them() -> None:
    assert plain_words("ls 'a b'\"c\" d''e '' \"it's\"") == ("ls", "a bc", "de", "", "it's")
    assert plain_words("") == ()
    assert plain_words("'ls' a") is None


@pytest.mark.parametrize(
    "command",
    [
        "x=1 ls",
        "=ls",
        "ls =ls",
        "ls ~",
        "ls a:~",
        "ls a=~",
        "ls *",
        "ls a?",
        "ls [a]",
        "ls a{b,c}",
        "ls ~ada",
        "ls !x",
        "ls ^x",
        "ls #x",
        "ls a\\ b",
        "ls a\tb",
        "ls $x",
        'ls "$x"',
        "ls 'a\nb'",
        'ls "a!b"',
        "ls 'a",
        'ls "a',
        "-x ls",
        "%1",
        "ls \u202ea",
        "ls \u200ba",
    ],
)
def test_what_a_shell_expands_is_no_plain_word(command: str) -> None:
    assert plain_words(command) is None
    assert not is_single(command, "*")


def test_a_rule_takes_what_it_spells_itself_and_plain_words_beside_it() -> None:
    glob = "make test 2>&1 | tail -n *"
    assert is_single("make test 2>&1 | tail -n 20", glob)
    for more in ("20; rm x", "20 | rm", "20 > x", "$(rm x)", "20 'x'", "20 & rm", "20\nrm x"):
        assert not is_single(f"make test 2>&1 | tail -n {more}", glob)
    assert is_single("a && b | c", "a && b | c")
    assert not is_single("a && b | c && d", "a && b | c*")
    assert not is_single("a | b & c", "a | b*")
    assert is_single("ls (x)", "ls [(]x)")


def test_quotes_of_a_rule_are_ended_by_no_quotes_of_a_command() -> None:
    glob = 'git commit -m "*" && make'
    assert is_single('git commit -m "Mend it" && make', glob)
    assert not is_single('git commit -m "";"rm";"" && make', glob)


WORDS = st.text(alphabet="ab.-/ '\"=~[]!?*x", max_size=12)


@given(command=WORDS, glob=WORDS)
@settings(max_examples=examples(400))
def test_of_plain_words_a_glob_takes_what_globs_take(command: str, glob: str) -> None:
    assume(
        not re.search("-.!", glob)
    )  # fnmatch drops the range of [x-a!] and then reads "not", which allows more
    if plain_words(command) is not None:
        assert is_single(command, glob) == fnmatchcase(command.strip(" \t\n"), glob)
    elif is_single(command, glob):
        assert fnmatchcase(command.strip(" \t\n"), glob)


@pytest.mark.parametrize(
    "glob",
    [
        "ls [=--]",
        "ls [z-a]",
        "ls [z-ab]",
        "ls [!z-a]",
        "ls [[-a]",
        "ls [&&||~~]",
        "ls [a-c-e]",
        "ls [a-]",
    ],
)
def test_a_class_takes_what_classes_of_globs_take(glob: str) -> None:
    for one in "abcdexyz-./":
        assert is_single(f"ls {one}", glob) == fnmatchcase(f"ls {one}", glob), one


def test_a_long_command_is_asked_about_and_takes_no_time() -> None:
    assert is_single("ls " + "a " * 4_000, "ls *")
    assert not is_single("ls " + "a" * COMMAND_MAX, "ls *")
    began = time.process_time()
    for glob in ("ls *a*a*a*a*a*b", "ls " + "*a" * 300 + "b", "ls *&*&*a*a*a*b"):
        is_single("ls " + "a" * 9_000, glob)
        is_single("ls & " + "a" * 9_000, glob)
    assert time.process_time() - began < 5  # exponential would be years


@pytest.mark.parametrize(
    "command",
    [
        "git push",
        "git  push",
        'git "push"',
        "g'i't push",
        "git pu\\sh",
        "x; git push",
        "(git push)",
        "$(git push)",
        "`git push`",
        "x\ngit push",
        "{ git push; }",
        " git push ",
        "true && git push",
    ],
)
def test_a_rule_that_asks_finds_a_command_however_it_is_spelt(command: str) -> None:
    assert any(fnmatchcase(one, "git push*") for one in loose_parts(command))
