"""Profiles: filters by name and what rings, out of the settings and out of what was saved by a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from helmr.cli.app import Cli
from helmr.cli.listing import waits_filter
from helmr.client.profiles import (
    BUILT_IN,
    FILTERS_MAX,
    read_profile,
    save_filter,
    saved_path,
    state_folder,
)
from helmr.errors import BadFilter, UsageError

SETTINGS = """
[filters]
urgent = "due<10m"
[notices]
bell = true
[profiles.oncall.filters]
payments = "task:pay* -is:claimed"
urgent = "due<5m"
[profiles.oncall.notices]
osc = 777
filter = "payments"
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Settings and state of somebody."""
    (tmp_path / "config" / "helmr").mkdir(parents=True)
    (tmp_path / "config" / "helmr" / "console.toml").write_text(SETTINGS)
    return {
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "HOME": str(tmp_path),
    }


def settings(environ: dict[str, str], text: str) -> None:
    (Path(environ["XDG_CONFIG_HOME"]) / "helmr" / "console.toml").write_text(text)


def test_without_settings_there_is_what_is_built_in(tmp_path: Path) -> None:
    found = read_profile({"XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)})
    assert found.filters == BUILT_IN
    assert not found.notices
    assert found.meant(" mine ") == "is:mine"
    assert found.meant("mine due<1h") == "mine due<1h"


def test_a_profile_has_what_is_of_all_and_its_own_on_top(environ: dict[str, str]) -> None:
    default, oncall = read_profile(environ), read_profile(environ, "oncall")
    assert default.filters == {**BUILT_IN, "urgent": "due<10m"}
    assert (default.notices.bell, default.notices.osc, default.notices.filter) == (True, None, "")
    assert oncall.meant("urgent") == "due<5m"
    assert (oncall.notices.bell, oncall.notices.osc) == (False, 777)
    assert oncall.notices.filter == "task:pay* -is:claimed"
    settings(environ, SETTINGS.replace("[filters]", 'profile = "oncall"\n[filters]', 1))
    assert read_profile(environ).name == "oncall"
    assert read_profile(environ, "default").name == "default"


def test_what_is_saved_is_of_its_profile_and_may_be_forgotten(environ: dict[str, str]) -> None:
    path = saved_path(state_folder(environ), "oncall")
    save_filter(path, "mail", "tag:mail")
    save_filter(path, "mail", " tag:mail due<1h ")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_profile(environ, "oncall").meant("mail") == "tag:mail due<1h"
    assert "mail" not in read_profile(environ).filters
    save_filter(path, "mail", "")
    assert "mail" not in read_profile(environ, "oncall").filters


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("mine", "x", "built in"),
        ("", "x", "letters"),
        ("two words", "x", "letters"),
        ("../x", "x", "letters"),
        ("a" * 41, "x", "letters"),
        ("gone", "", "no filter gone"),
    ],
)
def test_a_name_that_can_be_none_is_refused(
    environ: dict[str, str], name: str, text: str, why: str
) -> None:
    path = saved_path(state_folder(environ), "default")
    with pytest.raises(UsageError, match=why):
        save_filter(path, name, text)
    assert not path.exists()


def test_too_many_and_what_is_no_filter_are_refused(environ: dict[str, str]) -> None:
    path = saved_path(state_folder(environ), "default")
    with pytest.raises(BadFilter):
        save_filter(path, "odd", "colour:red")
    for number in range(FILTERS_MAX):
        save_filter(path, f"f{number}", "x")
    with pytest.raises(UsageError, match="forget one"):
        save_filter(path, "more", "x")


@pytest.mark.parametrize("garbage", ["", "{", "[]", '{"filters": 3}', "\x00", '{"filters": null}'])
def test_a_broken_file_hides_no_filter_of_the_settings(
    environ: dict[str, str], garbage: str
) -> None:
    path = saved_path(state_folder(environ), "default")
    path.parent.mkdir(parents=True)
    path.write_text(garbage)
    assert read_profile(environ).meant("urgent") == "due<10m"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[filters]\na = 3", "holds texts only"),
        ("[notices]\nring = true", "knows bell, osc and filter"),
        ("[notices]\nbell = 1", "true or false"),
        ("[notices]\nosc = 8", "9 or 777"),
        ('[notices]\nfilter = "colour:red"', "filter"),
        ("notices = 3", "is a table"),
        ("profiles = 3", "is a table"),
        ('profile = "gone"', "no profile 'gone'"),
        ("profile = 3", "no profile"),
        ("[", "can't be read"),
    ],
)
def test_settings_that_say_nothing_are_refused_with_the_place(
    environ: dict[str, str], text: str, why: str
) -> None:
    settings(environ, text)
    with pytest.raises(UsageError, match=why):
        read_profile(environ)


def test_a_profile_that_there_is_not_names_those_there_are(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError) as refused:
        read_profile(environ, "gone")
    assert refused.value.hint == "Profiles: default, oncall."


def test_the_command_line_takes_a_filter_by_its_name(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    ana = Cli(on_behalf_of="ana")
    assert waits_filter(ana, "urgent", None).spell() == "due<10m"
    assert waits_filter(ana, "urgent", "oncall").spell() == "due<5m"
    assert waits_filter(ana, "mine", None).spell() == "is:mine"
    assert waits_filter(ana, '"urgent"', None).spell() == "urgent"
    assert waits_filter(ana, "urgent stream:chat", None).spell() == "urgent stream:chat"
    assert not waits_filter(ana, None, None)
    with pytest.raises(UsageError, match="who you are"):
        waits_filter(Cli(), "mine", None)
    with pytest.raises(UsageError, match="no profile"):
        waits_filter(ana, None, "gone")
