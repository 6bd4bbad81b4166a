"""`helmr.toml`: what OpenTelemetry is sent, the form of the runtime, and options of `helmr up`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from helmr.cli import config as reading
from helmr.cli.config import RuntimeForm, form_of, form_to_start, otel_of
from helmr.cli.main import invoke
from helmr.cli.start import is_in_process
from helmr.cli.up_options import ELSEWHERE, UpFlags, keys, options_of_file
from helmr.errors import UsageError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "helmr.toml"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", False),
        ("[otel]", False),
        ("[otel]\ntraces = true", True),
        ("[otel]\ntraces = true\nmetrics = false", True),
    ],
)
def test_traces_are_sent_if_they_are_wanted(config: Path, text: str, wanted: bool) -> None:
    config.write_text(text)
    assert otel_of(None, config.parent / ".helmr") is wanted


def test_metrics_that_were_sent_are_scraped_says_where(config: Path) -> None:
    config.write_text("[otel]\nmetrics = true")
    with pytest.raises(UsageError, match="a collector scrapes /metrics") as raised:
        otel_of(None, config.parent / ".helmr")
    assert "docs/monitoring.md#opentelemetry" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("otel = true", r"\[otel\] takes `traces`"),
        ("[otel]\nendpoint = 'http://collector'", r"\[otel\] takes `traces`"),
        ("[otel]\ntraces = 'yes'", "true or false"),
        ("[telemetry]", "'telemetry' is not a key of this file"),
    ],
)
def test_nonsense_is_refused_with_the_file_it_stands_in(config: Path, text: str, said: str) -> None:
    config.write_text(text)
    with pytest.raises(UsageError, match=said) as raised:
        otel_of(config, config.parent)
    assert str(config) in raised.value.message


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("", None),
        ("[runtime]", None),
        ("[runtime]\nform = 'ray'", RuntimeForm.RAY),
        ("[runtime]\nform = 'in-process'", RuntimeForm.IN_PROCESS),
    ],
)
def test_the_form_is_what_the_file_says(config: Path, text: str, form: RuntimeForm | None) -> None:
    config.write_text(text)
    assert form_of(None, config.parent / ".helmr") is form


@pytest.mark.parametrize(("has_ray", "form"), [(True, "ray"), (False, "in-process")])
def test_without_a_word_the_form_is_what_is_installed(
    config: Path, monkeypatch: pytest.MonkeyPatch, has_ray: bool, form: str
) -> None:
    monkeypatch.setattr(reading, "has_module", lambda name: has_ray)
    assert form_to_start(None, config.parent / ".helmr") is RuntimeForm(form)
    for said in RuntimeForm:
        config.write_text(f"[runtime]\nform = '{said}'")
        assert form_to_start(None, config.parent / ".helmr") is said


@pytest.mark.parametrize("text", ["runtime = 1", "[runtime]\nform = 1", "[runtime]\nform = 'k8s'"])
def test_a_form_that_there_is_not_is_refused(config: Path, text: str) -> None:
    config.write_text(text)
    with pytest.raises(UsageError, match=r"\[runtime\]") as raised:
        form_of(None, config.parent / ".helmr")
    assert "in-process" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("options", "is_so"),
    [
        ("", True),
        ("tasks.py --port 0", True),
        ("--ray", False),
        ("--in-process", True),
        ("--address auto", False),
        ("--config=other.toml", False),
    ],
)
def test_the_form_is_known_before_the_command_line_is(
    config: Path, options: str, is_so: bool
) -> None:
    """Python takes a hash seed at its start only: what is known early is imported once."""
    config.write_text("[runtime]\nform = 'in-process'")
    assert is_in_process(options.split(), config.parent / ".helmr") is is_so


@pytest.mark.parametrize("text", ["", "[", "runtime = 1", "[runtime]\nform = 'ray'"])
def test_a_file_that_says_nothing_of_it_leaves_it_to_the_command(config: Path, text: str) -> None:
    config.write_text(text)
    assert not is_in_process(["tasks.py"], config.parent / ".helmr")
    assert not is_in_process(["tasks.py"], config.parent / "gone" / ".helmr")


@pytest.mark.parametrize(("exporter", "says_so"), [("", True), ("none", False)])
def test_otel_says_that_metrics_are_scraped(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    exporter: str,
    says_so: bool,
) -> None:
    """Before, it sent them: a dashboard that stays empty would be the only sign."""
    from helmr.cli import up

    kept: list[object] = []
    monkeypatch.setattr(up, "_run", lambda *_, traces, **__: kept.append(traces))
    monkeypatch.chdir(config.parent)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", exporter)
    Path("tasks.py").write_text("from helmr import task\n@task\nasync def t() -> None: ...\n")
    assert invoke(["up", "--otel", "--in-process", "tasks.py"]) == 0
    assert kept == [True]
    assert ("scrapes metrics from /metrics" in capsys.readouterr().err) == says_so


# --- options of `helmr up`


OTHER: dict[str, tuple[Any, Any]] = {
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": (4400, 4400),
    "hosts": (3, 3),
    "sessions_per_host": (7, 7),
    "host_memory": ("4GB", 4_000_000_000),
    "linger": ("2m", 120.0),
    "external_url": ("https://helmr.example.com", "https://helmr.example.com"),
    "trusted_proxy": (["10.0.0.0/8", "192.0.2.1"], ("10.0.0.0/8", "192.0.2.1/32")),
    "encrypt": (True, True),
    "address": ("auto", "auto"),
    "http": (False, False),
    "log_format": ("json", True),
    "transport": ("ray", "ray"),
    "check": ("warn", None),
    "payload": ('{"a": 1}', None),
    "external_id": ("main", None),
    "ensure": ("t", None),
}
"""A value of each key that is not the default, and what the runtime is started with."""

STARTED_WITH = {
    "host_memory": "host_memory_bytes",
    "linger": "linger_s",
    "trusted_proxy": "trusted_proxies",
    "encrypt": "encrypts",
    "http": "serves_http",
    "log_format": "json_logs",
}


@pytest.fixture
def started(config: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What runtimes would be started with, in a folder with tasks."""
    from helmr.cli import up

    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(up, "_run", lambda *_, **options: kept.append(options))
    monkeypatch.chdir(config.parent)
    monkeypatch.delenv("HELMR_LOG_FORMAT", raising=False)
    Path("tasks.py").write_text("from helmr import task\n@task\nasync def t() -> None: ...\n")
    return kept


def table(values: dict[str, Any]) -> str:
    return "[runtime]\n" + "".join(
        f"{name} = {json.dumps(value)}\n" for name, value in values.items()
    )


def test_each_option_of_up_has_its_place_in_the_file() -> None:
    options = {one.name for one in dataclasses.fields(UpFlags)}
    assert {*OTHER, "form"} == {*keys()}
    assert {*OTHER} == options - {*ELSEWHERE}


@pytest.mark.parametrize("name", [name for name, (_, given) in OTHER.items() if given is not None])
def test_an_option_in_the_file_is_what_the_runtime_starts_with(
    config: Path, started: list[dict[str, Any]], name: str
) -> None:
    value, given = OTHER[name]
    config.write_text(table({name: value}))
    assert invoke(["up", "--ray", "tasks.py"]) == 0
    assert started[0][STARTED_WITH.get(name, name)] == given


def test_a_session_to_ensure_and_a_store_in_the_file_are_kept_to(
    config: Path, started: list[dict[str, Any]]
) -> None:
    ensured = {name: OTHER[name][0] for name in ("ensure", "external_id", "payload")}
    config.write_text(table(ensured) + "[log]\nurl = 'file:///a'\n[otel]\ntraces = true")
    assert invoke(["up", "--ray", "tasks.py"]) == 0
    assert started[0]["ensured"].payload == {"a": 1}
    assert (started[0]["log_url"], started[0]["traces"]) == ("file:///a", True)
    assert invoke(["up", "--ray", "tasks.py", "--log", "file:///b"]) == 0
    assert started[1]["log_url"] == "file:///b"


def test_the_command_line_goes_before_the_environment_and_both_before_the_file(
    config: Path, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(table({"port": 4400, "http": False, "log_format": "json"}))
    assert invoke(["up", "--ray", "tasks.py", "--port", "4500", "--http"]) == 0
    assert (started[0]["port"], started[0]["serves_http"], started[0]["json_logs"]) == (
        4500,
        True,
        True,
    )
    monkeypatch.setenv("HELMR_LOG_FORMAT", "text")
    assert invoke(["up", "--ray", "tasks.py"]) == 0
    assert (started[1]["port"], started[1]["serves_http"], started[1]["json_logs"]) == (
        4400,
        False,
        False,
    )
    monkeypatch.setenv("HELMR_LOG_FORMAT", "json")
    assert invoke(["up", "--ray", "tasks.py", "--log-format", "text"]) == 0
    assert not started[2]["json_logs"]


def test_dev_takes_what_it_has_of_the_file(config: Path, started: list[dict[str, Any]]) -> None:
    other = config.with_name("other.toml")
    other.write_text(table({"port": 4400, "hosts": 3}))
    assert invoke(["dev", "tasks.py", "--config", str(other)]) == 0
    assert started[0]["port"] == 4400
    assert "hosts" not in started[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = '4400'", "`port` of [runtime] is a number, not '4400'"),
        ("port = true", "`port` of [runtime] is a number, not True"),
        ("port = 99999", "`port` of [runtime]: "),
        ("http = 1", "`http` of [runtime] is true or false, not 1"),
        ("host = ['a']", "`host` of [runtime] is a text, not ['a']"),
        ("trusted_proxy = [1]", "`trusted_proxy` of [runtime] is a list of texts, not [1]"),
        ("transport = 'tcp'", "`transport` of [runtime]: "),
        ("porte = 1", "`porte` is no key of [runtime]"),
        *((f"{name} = 'x'", where) for name, where in ELSEWHERE.items()),
    ],
)
def test_what_is_no_option_is_refused_with_its_place(
    config: Path,
    started: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    text: str,
    said: str,
) -> None:
    config.write_text(f"[runtime]\n{text}")
    for command in (["up", "--ray", "tasks.py"], ["config"]):
        assert invoke(command) == 2
        told = capsys.readouterr()
        assert said in told.err
        assert config.name in told.err
    assert not started


def test_config_tells_each_setting_and_its_source(
    config: Path,
    started: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config.write_text(table({"port": 4400, "form": "in-process"}))
    monkeypatch.setenv("HELMR_LOG_FORMAT", "json")
    assert invoke(["config", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == str(config)
    settings = {one["name"]: (one["value"], one["from"]) for one in told["settings"]}
    assert {*settings} == {*keys(), "tasks", "data_dir", "log", "otel"}
    assert settings["port"] == (4400, "helmr.toml")
    assert settings["form"] == ("in-process", "helmr.toml")
    assert settings["log_format"] == ("json", "HELMR_LOG_FORMAT")
    assert settings["linger"] == ("30s", "default")
    assert invoke(["config"]) == 0
    assert "port               4400" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("linger = 'soon'", "--linger: 'soon' is not a duration"),
        ("host_memory = 'lots'", "--host-memory: 'lots' is not a memory size"),
        ("trusted_proxy = ['nonsense']", "--trusted-proxy 'nonsense' is not an address"),
        ("ensure = 't'", "--ensure and --external-id belong together"),
        (
            "ensure = 't'\nexternal_id = 'a'\naddress = 'auto'",
            "--ensure is for a runtime in the foreground",
        ),
        ("ensure = 't'\nexternal_id = 'a'\npayload = '{'", "--payload"),
    ],
)
def test_config_refuses_a_text_that_no_runtime_starts_with(
    config: Path,
    started: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    text: str,
    said: str,
) -> None:
    config.write_text(f"[runtime]\n{text}")
    assert invoke(["up", "--ray", "tasks.py"]) == 2
    assert said in capsys.readouterr().err
    assert invoke(["config"]) == 2
    told = capsys.readouterr()
    assert f"{config.name}: {said}" in told.err
    assert not told.out
    assert not started


@pytest.mark.parametrize(
    "text",
    [
        "[people]\nada = 1",
        "[log]\npeer = 'two'",
        "[retention]\na = 1",
        "[links]\nT = 'https://a.example/{trace}'",
        "links = 1",
        "[",
    ],
)
def test_config_refuses_a_file_that_no_runtime_starts_with(
    config: Path, started: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], text: str
) -> None:
    config.write_text(text)
    assert invoke(["config"]) == 2
    assert not capsys.readouterr().out


def test_a_file_without_options_says_nothing_of_them(config: Path) -> None:
    config.write_text("[runtime]\nform = 'ray'")
    assert options_of_file(config, config.parent) == {}
