"""`helmr up`: starts a runtime in the foreground, watches it, and ends all of it, or has it joined to a cluster.

Owns the data directory while it runs (a lock), the local admin key, the credentials that local
programs find, and every process it has started: a clean end parks what waits; after any other end
the watchdog and the kernel end the rest within seconds, and the next `up` looks once more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from helmr.errors import HelmrError, LedgerSuperseded, UsageError
from helmr_runtime.launchers import watchdog
from helmr_runtime.launchers.cluster import Cluster, make_run_dir, prepare_environment
from helmr_runtime.launchers.deploy_cluster import join
from helmr_runtime.launchers.runtime import READY, SUPERSEDED, Stop, serve, tell_manager
from helmr_runtime.launchers.startup import (
    StartClaim,
    UpOptions,
    announce,
    claim,
    give_seed,
    keep_keys,
    keep_seed,
    load_code,
    make_spec,
    trim_logs,
    writing,
)
from helmr_runtime.launchers.watchdog import ProcessRecord, Watchdog
from helmr_runtime.process import local_access, processes
from helmr_runtime.process.local_access import local_key
from helmr_runtime.process.output import Terminal, json_formatter

STOP_WITHIN_S = 10.0
"""From a signal to the end of everything."""

TERMINAL = Terminal()
"""The process has one."""


def run_up(options: UpOptions) -> int:
    """Run a runtime until a signal ends it; returns the exit code.

    Raises:
        RuntimeHeld: Another runtime has the data directory; names it.
        BadDefinition: A task module can't be used.
        Conflict: The port is taken.
        DataError: The ledger's file is not a database.
        Unavailable: Ray or the ledger can't be started.
    """
    if not options.tasks:
        raise UsageError("no tasks are named", hint="Name task files or modules.")
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    if options.address is not None:
        if options.in_process:
            raise UsageError(
                "a runtime in one process can't join a cluster",
                hint="Leave out --address or --in-process.",
            )
        return join(options, TERMINAL)
    if not options.serves_http:
        raise UsageError(
            "only a Ray cluster can reach a runtime that serves no HTTP",
            hint="Name the cluster with --address.",
        )
    if options.in_process:
        # A supervisor would carry the ledger's engine and the gateway's framework for nothing: 28 MB.
        from helmr_runtime.launchers.foreground import run_in_process  # noqa: PLC0415

        return run_in_process(options, TERMINAL)
    with claim(options, TERMINAL.say) as claimed:
        with writing(claimed.data_dir):
            run = _Run(options, claimed)
        try:
            return run.run()
        except KeyboardInterrupt:
            TERMINAL.say("stopped before it was ready")
            return 0
        except LedgerSuperseded as error:
            if options.log_url is None:  # by a follower that 0.7 or earlier promoted
                raise
            TERMINAL.say(f"{error.message}; started again, this one stands by")
            return SUPERSEDED
        finally:
            run.clean_up()


class _Run:
    """One runtime from its first process to its last."""

    def __init__(self, options: UpOptions, claimed: StartClaim) -> None:
        self._options = options
        self._claim = claimed
        data_dir = self._data_dir = claimed.data_dir
        self._run_dir = make_run_dir()
        self._mark = processes.RuntimeMark(os.urandom(16).hex(), self._run_dir)
        self._key = local_key(data_dir)
        self._watchdog = Watchdog(data_dir, self._mark)
        self._cluster = Cluster(self._run_dir)
        self._pointer: Path | None = None
        self._recorded: tuple[processes.OsProcess, ...] = ()
        (self._run_dir / "statuses").mkdir()
        trim_logs(data_dir / "logs")

    def run(self) -> int:
        """Start everything, serve until a signal, park and stop."""
        with writing(self._data_dir):
            self._record(())
        with writing(self._data_dir):
            prepare_environment(marker=self._mark.marker, run_dir=self._run_dir)
        give_seed(self._data_dir)
        # A task module may import ray, which reads the environment then.
        registry, catalog = load_code(self._options.tasks, self._claim.folder, TERMINAL.say)
        self._watchdog.start()
        # Ray gives the current folder to its workers as the first place to import from.
        os.chdir(self._run_dir)
        with writing(self._data_dir):
            formatter = json_formatter("supervisor", is_wanted=self._options.json_logs)
            TERMINAL.divert(self._data_dir / "logs" / "supervisor.log", formatter)
        address = self._cluster.start()
        TERMINAL.say(f"Ray runs on {address}")
        from helmr_runtime.launchers.ray_runtime import RayRuntime  # noqa: PLC0415 - imports ray, see Cluster.start

        code = registry, catalog
        spec = make_spec(self._options, self._claim, code, run_dir=self._run_dir, key=self._key)
        keep_keys(spec, self._key)
        keep_seed(self._data_dir, TERMINAL.say)
        runtime = RayRuntime(
            spec,
            catalog,
            is_cluster_alive=lambda: not self._cluster.dead_processes(),
            look_after=self._look_after,
            say=TERMINAL.say,
            on_standby=self._stands_by,
        )
        asyncio.run(serve(runtime, TERMINAL.say, self._ready))
        return 0

    def _record(self, found: tuple[processes.OsProcess, ...]) -> None:
        """Write down what there is to end, should this process be killed."""
        me = _this_process()
        watchdog.write_record(
            self._data_dir,
            ProcessRecord(mark=self._mark, supervisor=me, processes=found),
        )

    def _look_after(self) -> None:
        if not self._watchdog.is_alive:
            self._watchdog.start()
        found = tuple(processes.marked(self._mark))
        if found != self._recorded:
            self._recorded = found
            self._record(found)

    def _stands_by(self) -> None:
        """Let local programs find it: they end it, or have it take over."""
        self._pointer = announce(self._options, self._claim, self._key, TERMINAL.say, "stands by")
        tell_manager(READY)

    def _ready(self, stop: Stop) -> None:
        """Let local programs find this runtime."""
        self._pointer = announce(self._options, self._claim, self._key, TERMINAL.say)
        tell_manager(READY)

    def clean_up(self) -> None:
        """End whatever is left, and take back what pointed here."""
        os.chdir("/")
        if self._pointer is not None:
            local_access.withdraw(self._data_dir, self._pointer)
        try:
            self._cluster.stop()
        finally:
            spare = [self._watchdog.pid] if self._watchdog.pid is not None else []
            left = processes.end_all(
                self._mark, self._recorded, spare=spare, within_s=STOP_WITHIN_S / 2
            )
            self._watchdog.dismiss(timeout_s=STOP_WITHIN_S / 2)
            watchdog.remove_run_dir(self._run_dir)
            TERMINAL.restore()
        if left:
            TERMINAL.say(f"{len(left)} processes could not be ended; the next start tries again")
            self._record(tuple(left))
        else:
            watchdog.forget_record(self._data_dir)


# --- parts ----------------------------------------------------------------------------------------


def _this_process() -> processes.OsProcess:
    me = processes.process(os.getpid())
    assert me is not None, "this process runs"
    return me


def main(arguments: list[str] | None = None) -> int:
    """Run a runtime from one argument, the options as JSON; how `helmr_runtime.launchers.embedded` does."""
    parser = argparse.ArgumentParser(prog="helmr_runtime.launchers.supervisor")
    parser.add_argument("options", help="UpOptions as JSON")
    values = json.loads(parser.parse_args(arguments).options)
    for name in ("tasks", "trusted_proxies"):
        values[name] = tuple(values.get(name, ()))
    for name in ("data_dir", "folder"):
        if values.get(name) is not None:
            values[name] = Path(values[name])
    try:
        return run_up(UpOptions(**values))
    except HelmrError as error:
        TERMINAL.say(f"error: {error.message}")
        if error.hint:
            TERMINAL.say(f"hint: {error.hint}")
        return error.exit_code


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
