"""Finds the runtime for a client or a command, in a fixed order.

1. The `url` argument. 2. The test harness that executes the calling code, unless `data_dir` is given.
3. `HELMR_URL`. 4. `data_dir`, or `HELMR_DATA_DIR`. 5. The Ray cluster that this process is connected to, if a runtime
is in it. 6. The nearest `.helmr/` upward from the current folder. 7. The only live runtime of this user; several are
`AmbiguousRuntime`, none is `RuntimeNotFound`.
The first one given decides: a named runtime that is down is an error, never a reason to try another one. The key is
the `key` argument, else `HELMR_API_KEY`, else that of the credentials found; for a URL, of the live pointer with that
URL. A harness and a Ray program need no key, and ignore the variable.

A running `helmr up` writes `<data-dir>/credentials.json` and a pointer with the same content,
`$XDG_STATE_HOME/helmr/runtimes/<port>.json`. Both hold a key: a file that others could have written is an error, and
one that others can read is used with a warning. A file is live while the process that it names runs.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pydantic import ValidationError

from helmr.client.endpoint import BY_HARNESS, HARNESS_URL, RAY, Endpoint, here_of_this_run
from helmr.client.whereabouts import CREDENTIALS_BYTES_MAX, DATA_DIR_VARIABLE, named_data_dir
from helmr.client.whereabouts import CREDENTIALS_FILE as CREDENTIALS_FILE
from helmr.client.whereabouts import DATA_DIR_NAME as DATA_DIR_NAME
from helmr.client.whereabouts import is_live as is_live
from helmr.client.whereabouts import nearest_data_dir as nearest_data_dir
from helmr.client.whereabouts import pointer_dir as pointer_dir
from helmr.client.whereabouts import sign_ins_folder as sign_ins_folder
from helmr.errors import AmbiguousRuntime, NotAllowed, NotReady, RuntimeNotFound, UsageError
from helmr.models import Credentials

log = logging.getLogger("helmr.client")

KEY_VARIABLE = "HELMR_API_KEY"

LOCK_FILE = "up.lock"
"""Lock file in the data directory, held by the `helmr up` whose pid is its first line, until that process ends."""

JOINED_FILE = "joined.json"
"""File in the data directory of a runtime in a Ray cluster."""
POINTERS_MAX = 1000


def find_runtime(
    *,
    url: str | Sequence[str] | None = None,
    key: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Endpoint:
    """Return the endpoint of the runtime.

    Args:
        url: Its URL, several addresses of a pair (also as one text with commas), or `ray`; overrides everything
            else.
        key: API key; overrides `HELMR_API_KEY`, which overrides keys from files and sign-ins.
        data_dir: Its data directory. `HELMR_URL` overrides it, with a warning if it names another runtime.
        environ: Replaces the process's environment.
        cwd: Replaces the current folder.

    Raises:
        RuntimeNotFound: None is running in these places.
        NotReady: The runtime of that data directory is starting or stopping.
        AmbiguousRuntime: Several are running, and none is named.
        NotAllowed: Someone else could have written the credentials.
        UsageError: The URL is invalid.
    """
    environ = os.environ if environ is None else environ
    if url is not None and not isinstance(url, str):
        url = ",".join(url)
    found = _find(url, key or None, data_dir, environ, cwd)
    if key or found.here is not None or found.is_ray:
        return found
    said = environ.get(KEY_VARIABLE)
    return replace(found, key=said) if said else _signed_in(found, environ)


def _signed_in(found: Endpoint, environ: Mapping[str, str]) -> Endpoint:
    """Return the endpoint with the sign-in of its person, if there is one."""
    if not sign_ins_folder(environ).is_dir():
        return found
    from helmr.client.sign_in import KeptSignIn

    kept = KeptSignIn(environ, normal_url(found.url))
    return replace(found, key=None, signed_in=kept) if kept.is_there else found


def _find(
    url: str | None,
    key: str | None,
    data_dir: str | os.PathLike[str] | None,
    environ: Mapping[str, str],
    cwd: Path | None,
) -> Endpoint:
    if url:
        return _by_url(url, key=key, environ=environ, found_by="url")
    runtime = here_of_this_run() if data_dir is None else None
    if runtime is not None:
        return Endpoint(url=HARNESS_URL, key=key, found_by=BY_HARNESS, here=runtime)
    if environ.get("HELMR_URL"):
        endpoint = _by_url(environ["HELMR_URL"], key=key, environ=environ, found_by="HELMR_URL")
        if data_dir is not None:
            _warn_if_other(with_process(endpoint, environ), Path(data_dir))
        return endpoint
    if data_dir is not None:
        return _by_data_dir(Path(data_dir), key=key, found_by="data_dir")
    if (named := named_data_dir(environ)) is not None:
        return _by_data_dir(named, key=key, found_by=DATA_DIR_VARIABLE)
    in_cluster = _in_cluster(key)
    if in_cluster is not None:
        return in_cluster
    nearest = nearest_data_dir(cwd or Path.cwd(), environ)
    if nearest is not None:
        return _by_data_dir(nearest, key=key, found_by=f"{DATA_DIR_NAME}/")
    return _only_live(key=key, environ=environ)


def live_runtimes(environ: Mapping[str, str] | None = None) -> list[Credentials]:
    """Return every running runtime that this user's pointers name, by URL."""
    folder = pointer_dir(os.environ if environ is None else environ)
    try:
        paths = sorted(folder.glob("*.json"))[:POINTERS_MAX]
    except OSError:
        return []
    found = {}
    for path in paths:
        try:
            credentials = read_credentials(path)
        except NotAllowed as error:
            log.warning("%s; ignored", error.message)
            continue
        if credentials is not None:
            found[normal_url(credentials.url)] = credentials
    return [found[url] for url in sorted(found)]


def read_credentials(path: Path) -> Credentials | None:
    """Return the credentials in a file; None if it is gone or unreadable, or its runtime is not running.

    Raises:
        NotAllowed: The file is a link, or someone else owns it or may write it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _check_owner(path, status)
            credentials = Credentials.model_validate_json(file.read(CREDENTIALS_BYTES_MAX))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAllowed(
                f"{path} is a link, and a runtime makes no links there",
                hint="Look at who put it there.",
            ) from error
        return None
    except ValidationError:
        return None
    return credentials if is_live(credentials.pid, written_at_s=status.st_mtime) else None


def normal_url(url: str) -> str:
    """Normalize a URL for comparison: no trailing slash or `/v1`, loopback names as 127.0.0.1.

    Raises:
        UsageError: Not an http or https URL.
    """
    hint = "A runtime's URL looks like http://127.0.0.1:4356."
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{url[:200]!r} is not a URL: {error}", hint=hint) from error
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"{url[:200]!r} is not an http or https URL", hint=hint)
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError("a runtime's URL holds no user, query or fragment", hint=hint)
    if host in ("localhost", "::1"):
        host = "127.0.0.1"
    elif ":" in host:
        host = f"[{host}]"
    place = host if port is None else f"{host}:{port}"
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/").removesuffix("/v1"), "", ""))


def with_process(endpoint: Endpoint, environ: Mapping[str, str] | None = None) -> Endpoint:
    """Return the endpoint with its process, if it is a live runtime of this user; else unchanged."""
    if endpoint.pid is not None or endpoint.is_ray or endpoint.others:
        return endpoint
    pointer = _pointer_of(endpoint.url, os.environ if environ is None else environ)
    if pointer is None:
        return endpoint
    return replace(endpoint, pid=pointer.pid, data_dir=pointer.data_dir)


def _in_cluster(key: str | None) -> Endpoint | None:
    from helmr.client import ray  # needed where Ray is

    return ray.find(key=key)


def _by_url(url: str, *, key: str | None, environ: Mapping[str, str], found_by: str) -> Endpoint:
    if url.strip() == RAY:
        found = _in_cluster(key)
        if found is None:
            raise RuntimeNotFound(
                "no runtime is in a Ray cluster that this process is connected to",
                hint="Call ray.init() first; `helmr up --address` starts a runtime in a cluster.",
            )
        return found
    url, *others = _addresses(url)
    key = key or environ.get(KEY_VARIABLE) or None  # then no file is looked at
    pointer = None if key is not None else _pointer_of(url, environ)
    if others:  # which of them is of this machine says nothing: the other may be at work
        found_key = key or (pointer.key if pointer is not None else None)
        return Endpoint(url=url, key=found_key, found_by=found_by, others=tuple(others))
    if pointer is None:
        return Endpoint(url=url, key=key, found_by=found_by)
    return _endpoint(pointer, key=key, found_by=found_by, url=url)


ADDRESSES_MAX = 8


def _addresses(text: str) -> list[str]:
    """Split the addresses of one runtime at commas.

    Raises:
        UsageError: An address is not an http or https URL, or there are too many.
    """
    urls = [one.strip().rstrip("/") for one in text.split(",") if one.strip()] or [text]
    for one in urls:
        normal_url(one)
    if len(urls) > ADDRESSES_MAX:
        raise UsageError(f"{len(urls)} addresses of one runtime; at most {ADDRESSES_MAX}")
    return list(dict.fromkeys(urls))


def _pointer_of(url: str, environ: Mapping[str, str]) -> Credentials | None:
    normal = normal_url(url)
    return next((one for one in live_runtimes(environ) if normal_url(one.url) == normal), None)


def _by_data_dir(data_dir: Path, *, key: str | None, found_by: str) -> Endpoint:
    path = data_dir / CREDENTIALS_FILE
    credentials = read_credentials(path)
    if credentials is None:
        place = os.path.abspath(data_dir)
        if (data_dir / JOINED_FILE).exists():
            raise RuntimeNotFound(
                f"the runtime on {place} is in a Ray cluster, and no gateway of it answers here",
                hint="Without HTTP only programs in the cluster reach it; else `helmr up --address` "
                "puts it right.",
                data_dir=place,
            )
        holder = _holder(data_dir)
        if holder is not None:
            raise NotReady(
                f"the runtime on {place} (pid {holder}) is starting or stopping",
                hint="Try again in a moment; its terminal or its log says what it does.",
                data_dir=place,
                pid=holder,
            )
        raise RuntimeNotFound(
            f"no runtime is running on {place}",
            hint=f"Start it with `helmr up --data-dir {place} TASKS`, or set HELMR_URL.",
            data_dir=place,
        )
    return _endpoint(credentials, key=key, found_by=found_by)


def _holder(data_dir: Path) -> int | None:
    """Return the process that holds the data directory, ready or not."""
    path = data_dir / LOCK_FILE
    try:
        pid, written_at_s = int(path.read_text().split()[0]), path.stat().st_mtime
    except (OSError, ValueError, IndexError):
        return None
    return pid if is_live(pid, written_at_s=written_at_s) else None


def _only_live(*, key: str | None, environ: Mapping[str, str]) -> Endpoint:
    live = live_runtimes(environ)
    if not live:
        raise RuntimeNotFound("no runtime is running")
    if len(live) > 1:
        places = ", ".join(f"{one.url} ({one.data_dir})" for one in live)
        raise AmbiguousRuntime(
            f"{len(live)} runtimes are running: {places}",
            runtimes=[{"url": one.url, "data_dir": one.data_dir, "pid": one.pid} for one in live],
        )
    return _endpoint(live[0], key=key, found_by="the only live runtime")


def _endpoint(
    credentials: Credentials, *, key: str | None, found_by: str, url: str | None = None
) -> Endpoint:
    return Endpoint(
        url=url or credentials.url,
        key=key or credentials.key,
        found_by=found_by,
        pid=credentials.pid,
        data_dir=credentials.data_dir,
    )


def _warn_if_other(endpoint: Endpoint, data_dir: Path) -> None:
    if endpoint.data_dir is None or Path(endpoint.data_dir).resolve() != data_dir.resolve():
        log.warning("HELMR_URL is set: %s is meant, not %s", endpoint.url, data_dir)


def _check_owner(path: Path, status: os.stat_result) -> None:
    user = os.geteuid()
    if user != 0 and status.st_uid not in (user, 0):
        raise NotAllowed(f"{path} belongs to another user (uid {status.st_uid})")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotAllowed(
            f"{path} may be written by other users",
            hint=f"chmod 600 {path}, or restart the runtime.",
        )
    if status.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("%s holds a key and may be read by other users; chmod 600 it", path)
