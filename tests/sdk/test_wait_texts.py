"""Subjects and bodies that are too long end no run: they are made to fit, and the log says so once."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from helmr import streams, task, tokens
from helmr.models import BODY_MAX_BYTES
from helmr.testing import Harness
from helmr.wait_options import fitted_body, fitted_subject

go = streams.input("go", schema=int)
MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, None),
        ("", None),
        ("\n \n", None),
        ("Publish?", "Publish?"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 199 + "…"),
        ("word " * 60, ("word " * 60)[:199].rstrip() + "…"),
        ("two\nlines", "two lines"),
        ("one line and its end\n", "one line and its end"),
        ("page\x0cbreak\u2028and more", "page break and more"),
        ("half \ud83d of a character", "half \ufffd of a character"),
        ("both \ud83d\ude00 halves", "both \U0001f600 halves"),
    ],
)
def test_a_subject_is_one_line_of_200_characters(text: str | None, shown: str | None) -> None:
    assert fitted_subject(text) == shown


def test_a_body_is_kept_whole_up_to_a_mebibyte_and_cut_beyond() -> None:
    assert fitted_body("") is None
    assert fitted_body("lone \udfff") == "lone \ufffd"
    whole = "é" * (MIB // 2)
    assert fitted_body(whole) == whole
    cut = fitted_body(whole + "é")
    assert cut is not None
    assert len(cut.encode()) <= BODY_MAX_BYTES
    assert cut.endswith("é\n\n… (cut here: it has 1.0 MB, of which 1 MiB is kept)")


@task(id="asks-much")
async def asks_much(payload: dict[str, Any]) -> list[Any]:
    """Asks three times."""
    token = await tokens.create(subject=payload["subject"], body=payload["body"])
    asked = (await tokens.get(token.id)).subject
    waits = (go.wait(subject=payload["subject"], body=payload["body"]) for _ in range(3))
    return [asked, *[await wait.unwrap() for wait in waits]]


@pytest.mark.parametrize("replay_always", [False, True], ids=["once", "replayed"])
async def test_a_run_goes_on_whatever_is_written_and_the_log_says_so_once(
    replay_always: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "helmr.task")
    body = "line of a diff\n" * 60_000  # 900 kB
    payload = {"subject": "a question that a model wrote " * 8, "body": body}
    async with Harness(asks_much, replay_always=replay_always) as harness:
        session = await harness.start("asks-much", payload)
        wait = await session.wait()
        assert wait["subject"] == ("a question that a model wrote " * 8)[:199].rstrip() + "…"
        assert wait["body"] == payload["body"]
        for number in range(3):
            await session.answer(number)
        assert await session.result() == [wait["subject"], 0, 1, 2]
    [line] = [record.message for record in caplog.records]
    assert "one was shortened" in line
    assert line.startswith("run_")
