"""Stores by URL; each loads its library only when a URL names it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

from helmr.errors import UsageError
from helmr.version import needed
from helmr_runtime.ledger.log.object_log import ObjectLog
from helmr_runtime.ledger.log.objects import Objects

BUCKETS = ("s3", "s3a", "az", "azure", "abfs", "abfss", "gs")
DATABASES = ("postgresql", "postgres")
FOLDERS = ("file",)
_HOMES = {
    **dict.fromkeys(FOLDERS, ("helmr_runtime.ledger.log.folder", "open_folder", "runtime")),
    **dict.fromkeys(BUCKETS, ("helmr_runtime.ledger.log.bucket", "open_bucket", "bucket")),
    **dict.fromkeys(DATABASES, ("helmr_runtime.ledger.log.postgres", "open_postgres", "postgres")),
}
"""By scheme: the module, its function, and the extra that it needs."""


def open_objects(url: str) -> Objects:
    """Return the store that a URL names, without a request to it.

    Raises:
        UsageError: No store is called so.
        MissingExtra: What it needs is not installed.
    """
    scheme = urlsplit(url).scheme
    if scheme not in _HOMES:
        raise UsageError(
            f"a log can't stand in {scheme or 'a path'!r}",
            hint="Name a bucket, `s3://bucket/prefix`, a PostgreSQL, `postgresql://user@host/database`, or a folder "
            "that other machines mount, `file:///path`.",
        )
    module, function, extra = _HOMES[scheme]
    with needed(extra):
        found = importlib.import_module(module)
    opens = cast("Callable[[str], Objects]", getattr(found, function))
    return opens(url)


def require_new(url: str) -> None:
    """Return if no log stands there.

    Raises:
        UsageError: One does: master keys that are made now would not be its own.
        StoreUnavailable: The store does not answer.
    """
    log = open_log(url)
    try:
        if log.root() is None:
            return
    finally:
        log.close()
    raise UsageError(
        f"{log.objects.name} holds a log, and there are no master keys here",
        hint="Copy the key ring of the machine that has begun it, `master-keys.json`, into this data directory. It is "
        "never in the store.",
    )


def open_log(url: str) -> ObjectLog:
    """One more opening of the log in that store. Raises as `open_objects`."""
    return ObjectLog(open_objects(url))
