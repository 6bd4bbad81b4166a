"""By which code and keys the ops of a run are hashed (S-126)."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata

import pydantic

from helmr_runtime.core.asked import AskedHashes

MARK_BYTES = 3

try:
    _VERSION = metadata.version("helmr")
except metadata.PackageNotFoundError:  # a checkout that is not installed
    _VERSION = ""

ENVIRONMENT = "|".join([*platform.python_version_tuple()[:2], pydantic.VERSION, _VERSION])
"""What besides the code decides how values are read and written: with others it counts as other code."""


@lru_cache(64)
def code_mark(code_hash: str) -> str:
    """Names code and what it runs on, in a few characters."""
    said = f"{code_hash}|{ENVIRONMENT}".encode()
    return hashlib.blake2b(said, digest_size=MARK_BYTES).hexdigest()


def hashes_of(code_hash: str | None, keys: Mapping[str, bytes] | None) -> AskedHashes:
    """Those of a run that this code executes.

    Args:
        code_hash: None for code of which nobody knows whether it is the one that was recorded.
        keys: Of the session, by their tags.
    """
    return AskedHashes(code_mark(code_hash) if code_hash is not None else "", keys or {})
