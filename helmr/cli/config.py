"""`helmr.toml`: what a runtime is told that is too long for a command line, such as notice targets and retention."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from helmr import durations
from helmr.errors import BadDuration, UsageError
from helmr.models import PRUNE_AGE_MAX_S, PRUNE_AGE_MIN_S
from helmr.toml_files import read_toml

if TYPE_CHECKING:
    from helmr_runtime.core.ledger_facts import Retention

CONFIG_NAME = "helmr.toml"
CONFIG_BYTES_MAX = 1024 * 1024


def notices_table(config: Path | None, data_dir: Path) -> tuple[dict[str, Any], str]:
    """The table `[notices]` of the file that was named, or else of the one beside the data directory.

    Returns:
        The table, empty without a file, and the file.

    Raises:
        UsageError: The file was named and is not there, or it can't be read, or says something else.
    """
    found, path = _read(config, data_dir)
    return found.get("notices", {}), path


def retention_of(config: Path | None, data_dir: Path) -> Retention | None:
    """What the table `[retention]` says, or None without one.

    Raises:
        UsageError: As `notices_table`; or it can't be kept to.
    """
    from helmr_runtime.core.ledger_facts import Retention

    found, path = _read(config, data_dir)
    table = found.get("retention")
    if table is None:
        return None
    known = {"closed_after", "archive"}
    if not isinstance(table, dict) or not {"closed_after"} <= table.keys() <= known:
        raise UsageError(
            f"{path}: [retention] holds `closed_after` and maybe `archive`",
            hint='`closed_after = "90d"`, `archive = false` to write no Parquet files.',
        )
    closed_after, archive = table["closed_after"], table.get("archive", True)
    if not isinstance(closed_after, str) or not isinstance(archive, bool):
        raise UsageError(
            f'{path}: `closed_after` is a duration like "90d", `archive` true or false'
        )
    try:
        closed_after_s = durations.seconds(closed_after)
    except BadDuration as error:
        raise UsageError(f"{path}: closed_after: {error.message}") from error
    if not PRUNE_AGE_MIN_S <= closed_after_s <= PRUNE_AGE_MAX_S:
        raise UsageError(f"{path}: closed_after is at least 1d")
    return Retention(closed_after_s=closed_after_s, archive=archive)


def otel_of(config: Path | None, data_dir: Path) -> tuple[bool, bool]:
    """Whether the table `[otel]` wants traces, and metrics, to be sent; neither without one.

    Raises:
        UsageError: As `notices_table`; or it holds something else.
    """
    found, path = _read(config, data_dir)
    table = found.get("otel", {})
    known = {"traces", "metrics"}
    if not isinstance(table, dict) or not table.keys() <= known:
        raise UsageError(
            f"{path}: [otel] holds `traces` and `metrics`",
            hint="`metrics = true`; where they are sent is said by the OTEL_ variables.",
        )
    if not all(isinstance(value, bool) for value in table.values()):
        raise UsageError(f"{path}: `traces` and `metrics` of [otel] are true or false")
    return table.get("traces", False), table.get("metrics", False)


def _read(config: Path | None, data_dir: Path) -> tuple[dict[str, Any], str]:
    path = config if config is not None else data_dir.absolute().parent / CONFIG_NAME
    try:
        found = read_toml(path, bytes_max=CONFIG_BYTES_MAX)
    except FileNotFoundError as error:
        if config is None:
            return {}, str(path)
        raise UsageError(f"--config {path}: there is no such file") from error
    unknown = sorted(found.keys() - {"notices", "otel", "retention"})
    if unknown:
        raise UsageError(
            f"{path}: {unknown[0]!r} is nothing that Helmr knows",
            hint="Notice targets stand in tables [notices.NAME], retention in [retention], what "
            "OpenTelemetry is sent in [otel].",
        )
    return found, str(path)
