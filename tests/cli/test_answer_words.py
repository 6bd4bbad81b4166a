"""`helmr wait answer` by key=value, and by a file of answers to many waits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_answer_all import Script, asks, now, publishes, stack, statuses
from tests.cli.test_next import output
from tests.service.stack import Stack

__all__ = ["stack"]

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]


@pytest.fixture
def script(stack: Stack, tmp_path: Path) -> Script:
    return Script(stack, tmp_path)


async def test_words_are_an_answer_of_the_waits_types(stack: Stack, script: Script) -> None:
    [one] = await publishes(stack, 1)
    ran = await script.runs("wait", "answer", "last", "decision=approve", "note=as agreed")
    assert ran.code == 0, ran.err
    assert await output(stack, one) == "approve as agreed"
    order = await asks(stack, "order", subject="Order?")
    words = [
        "to.street=Ring",
        "to.number=7",
        "items[0].sku=S1",
        "items[0].qty=2",
        "labels=a",
        "labels=b",
    ]
    ran = await script.runs("wait", "answer", order["wait"]["id"], *words, "--json")
    assert ran.code == 0, ran.err
    assert (await now(stack, order))["answer"] == {
        "to": {"street": "Ring", "number": 7},
        "items": [{"sku": "S1", "qty": 2}],
        "labels": ["a", "b"],
    }


async def test_last_is_no_answer_where_several_wait_and_all_knows_what_was_begun(
    stack: Stack, script: Script
) -> None:
    receipts = await publishes(stack, 2)
    waits = [one["wait"]["id"] for one in receipts]
    ran = await script.runs("wait", "answer", "last", "decision=approve")
    assert (ran.code, ran.out) == (2, "")
    assert "last: several waits are pending" in ran.err
    assert all(one in ran.err for one in waits)
    assert "hint: Name the one that you mean." in ran.err
    assert await statuses(stack, receipts) == ["pending"] * 2

    drafts = script.folder / "state" / "helmr" / "console" / "people" / "ana" / "drafts"
    drafts.mkdir(parents=True)
    (drafts / f"{waits[0]}.0.json").write_text("{}")
    words = ("wait", "answer", "--all", "decision=approve", "--filter", "is:draft", "--yes")
    ran = await script.runs(*words, "--json")
    assert (ran.code, [one["wait_id"] for one in ran.lines]) == (0, waits[:1]), ran.err
    ran = await script.runs("wait", "answer", "last", "decision=reject")
    assert ran.code == 0, ran.err
    assert await statuses(stack, receipts) == ["fulfilled"] * 2


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["decison=approve"], "decison is not a field of the answer", "Did you mean decision? Fields: decision, note."),
        (["decision=maybe"], "'maybe' is not one of approve, reject, edit", "decision:=…"),
        (["decision=approve", "--data", "{}"], "given twice", "Give one of them."),
        (["decision=approve", "--csv", "x.csv"], "the file names the waits", "Give the file alone."),
        (["--csv", "x.csv", "--jsonl", "y"], "are two files", "Give one of them."),
        (["--csv", "missing.csv", "--yes"], "the file names the waits", "Give the file alone."),
    ],
)  # fmt: skip
async def test_what_fits_no_field_is_one_error_and_nothing_is_sent(
    stack: Stack, script: Script, words: list[str], said: str, hint: str
) -> None:
    receipts = await publishes(stack, 1)
    ran = await script.runs("wait", "answer", "last", *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert f"hint: {hint}" in ran.err.replace("To give JSON, write ", "")
    assert await statuses(stack, receipts) == ["pending"]


async def test_words_answer_all_that_a_filter_finds(stack: Stack, script: Script) -> None:
    receipts = await publishes(stack, 2)
    words = ("wait", "answer", "--all", "decision=reject", "note=late")
    ran = await script.runs(*words, "--filter", "stream:approval", "--yes", "--json")
    assert ran.code == 0, ran.err
    assert [one["progress"] for one in ran.lines] == ["accepted"] * 2
    assert [await output(stack, one) for one in receipts] == ["reject late"] * 2


async def test_a_sheet_is_previewed_sent_and_sent_again_without_harm(
    stack: Stack, script: Script, tmp_path: Path
) -> None:
    receipts = await publishes(stack, 4)
    gone = await publishes(stack, 1)
    refund = await asks(stack, "refund", subject="Refund?")
    [a, b, c, d] = [one["wait"]["id"] for one in receipts]
    await script.runs("wait", "answer", gone[0]["wait"]["id"], "decision=edit")
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(
        "\ufeffid,subject,decision,note,refund,cents\n"
        f'{a},Publish 0?,approve,"with, comma",,\n'
        f"{b},Publish 1?,reject,,,\n"
        f"{c},Publish 2?,,,,\n"
        f"{d},Publish 3?,perhaps,,,\n"
        f"{gone[0]['wait']['id']},,approve,,,\n"
        f"{refund['wait']['id']},Refund?,,,yes,420\n"
        "wait_01m8b1cfvkemm9wgpcbw5a79we,,approve,,,\n",
        encoding="utf-8",
    )
    words = ["wait", "answer", "--csv", str(sheet), "--batch", "monday", "--json"]
    ran = await script.runs(*words, "--preview")
    planned = [one for one in ran.lines if one["progress"] == "planned"]
    assert [one["answer"] for one in planned] == [
        {"decision": "approve", "note": "with, comma"},
        {"decision": "reject"},
        {"refund": True, "cents": 420},
    ]
    assert set(await statuses(stack, receipts)) == {"pending"}
    ran = await script.runs(*words)
    assert (ran.code, "no one can be asked" in ran.err) == (2, True)
    ran = await script.runs(*words, "--yes")
    told = {one.get("row", one.get("wait_id")): one["progress"] for one in ran.lines}
    assert told == {
        4: "empty",
        5: "refused",
        8: "refused",
        gone[0]["wait"]["id"]: "left_out",
        a: "accepted",
        b: "accepted",
        refund["wait"]["id"]: "accepted",
    }
    assert ran.code == 5
    [row] = [one for one in ran.lines if one.get("row") == 5]
    assert "'perhaps' is not one of approve, reject, edit" in row["detail"]
    assert await statuses(stack, receipts) == ["fulfilled", "fulfilled", "pending", "pending"]
    assert (await now(stack, receipts[0]))["batch_id"] == "monday"

    sheet.write_text(sheet.read_text(encoding="utf-8").replace("perhaps", "edit"), encoding="utf-8")
    ran = await script.runs(*words, "--yes")
    done = [one for one in ran.lines if one["progress"] == "accepted"]
    assert [one["wait_id"] for one in done] == [a, b, refund["wait"]["id"], d]
    assert [one["detail"] for one in done[:3]] == ["before, in this batch"] * 3
    assert await output(stack, receipts[3]) == "edit None"
    sheet.write_text(
        sheet.read_text(encoding="utf-8").replace("Publish 1?,reject", "Publish 1?,approve")
    )
    [one] = [one for one in (await script.runs(*words, "--yes")).lines if one.get("row") == 3]
    assert (one["progress"], one["detail"]) == ("skipped", "this batch has answered otherwise")


async def test_a_preview_refuses_what_the_runtime_would(
    stack: Stack, script: Script, tmp_path: Path
) -> None:
    refunds = [await asks(stack, "refund", subject="Refund?") for _ in range(2)]
    [a, b] = [one["wait"]["id"] for one in refunds]
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(f"id,refund,cents\n{a},yes,99999999\n{b},yes,5\n", encoding="utf-8")
    ran = await script.runs("wait", "answer", "--csv", str(sheet), "--preview", "--json")
    assert ran.code == 2
    told = {one.get("row", one.get("wait_id")): one["progress"] for one in ran.lines}
    assert told == {2: "refused", b: "planned"}
    [row] = [one for one in ran.lines if one.get("row") == 2]
    assert "cents must be 50000 or less" in row["detail"]


async def test_a_text_is_answered_as_a_word(stack: Stack, script: Script) -> None:
    receipt = await asks(stack, "talk")
    ran = await script.runs("wait", "answer", receipt["wait"]["id"], "it is on its way")
    assert ran.code == 0, ran.err
    assert (await now(stack, receipt))["answer"] == "it is on its way"


async def test_an_id_that_is_empty_is_said_to_be(script: Script) -> None:
    ran = await script.runs("wait", "answer", "", "decision=approve")
    assert (ran.code, ran.out) == (2, "")
    assert "the id of the wait is empty" in ran.err


async def test_lines_answer_by_wait_or_correlation_id(stack: Stack, script: Script) -> None:
    [one, two] = await publishes(stack, 2)
    lines = [
        {"wait": one["wait"]["id"], "data": {"decision": "approve"}},
        {"correlation_id": "none", "data": {"decision": "approve"}},
        {"wait": one["wait"]["id"], "data": {"decision": "reject"}},
        {"data": 1},
        {"wait": two["wait"]["id"]},
    ]
    given = "".join(f"{json.dumps(line)}\n" for line in lines) + "no JSON\n"
    ran = await script.runs("wait", "answer", "--jsonl", "-", "--yes", "--json", given=given)
    refused = {one["row"]: one["detail"] for one in ran.lines if "row" in one}
    assert list(refused) == [2, 3, 4, 5, 6]
    assert refused[2] == "no pending wait has the correlation id none"
    assert "is in an earlier row" in refused[3]
    assert refused[4] == "the row names no wait"
    assert refused[5].startswith("a line is an object with")
    assert await statuses(stack, [one, two]) == ["fulfilled", "pending"]


async def test_a_table_that_names_no_wait_is_refused(
    stack: Stack, script: Script, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.csv"
    for text, said in (
        ("decision\napprove\n", "no column names the wait"),
        ("", "no column"),
        ('id\n"a\n', "is not CSV"),
    ):
        sheet.write_text(text)
        ran = await script.runs("wait", "answer", "--csv", str(sheet), "--yes")
        assert ran.code == 2
        assert said in ran.err
