"""`helmr.toml`: what OpenTelemetry is sent, and the form of the runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from helmr.cli import config as reading
from helmr.cli.config import RuntimeForm, form_of, form_to_start, otel_of
from helmr.cli.start import is_in_process
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


@pytest.mark.parametrize(
    "text", ["runtime = 1", "[runtime]\nform = 1", "[runtime]\nform = 'k8s'", "[runtime]\nray = 1"]
)
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
    from helmr.cli.main import invoke

    kept: list[object] = []
    monkeypatch.setattr(up, "_run", lambda *_, traces, **__: kept.append(traces))
    monkeypatch.chdir(config.parent)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", exporter)
    Path("tasks.py").write_text("from helmr import task\n@task\nasync def t() -> None: ...\n")
    assert invoke(["up", "--otel", "--in-process", "tasks.py"]) == 0
    assert kept == [True]
    assert ("scrapes metrics from /metrics" in capsys.readouterr().err) == says_so
