"""Reads a runtime's settings: `helmr.toml` beside its data directory, and `[tool.helmr]` of `pyproject.toml`."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from helmr.client.profiles import read_toml
from helmr.errors import BadDuration, UsageError
from helmr.features import FEATURES
from helmr.limits import Limit, read_limits
from helmr.link_templates import LinkTemplate, read_links
from helmr.models import PRUNE_AGE_MAX_S, PRUNE_AGE_MIN_S
from helmr.version import has_module
from helmr.wire import durations

if TYPE_CHECKING:
    from helmr_runtime.core.commands import Retention


CONFIG_NAME = "helmr.toml"
CONFIG_BYTES_MAX = 1024 * 1024
PYPROJECT_BYTES_MAX = 4 * 1024 * 1024


SECTIONS = {one.name: one.section for one in FEATURES if one.section}
"""Checks of the tables that features read, by the feature's name."""

TABLES = {"limits", "links", "log", "notices", "otel", "people", "retention", "runtime", *SECTIONS}


class RuntimeForm(StrEnum):
    """Process layout of a runtime; the same data directory opens in either."""

    RAY = "ray"
    """Each in a process, sessions in actors of Ray: a crash of a task's code ends one host."""
    IN_PROCESS = "in-process"
    """All in one, without Ray: a second to start and a fraction of the memory, for code that is trusted."""


def named_tasks(tasks: list[str] | None, *, also: list[str]) -> list[str]:
    """Return the tasks named on the command line, or else in the project, then the built-in modules in `also`.

    Raises:
        UsageError: Nothing was.
    """
    named = tasks or tasks_of_project(Path.cwd())
    named = [*named, *(one for one in also if one not in named)]
    if not named:
        raise UsageError(
            "no tasks are named",
            hint="Name files or modules, `helmr up tasks.py`, or set `[tool.helmr] tasks` in "
            "pyproject.toml.",
        )
    return named


def tasks_of_project(folder: Path) -> list[str]:
    """`[tool.helmr] tasks` of the folder's pyproject.toml; empty without one.

    Raises:
        UsageError: The file can't be read, or holds something else there.
    """
    path = folder / "pyproject.toml"
    try:
        found = read_toml(path, bytes_max=PYPROJECT_BYTES_MAX)
        tasks = found.get("tool", {}).get("helmr", {}).get("tasks", [])
    except FileNotFoundError:
        return []
    except AttributeError as error:  # [tool] or [tool.helmr] is not a table
        raise UsageError(f"{path}: [tool.helmr] is not a table") from error
    if not isinstance(tasks, list) or not all(isinstance(one, str) and one for one in tasks):
        raise UsageError(f'{path}: [tool.helmr] tasks is a list of texts, like ["tasks.py"]')
    return tasks


def runtime_table(config: Path | None, data_dir: Path) -> tuple[dict[str, Any], str]:
    """The table `[runtime]`, options of `helmr up` by name, and the file.

    Raises:
        UsageError: As `notices_table`; or it is no table.
    """
    found, path = _read(config, data_dir)
    table = found.get("runtime", {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: [runtime] is a table of options of `helmr up`", hint=FORM_HINT)
    return table, path


def form_of(config: Path | None, data_dir: Path) -> RuntimeForm | None:
    """Return `form` of the table `[runtime]`; None without one.

    Raises:
        UsageError: As `notices_table`; or it holds something else.
    """
    table, path = runtime_table(config, data_dir)
    form = table.get("form")
    if form is None:
        return None
    if form not in [*RuntimeForm]:
        raise UsageError(f"{path}: `form` of [runtime] is {form!r}", hint=FORM_HINT)
    return RuntimeForm(form)


def form_to_start(config: Path | None, data_dir: Path) -> RuntimeForm:
    """The form of the runtime that `helmr up` starts there: what the file says, else on Ray where that is installed.

    Raises:
        UsageError: As `form_of`.
    """
    said = form_of(config, data_dir)
    if said is not None:
        return said
    return RuntimeForm.RAY if has_module("ray") else RuntimeForm.IN_PROCESS


FORM_HINT = '`form = "in-process"`, or "ray".'


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
    """Return the table `[retention]`; None without one.

    Raises:
        UsageError: As `notices_table`; or it can't be kept to.
    """
    from helmr_runtime.core.commands import Retention

    found, path = _read(config, data_dir)
    table = found.get("retention")
    if table is None:
        return None
    known = {"closed_after", "archive"}
    if not isinstance(table, dict) or not {"closed_after"} <= table.keys() <= known:
        raise UsageError(
            f"{path}: [retention] takes `closed_after` and optionally `archive`",
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


def sections_of(config: Path | None, data_dir: Path) -> dict[str, dict[str, Any]]:
    """The tables that features read, by the feature's name, each checked by its feature.

    Raises:
        UsageError: As `notices_table`; or a feature can't use its table.
    """
    found, path = _read(config, data_dir)
    for name, check in SECTIONS.items():
        if name in found:
            resolve_name(check)(found[name], path)
    return {name: found[name] for name in SECTIONS if name in found}


def built_in_tasks(config: Path | None, data_dir: Path) -> list[str]:
    """The modules of built-in tasks that the file turns on.

    Raises:
        UsageError: As `sections_of`.
    """
    found = sections_of(config, data_dir)
    naming = [(one.name, resolve_name(one.tasks)) for one in FEATURES if one.tasks]
    return [module for name, modules_of in naming for module in modules_of(found.get(name))]


def people_table(config: Path | None, data_dir: Path) -> dict[str, Any] | None:
    """The table `[people]`, which can be read; None without one: the runtime knows no people.

    Raises:
        UsageError: As `notices_table`; or what it says can't be.
    """
    from helmr_runtime.security.people import read_people

    found, path = _read(config, data_dir)
    table: dict[str, Any] | None = found.get("people")
    read_people(table, path)
    return table


def limits_table(config: Path | None, data_dir: Path) -> dict[str, Limit]:
    """The limits of the table `[limits]`, by name.

    Raises:
        UsageError: As `notices_table`; or a limit can't be kept to.
    """
    found, path = _read(config, data_dir)
    return read_limits(found.get("limits", {}), path)


def links_table(config: Path | None, data_dir: Path) -> tuple[LinkTemplate, ...]:
    """The templates of the table `[links]`, from which the runtime makes links of waits.

    Raises:
        UsageError: As `notices_table`; or a row is no template.
    """
    found, path = _read(config, data_dir)
    return read_links(found.get("links", {}), path)


def log_url_of(config: Path | None, data_dir: Path) -> str | None:
    """The store that `url` below `[log]` names, or None without one: commits stand beside the database.

    Raises:
        UsageError: As `notices_table`; or it holds something else.
    """
    return _log_text(config, data_dir, "url", '`url = "s3://bucket/prefix"`.')


def log_peer_of(config: Path | None, data_dir: Path) -> str | None:
    """The address of the other runtime of a pair, as browsers reach it: `peer` below `[log]`; None without one.

    Raises:
        UsageError: As `notices_table`; or it holds something else.
    """
    peer = _log_text(config, data_dir, "peer", hint := '`peer = "https://two.example.com"`.')
    if peer is not None and not re.fullmatch(r"https?://[^/?#\s]+", peer):
        raise UsageError(f"`peer` of [log] is an address without a path, not {peer!r}", hint=hint)
    return peer


def _log_text(config: Path | None, data_dir: Path, name: str, hint: str) -> str | None:
    found, path = _read(config, data_dir)
    table = found.get("log", {})
    if not isinstance(table, dict) or not table.keys() <= {"url", "peer"}:
        raise UsageError(f"{path}: [log] takes `url` and `peer`", hint=hint)
    text = table.get(name)
    if text is not None and not isinstance(text, str):
        raise UsageError(f"{path}: `{name}` of [log] is a text", hint=hint)
    return text


def otel_of(config: Path | None, data_dir: Path) -> bool:
    """True if the table `[otel]` wants traces to be sent.

    Raises:
        UsageError: As `notices_table`; or it holds something else, or wants metrics to be sent, as runtimes before did.
    """
    found, path = _read(config, data_dir)
    table = found.get("otel", {})
    known = {"traces", "metrics"}  # `metrics = false` says what is so anyway
    if not isinstance(table, dict) or not table.keys() <= known:
        raise UsageError(
            f"{path}: [otel] takes `traces`",
            hint="Write `traces = true`; the OTEL_ variables say where they are sent.",
        )
    if not all(isinstance(value, bool) for value in table.values()):
        raise UsageError(f"{path}: `traces` of [otel] is true or false")
    if table.get("metrics", False):
        raise UsageError(
            f"{path}: metrics are no longer sent by [otel]: a collector scrapes /metrics",
            hint="Take `metrics = true` out, and give the collector the receiver of docs/monitoring.md#opentelemetry.",
        )
    return bool(table.get("traces", False))


def _read(config: Path | None, data_dir: Path) -> tuple[dict[str, Any], str]:
    path = config if config is not None else data_dir.absolute().parent / CONFIG_NAME
    try:
        found = read_toml(path, bytes_max=CONFIG_BYTES_MAX)
    except FileNotFoundError as error:
        if config is None:
            return {}, str(path)
        raise UsageError(f"--config {path}: there is no such file") from error
    unknown = sorted(found.keys() - TABLES)
    if unknown:
        raise UsageError(
            f"{path}: {unknown[0]!r} is not a key of this file",
            hint="Notice targets stand in tables [notices.NAME], retention in [retention], what "
            "OpenTelemetry is sent in [otel], people in [people.NAME], the store of commits in [log], options of "
            "`helmr up` in [runtime], limits in [limits.NAME], links of waits in [links], what features read in "
            f"{', '.join(f'[{name}]' for name in SECTIONS)}.",
        )
    return found, str(path)
