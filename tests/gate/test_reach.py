"""What of the file system a call reaches: the agent's folder, and never the runtime's own (S-109)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helmr.gate import GateAction, GatedCall
from helmr.gate.reach import OwnFolder
from helmr.matching import (
    OWN_NAMED,
    OWN_SEARCHED,
    STARTER_RULES,
    DeclaredRule,
    DeclaredRules,
)
from tests.gate.shell_corpus import READERS, READS

ALL = (DeclaredRule("all", GateAction.ALLOW),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An agent's folder, with the runtime's own directory in it and links to it."""
    place = tmp_path / "shop"
    (place / "src").mkdir(parents=True)
    (place / ".helmr").mkdir()
    (place / ".helmr" / "admin.key").write_text("x")
    (place / "link").symlink_to(".helmr")
    (place / "src" / "link").symlink_to("../.helmr")
    (place / "key").symlink_to(".helmr/admin.key")
    (place / "out").symlink_to(tmp_path)
    return place


def first(
    folder: Path,
    tool: str,
    rules: tuple[DeclaredRule, ...] = ALL,
    *,
    now: str | None = None,
    own: str = ".helmr",
    **given: Any,
) -> str:
    """What decides a call of an agent that began in the folder and is in `now`."""
    call = GatedCall(
        "claude-code", "s", tool, given, "t", now or str(folder), start=str(folder) if now else ""
    )
    found = DeclaredRules(rules, own=OwnFolder(str(folder / own))).first(call)
    return found.name if found is not None else "none"


@pytest.mark.parametrize(
    "path",
    [
        ".helmr",
        ".helmr/admin.key",
        "{folder}/.helmr/admin.key",
        "{folder}/.HELMR/admin.key",
        "{folder}/src/../.helmr/admin.key",
        "{folder}/./.helmr//admin.key",
        "{folder}/link/admin.key",
        "{folder}/key",
        "link/admin.key",
        "key",
        "out/shop/link",
        "file://{folder}/.helmr/admin.key",
        "file://{folder}/%2ehelmr/admin.key",
        "/proc/self/root{folder}/.helmr/admin.key",
        "/elsewhere/.helmr/x",
        ".h*/admin.key",
        "**/.helmr/*",
        "**/.[h]elmr/*",
        "{{.helmr,src}}/*",
    ],
)
def test_no_rule_allows_a_path_in_the_runtimes_own_directory(folder: Path, path: str) -> None:
    text = path.replace("{folder}", str(folder)).replace("{{", "{").replace("}}", "}")
    for given in ({"file_path": text}, {"path": text}, {"uri": text}, {"files": [{"name": text}]}):
        assert first(folder, "Anything", **given) == OWN_NAMED.name


@pytest.mark.parametrize("path", ["src/a.py", "{folder}", "{folder}/src", "/etc/hosts", ".helmrx"])
def test_other_paths_are_as_rules_say(folder: Path, path: str) -> None:
    assert first(folder, "Read", file_path=path.replace("{folder}", str(folder))) == "all"


def test_a_directory_of_another_name_is_found_by_its_path(folder: Path) -> None:
    assert first(folder, "Read", own="src", file_path="src/x") == OWN_NAMED.name
    assert first(folder, "Read", own="src", file_path="other/src/x") == "all"
    assert first(folder, "Bash", own="src", command="cat s*/x") == OWN_NAMED.name


@pytest.mark.parametrize("reader", READERS)
def test_no_rule_allows_a_command_that_names_it(folder: Path, reader: str) -> None:
    rules = (DeclaredRule("any", GateAction.ALLOW, matches={"command": ("*", f"{reader} *")}),)
    for spelt in READS:
        if "grep" in reader or not any(one in spelt for one in ("-r", "-R")):
            command = f"{reader} {spelt.replace('{folder}', str(folder))}"
            assert first(folder, "Bash", rules, command=command) != "any", command


def test_a_command_in_the_directory_itself_is_asked_about(folder: Path) -> None:
    assert first(folder, "Bash", now=str(folder / ".helmr"), command="cat x") == OWN_NAMED.name
    assert first(folder, "Bash", now=str(folder / "link"), command="cat x") == OWN_NAMED.name


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"pattern": "x"}, OWN_SEARCHED.name),
        ({"pattern": "x", "path": ""}, OWN_SEARCHED.name),
        ({"pattern": "x", "path": "{folder}"}, OWN_SEARCHED.name),
        ({"pattern": "x", "path": "."}, OWN_SEARCHED.name),
        ({"pattern": "x", "path": "/"}, OWN_SEARCHED.name),
        ({"pattern": "x", "path": ".."}, OWN_SEARCHED.name),
        ({"pattern": "x", "path": "out"}, OWN_SEARCHED.name),
        ({"pattern": "x", "path": "~"}, OWN_SEARCHED.name),
        ({"pattern": "x", "path": ".helmr"}, OWN_NAMED.name),
        ({"pattern": "x", "path": "src"}, "all"),
        ({"pattern": "x", "path": "{folder}/src"}, "all"),
    ],
)
def test_a_search_over_it_is_denied_with_what_to_do(
    folder: Path, given: dict[str, str], says: str
) -> None:
    given = {name: text.replace("{folder}", str(folder)) for name, text in given.items()}
    asked: dict[str, Any] = {**given}
    assert first(folder, "Grep", **asked) == says
    if says == "all":
        assert first(folder, "Grep", STARTER_RULES, **asked) == "searches"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("grep -r x .", OWN_SEARCHED.name),
        ("rg x", OWN_SEARCHED.name),
        ("/usr/bin/tar c .", OWN_SEARCHED.name),
        ("cp -r {folder} /tmp", OWN_SEARCHED.name),
        ("rg x src", "all"),
        ("grep x src", "all"),
        ("ruff check .", "all"),
        ("ls -la", "all"),
    ],
)
def test_so_is_a_command_that_walks_over_it(folder: Path, command: str, says: str) -> None:
    assert first(folder, "Bash", command=command.replace("{folder}", str(folder))) == says


def test_a_rule_that_asks_or_denies_says_what_it_says(folder: Path) -> None:
    denies = (DeclaredRule("no", GateAction.DENY, ("Read",)),)
    assert first(folder, "Read", denies, file_path=".helmr/x") == "no"
    assert first(folder, "Write", denies, file_path=".helmr/x") == "none"


def test_the_folder_is_where_the_agent_began_wherever_it_is_now(folder: Path) -> None:
    src = str(folder / "src")
    assert first(folder, "Read", STARTER_RULES, now=src, file_path="a.py") == "reads"
    assert first(folder, "Read", STARTER_RULES, now="/etc", file_path="/etc/shadow") == "none"
    assert first(folder, "Read", STARTER_RULES, now="/etc", file_path="shadow") == "none"
    assert first(folder, "Grep", STARTER_RULES, now="/etc", pattern="x") == "none"
    assert first(folder, "Grep", STARTER_RULES, now=src, pattern="x") == "searches"
    assert first(folder, "Glob", STARTER_RULES, now="/etc", pattern="*") == "none"


def test_links_out_of_the_folder_lead_out_of_it(folder: Path) -> None:
    assert first(folder, "Read", STARTER_RULES, file_path="out/secret") == "none"
    assert first(folder, "Read", STARTER_RULES, file_path=str(folder / "out/secret")) == "none"
    (folder.parent / "way").symlink_to(folder)
    through = folder.parent / "way"
    assert first(through, "Read", STARTER_RULES, file_path=str(folder / "src/a")) == "reads"
    assert first(folder, "Read", STARTER_RULES, file_path=str(through / "src/a")) == "reads"


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("**/*.py", "lists"),
        ("src/*", "lists"),
        ("/etc/**", "none"),
        ("../../**", "none"),
        ("~/.ssh/*", "none"),
        ("out/*", "none"),
        (".helmr/*", OWN_NAMED.name),
    ],
)
def test_names_are_listed_in_the_folder_only(folder: Path, pattern: str, says: str) -> None:
    assert first(folder, "Glob", STARTER_RULES, pattern=pattern) == says


def test_nothing_is_in_the_root_of_the_machine() -> None:
    call = GatedCall("claude-code", "s", "Read", {"file_path": "/etc/shadow"}, folder="/")
    assert DeclaredRules(STARTER_RULES).first(call) is None


def test_a_rule_for_a_folder_allows_what_began_there_and_denies_what_is_there() -> None:
    allows = DeclaredRule("a", GateAction.ALLOW, folder="/srv/shop")
    denies = DeclaredRule("d", GateAction.DENY, folder="/srv/shop")
    went_in = GatedCall("c", "s", "x", {}, folder="/srv/shop/src", start="/srv")
    went_out = GatedCall("c", "s", "x", {}, folder="/etc", start="/srv/shop")
    assert not allows.matches_call(went_in)
    assert denies.matches_call(went_in)
    assert allows.matches_call(went_out)
    assert denies.matches_call(went_out)


@pytest.mark.parametrize("tool", ["Edit", "Write", "MultiEdit"])
def test_an_agent_changes_no_rules_and_no_keys(folder: Path, tool: str) -> None:
    for path in ("helmr.toml", str(folder / "helmr.toml"), "src/helmr.toml"):
        assert first(folder, tool, STARTER_RULES, file_path=path) == "these rules"
    key = str(folder / ".helmr/admin.key")
    assert first(folder, tool, STARTER_RULES, file_path=key) == "the runtime's directory"
    assert first(folder, "Read", STARTER_RULES, file_path=str(folder / "helmr.toml")) == "reads"
