"""Ray for one runtime: started on loopback as children of this process, or one that is joined.

Owns the node's processes. Ray is started through its node class, without dashboard, API server, autoscaler monitor and
log monitor: measured 3.2 s and 250 MB against 5.2 s and 360 MB of `ray start --head` and 7.6 s and 640 MB of
`ray.init()`, which also listen on every interface.

The only module that uses names that Ray does not document, each seen on the versions in `RAY_TRIED`: `Node` and
`RayParams`, because nothing public starts a node on loopback alone and ends it with this process;
`canonicalize_bootstrap_address`, because `ray.init` waits two minutes for a cluster that has ended and then ends the
process. docs/upstream/ray.md asks for both.

Anyone who reaches Ray's ports and has its token owns the host: loopback only, token authentication, the
token in a file of its own that only this user may read.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import socket
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import helmr
import helmr_runtime
from helmr.errors import Unavailable, UsageError
from helmr.private_file import write_private
from helmr.version import ray_untried
from helmr_runtime.launchers.watchdog import RUN_DIR_PREFIX
from helmr_runtime.process.processes import MARKER
from helmr_runtime.process.spec import HOST_RESOURCE, LOOPBACK

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Ray's least is 75 MB; what crosses between actors is small and travels inline."""

HOST_RESOURCE_COUNT = 1_000
ANSWERS_WITHIN_S = 5.0

TEMP_PATH_CHARS_MAX = 24
"""A longer temporary folder would make Ray's socket paths longer than the 107 bytes there are."""


def make_run_dir() -> Path:
    """A fresh folder with a short path, for this user only: Ray's files, statuses, the token."""
    base = tempfile.gettempdir()
    if len(base) > TEMP_PATH_CHARS_MAX:
        base = "/tmp"  # noqa: S108 - mkdtemp makes an own folder in it
    return Path(tempfile.mkdtemp(prefix=RUN_DIR_PREFIX, dir=base))


def prepare_environment(*, marker: str, run_dir: Path) -> None:
    """Set what a Ray of our own and every process under it read; before ray is imported."""
    token = run_dir / "token"
    write_private(token, secrets.token_hex(32))
    prepare_to_join()
    os.environ.update(
        {
            MARKER: marker,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            # Despite its name: 0 makes Ray take 127.0.0.1 for the address of this node, on every
            # system, and so its servers listen there and nowhere else.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            # No one reads them, and each call would report to them.
            "RAY_task_events_report_interval_ms": "0",
            "RAY_enable_metrics_collection": "0",
            # Ray starts workers at nice 15, where any busy program of the machine starves an answer.
            "RAY_worker_niceness": "0",
            "RAY_worker_maximum_startup_concurrency": str(max(2, os.cpu_count() or 1)),
        }
    )


def prepare_to_join() -> None:
    """Set what this process must have before it imports ray, whichever cluster it is to talk to."""
    settings = {
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
    }
    os.environ.update(settings)
    os.environ.pop("RAY_ADDRESS", None)
    if roots := import_roots():
        paths = [*roots, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))


def import_roots() -> list[str]:
    """Return the folders of our packages that are not installed; workers must find them first."""
    roots = [Path(package.__path__[0]).resolve().parent for package in (helmr, helmr_runtime)]
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    return [str(root) for root in roots if root not in installed]


class Cluster:
    """The Ray that a runtime uses.

    Args:
        run_dir: Where Ray puts its files.
        address: Join the cluster there; None starts one.
    """

    def __init__(self, run_dir: Path, address: str | None = None) -> None:
        self._run_dir = run_dir
        self._address = address or None
        self.address = ""
        self._node: Any = None

    def start(self) -> str:
        """Start or find Ray and connect this process to it; blocks. In the main thread only.

        The kernel ends Ray's processes with the thread that started them.

        Returns:
            Ray's address.

        Raises:
            Unavailable: Ray can't be started or reached.
        """
        import ray  # noqa: PLC0415 - reads the environment that `prepare_environment` sets

        if (untried := ray_untried(ray.__version__)) is not None:
            logger.warning("%s", untried)
        if self._address is not None:
            self._address = _found(self._address)
            check_answers(self._address)
        try:
            if self._address is None:
                self._node = _start_node(self._run_dir / "r")
            address = self._address or str(self._node.gcs_address)
            ray.init(
                address=address,
                namespace="helmr",
                log_to_driver=False,
                configure_logging=False,
            )
        except Exception as error:  # Ray says with a bare one that a node did not start
            raise Unavailable(
                f"Ray can't be started: {error}" if self._address is None else str(error),
                hint=f"Its logs are in {self._run_dir}." if self._address is None else None,
            ) from error
        # Ray's would tell the cluster of what ends this process, and wait for ever for one that is gone.
        sys.excepthook = sys.__excepthook__
        self.address = str(ray.get_runtime_context().gcs_address)
        return self.address

    def room(self) -> int:
        """Count the hosts that the nodes have room for.

        Raises:
            UsageError: No node offers the resource that hosts take.
        """
        import ray  # noqa: PLC0415 - see `start`

        client: Any = ray  # has no types here
        offered: dict[str, float] = client.cluster_resources()
        if not offered.get(HOST_RESOURCE):
            raise UsageError(
                f"no node of the Ray cluster at {self.address} offers {HOST_RESOURCE}",
                hint=f"Start nodes with `--resources '{{\"{HOST_RESOURCE}\": 10}}'`; "
                "each host takes one.",
            )
        return int(offered[HOST_RESOURCE])

    def dead_processes(self) -> list[str]:
        """Return the kinds of Ray's own processes that have ended."""
        if self._node is None:
            return []
        return [str(kind) for kind, _ in self._node.dead_processes()]

    def stop(self) -> None:
        """Disconnect, and end what `start` has started; blocks."""
        import ray  # noqa: PLC0415 - see `start`

        if self.dead_processes():
            # Ray ends a process that tries to say goodbye to a dead node.
            atexit.unregister(ray.shutdown)
            return
        try:
            ray.shutdown()
        except ImportError as error:  # it imports more of itself then; its folder may be gone
            logger.warning("Ray does not hear of the end: %s", error)
            atexit.unregister(ray.shutdown)
        if self._node is not None:
            self._node.kill_all_processes(check_alive=False, allow_graceful=False)
            self._node = None


def check_answers(address: str) -> None:
    """Raise if nothing answers at HOST:PORT, where Ray itself would try for minutes.

    Raises:
        Unavailable: Nothing does.
    """
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise Unavailable(
            f"no Ray cluster answers at {address}: {error}",
            hint="`ray status` on a node of it says its address.",
        ) from error


def _found(address: str) -> str:
    """Resolve `auto` to this machine's Ray; return any other address unchanged.

    Raises:
        Unavailable: There is none.
    """
    if address != "auto":
        return address
    from ray._private.services import canonicalize_bootstrap_address  # noqa: PLC0415 - see `start`

    try:
        found = canonicalize_bootstrap_address(address)
    except (ConnectionError, ValueError) as error:
        raise Unavailable(
            "no Ray cluster is found on this machine",
            hint="Start one, or name it: --address HOST:PORT.",
        ) from error
    return str(found or address)


def _start_node(temp_dir: Path) -> Any:
    from ray._private.node import Node  # noqa: PLC0415 - see `Cluster.start`
    from ray._private.parameter import RayParams  # noqa: PLC0415

    class HeadNode(Node):
        """A head node without the API server, which serves what this runtime does not use."""

        def start_api_server(
            self, *, include_dashboard: bool | None, raise_on_failure: bool
        ) -> None:
            """Start none."""

    temp_dir.mkdir(mode=0o700)
    params: dict[str, Any] = {"include_log_monitor": False, "dashboard_port": 0}  # mistyped there
    return HeadNode(
        RayParams(
            **params,
            node_ip_address=LOOPBACK,
            gcs_server_port=0,
            num_cpus=None,  # the machine's: what steps hand to `@ray.remote` functions asks for one
            resources={HOST_RESOURCE: HOST_RESOURCE_COUNT},
            object_store_memory=OBJECT_STORE_BYTES,
            temp_dir=str(temp_dir),
            include_dashboard=False,
            no_monitor=True,
            dashboard_host=LOOPBACK,
        ),
        head=True,
        shutdown_at_exit=False,
        spawn_reaper=True,
    )
