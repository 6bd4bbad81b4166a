"""A bucket as a store of objects: S3 and what speaks like it, Azure, Google Cloud, by `obstore`.

Each call is one request with a bound on its time; retries are the caller's, who knows what a lost answer means. Objects
are never uploaded in parts: a multipart upload takes no condition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    NotSupportedError,
    PreconditionError,
    UnknownConfigurationKeyError,
)
from obstore.store import from_url

from helmr.errors import StoreUnavailable, UsageError
from helmr_runtime.ledger.log.objects import ObjectChanged, ObjectExists

SCHEMES = ("s3", "s3a", "az", "azure", "abfs", "abfss", "gs")
TIMEOUT_S = 5.0
"""Of a request. A snapshot's part of 8 MiB takes two seconds at 4 MB/s."""

OF_THE_CLIENT = frozenset(
    [
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "default_content_type",
        "default_headers",
        "http1_only",
        "http2_only",
        "http2_keep_alive_interval",
        "http2_keep_alive_timeout",
        "http2_keep_alive_while_idle",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "randomize_addresses",
        "read_timeout",
        "root_certificate",
        "timeout",
        "user_agent",
    ]
)
"""Settings of `obstore`'s HTTP client. It panics where one of them stands among those of a bucket (0.12)."""

CONNECT_S = 2.0
AT_ONCE = 16
"""Requests of one `get_many`."""


class Bucket:
    """An `Objects` store in a cloud bucket.

    Args:
        store: What `obstore` made of the URL; names are below its prefix.
        name: The URL without settings.
    """

    def __init__(self, store: Any, name: str) -> None:
        self.name = name
        self._store = store
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bucket")

    def create(self, key: str, data: bytes) -> None:
        with self._translated():
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError) as error:
                raise ObjectExists(key) from error

    def get(self, key: str) -> tuple[bytes, str] | None:
        with self._translated():
            try:
                found = obstore.get(self._store, key)
                return bytes(found.bytes()), found.meta["e_tag"] or ""
            except (NotFoundError, FileNotFoundError):
                return None

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        if len(keys) == 1:
            return [_data(self.get(keys[0]))]
        return [_data(found) for found in self._threads.map(self.get, keys)]

    def replace(self, key: str, data: bytes, tag: str | None) -> str:
        mode: Any = "overwrite" if tag is None else {"e_tag": tag}
        with self._translated():
            try:
                made = obstore.put(self._store, key, data, mode=mode, use_multipart=False)
                return made["e_tag"] or ""
            except (
                PreconditionError,
                AlreadyExistsError,
                NotFoundError,
                FileNotFoundError,
            ) as error:
                raise ObjectChanged(key) from error

    def keys(self, prefix: str) -> Iterable[str]:
        with self._translated():
            # A prefix of obstore's is whole segments, and comes back with the name.
            found = obstore.list(self._store, prefix.rstrip("/"))
            return [one["path"] for chunk in found for one in chunk]

    def delete(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        with self._translated():
            try:
                obstore.delete(self._store, list(keys))
            except (NotFoundError, FileNotFoundError):
                # One of several was not there, and the rest may be: each by itself.
                for key in keys if len(keys) > 1 else ():
                    self.delete([key])

    def durability(self) -> str | None:
        return None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except NotSupportedError as error:
            raise UsageError(
                f"{self.name} can't create or replace an object on a condition: a log can't stand in it"
            ) from error
        except (BaseError, OSError, ValueError) as error:
            said = str(error).splitlines()[0][:300]
            raise StoreUnavailable(f"{self.name}: {said}", retry_after_s=1) from error


def _data(found: tuple[bytes, str] | None) -> bytes | None:
    return found[0] if found is not None else None


def open_bucket(url: str) -> Bucket:
    """Return the bucket that a URL names, without a request to it.

    Args:
        url: `s3://bucket/prefix?region=…`. Settings behind the question mark are those of `obstore`; what is not there
            comes from the environment, credentials by the cloud's own variables.

    Raises:
        UsageError: It can't be one.
    """
    parts = urlsplit(url)
    name = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    config: Any = dict(parse_qsl(parts.query, keep_blank_values=True))
    for setting in config:
        if setting.lower().removeprefix("aws_") in OF_THE_CLIENT:
            raise UsageError(
                f"{name}: {setting} is no setting of a bucket",
                hint="Leave it out: times and connections are Helmr's, and an `endpoint` that begins with http:// is "
                "taken as it is.",
            )
    allows_http = config.get("endpoint", "").startswith("http://")
    options: Any = {
        "timeout": timedelta(seconds=TIMEOUT_S),
        "connect_timeout": timedelta(seconds=CONNECT_S),
        **({"allow_http": True} if allows_http else {}),
    }
    try:
        store = from_url(
            name,
            config=config,
            client_options=options,
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=TIMEOUT_S)},
        )
    except (BaseError, ValueError, UnknownConfigurationKeyError) as error:
        said = str(error).splitlines()[0][:300]
        raise UsageError(
            f"{name} can't be a bucket: {said}",
            hint="Give it as `s3://bucket/prefix`, settings behind a question mark as obstore names them.",
        ) from error
    return Bucket(store, name)
