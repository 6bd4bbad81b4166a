"""Lists: filled up to their limit, as ids or CSV, and watched as they change."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable

import pytest

from helmr.cli import listing, nouns
from helmr.cli.listing import Wanted, changes, read
from helmr.models import Page, SessionInfo, WaitPriority
from helmr.models.queries import ListQuery
from tests.cli.conftest import Said, spawn
from tests.cli.test_terminal import screen
from tests.client.gateway import Gateway

Run = Callable[..., Said]


def items(said: Said) -> list[str]:
    assert said.code == 0, said.err
    return [one["id"] for one in json.loads(said.out)["items"]]


def test_a_filter_fills_the_list_up_to_its_limit(helmr: Run, here: Gateway) -> None:
    wanted = [here.session(task="parent" if n % 10 == 0 else "kid") for n in range(60)][::10]
    words = ["session", "list", "--filter", "task:par*", "--json", "--limit"]
    assert set(items(helmr(*words, "6"))) == set(wanted)
    assert set(items(helmr(*words, "200"))) == set(wanted)
    table = helmr("session", "list", "--filter", "task:par*", "--limit", "3")
    assert len(table.out.splitlines()) == 1 + 3


def test_pages_of_a_filtered_list_leave_nothing_out_and_repeat_nothing(
    helmr: Run, here: Gateway
) -> None:
    tasks = ["parent", *["kid"] * 5, *["parent"] * 3, "kid", *["parent"] * 3]
    made = [(task, here.session(task=task)) for task in tasks]
    wanted = {session_id for task, session_id in made if task == "parent"}
    found: list[str] = []
    sizes: list[int] = []
    after: str | None = None
    while len(sizes) < 4 and (after is not None or not sizes):
        cursor = ["--cursor", after] if after is not None else []
        said = helmr("session", "list", "--filter", "-task:kid", "--limit", "2", "--json", *cursor)
        found += items(said)
        sizes.append(len(items(said)))
        after = json.loads(said.out)["next_cursor"]
    assert len(found) == len(set(found)) == 7
    assert set(found) == wanted
    assert (sizes, after) == ([2, 2, 2, 1], None)


def test_a_field_is_found_whatever_its_case(helmr: Run, here: Gateway) -> None:
    session_id = here.session(task="Review")
    for words in ("task:review", "task:Review", "task:REVIEW status:OPEN"):
        assert items(helmr("session", "list", "--filter", words, "--json")) == [session_id], words
    assert items(helmr("session", "list", "--filter", "task:other", "--json")) == []


def test_a_filter_that_nothing_passes_ends_its_search() -> None:
    asked: list[int] = []

    def fetch(cursor: str | None, count: int) -> Page[SessionInfo]:
        asked.append(count)
        return Page(items=[], next_cursor="more")

    assert read(fetch, Wanted(limit=3, passes=lambda _: False)) == ([], "more")
    assert asked == [3, *[listing.PAGE_MAX] * (listing.PAGES_SEARCHED_MAX - 1)]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["session", "list", "--filter", "status:failed"], "Did you mean is:failed? One of open,"),
        (["wait", "list", "--filter", "priority:hi"], "Did you mean priority:high? One of low,"),
        (
            ["wait", "list", "--filter", "kind:tokn"],
            "Did you mean kind:token? One of input, token,",
        ),
        (["wait", "list", "--filter", "-kind:x*"], "One of input, token,"),
        (["wait", "list", "--watch", "--cursor", "c"], "Leave --cursor out."),
        (["wait", "list", "--watch", "-o", "csv"], "Leave --output out."),
        (["wait", "list", "--json", "-o", "csv"], "Give one of them."),
    ],
)
def test_what_means_nothing_is_refused(
    helmr: Run, here: Gateway, words: list[str], says: str
) -> None:
    said = helmr(*words)
    assert (said.code, said.out) == (2, "")
    assert said.err.splitlines()[1].removeprefix("hint: ").startswith(says)


def test_ids_one_a_line_and_the_columns_as_csv(helmr: Run, here: Gateway) -> None:
    first = here.session(external_id='say "hi", twice', tags=["a", "b"])
    second = here.session()
    assert set(helmr("session", "ls", "-o", "name").out.splitlines()) == {first, second}
    rows = list(csv.DictReader(helmr("session", "list", "--output", "csv").out.splitlines()))
    [row] = [row for row in rows if row["id"] == first]
    assert (row["external_id"], row["tags"]) == ('say "hi", twice', "a b")
    assert "ls " not in helmr("session", "--help").out


@pytest.mark.pty
@pytest.mark.allows_blocking
@pytest.mark.parametrize("form", ["lines", "json"])
def test_a_watched_list_in_a_pipe_tells_what_is_new_changed_and_gone(
    here: Gateway, form: str
) -> None:
    one = here.session(external_id="first")
    options = ["--json"] if form == "json" else []
    with spawn("session", "list", "--watch", *options) as watch:
        assert watch.stdout is not None
        try:
            told = [watch.stdout.readline().decode()]
            here.sessions[one]["activity"] = "waiting"
            two = here.session()
            told += [watch.stdout.readline().decode() for _ in range(2)]
            del here.sessions[one]
            told.append(watch.stdout.readline().decode())
            watch.send_signal(signal.SIGINT)
            assert watch.wait(20) == 130
        finally:
            watch.kill()
    if form == "json":
        told = ["{change} {item[id]}".format(**json.loads(line)) for line in told]
    seen = {tuple(line.split()[:2]) for line in told}
    assert seen == {("new", one), ("changed", one), ("new", two), ("gone", one)}


@pytest.mark.pty
@pytest.mark.allows_blocking
def test_a_watched_list_on_a_terminal_is_drawn_again(here: Gateway) -> None:
    here.session(external_id="first")
    code, text = screen("session", "list", "--watch", until="first")
    assert code == 130
    assert listing.ABOVE in text


def test_changes_tell_what_is_gone_first_then_the_lists_order() -> None:
    assert changes({"a": 1, "b": 2}, {"c": 3, "b": 4}) == [("gone", 1), ("new", 3), ("changed", 4)]  # type: ignore[type-var]  # any values


class LettersQuery(ListQuery):
    """Of a list that no runtime has."""

    session_id: str | None = None
    priority: WaitPriority | None = None
    stamp: list[str] | None = None
    hidden: str | None = None


def test_a_field_of_a_query_is_an_option_of_its_list() -> None:
    options = nouns.filter_options(LettersQuery, {"stamp": "May be repeated."}, {"hidden"})
    shown = {name: (one.name, one.annotation) for name, one in options.items()}
    assert {name: option for name, (option, _) in shown.items()} == {
        "session_id": "session",
        "priority": "priority",
        "stamp": "stamp",
    }
    said = {name: annotation.__metadata__[0] for name, (_, annotation) in shown.items()}
    assert (said["session_id"].metavar, said["session_id"].help) == ("SESSION", None)
    assert said["priority"].help == "low, normal or high"
    assert (said["stamp"].metavar, said["stamp"].help) == ("STAMP", "May be repeated.")
    assert {name: str(one.annotation.__origin__) for name, one in options.items()} == {
        "session_id": "str | None",
        "priority": "str | None",
        "stamp": "list[str] | None",
    }


def test_every_noun_leaves_out_only_fields_that_its_query_has() -> None:
    for noun in (nouns.SESSION, nouns.RUN, nouns.WAIT, nouns.TOKEN, nouns.KEY):
        assert noun.lists.query is not None
        assert {*noun.unasked, *noun.helps} <= noun.lists.query.model_fields.keys()
