"""`helmr.toml`: what OpenTelemetry is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from helmr.cli.up import otel_of
from helmr.errors import UsageError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "helmr.toml"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", (False, False)),
        ("[otel]", (False, False)),
        ("[otel]\nmetrics = true", (False, True)),
        ("[otel]\ntraces = true\nmetrics = false", (True, False)),
    ],
)
def test_each_signal_is_sent_if_it_is_wanted(
    config: Path, text: str, wanted: tuple[bool, bool]
) -> None:
    config.write_text(text)
    assert otel_of(None, config.parent / ".helmr") == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("otel = true", "takes `traces` and `metrics`"),
        ("[otel]\nendpoint = 'http://collector'", "takes `traces` and `metrics`"),
        ("[otel]\ntraces = 'yes'", "true or false"),
        ("[telemetry]", "'telemetry' is not a key of this file"),
    ],
)
def test_nonsense_is_refused_with_the_file_it_stands_in(config: Path, text: str, said: str) -> None:
    config.write_text(text)
    with pytest.raises(UsageError, match=said) as raised:
        otel_of(config, config.parent)
    assert str(config) in raised.value.message
