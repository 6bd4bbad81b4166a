"""What hosts say of themselves and of their sessions, against what this directory believes of them."""

from __future__ import annotations

from helmr_runtime.clock import Clock
from helmr_runtime.directory.bindings import Bindings
from helmr_runtime.directory.failover import Failover
from helmr_runtime.directory.hosts import PoolHost, Slot, Stage
from helmr_runtime.directory.placement import Placement
from helmr_runtime.directory.pool import Pool
from helmr_runtime.directory.timing import Limits, Tasks, sleep
from helmr_runtime.ports import HostReport, Occupancy, SlotReport, SlotState
from helmr_runtime.rpc.calls import CallError


class Reports:
    """Takes what hosts say to whom it concerns."""

    def __init__(
        self,
        pool: Pool,
        bindings: Bindings,
        placing: Placement,
        failover: Failover,
        *,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._pool = pool
        self._bindings = bindings
        self._placing = placing
        self._failover = failover
        self._clock = clock
        self._limits = limits
        self._tasks = Tasks()

    async def stop(self) -> None:
        """End what runs in the background."""
        await self._tasks.stop()

    def found(self, host: PoolHost, occupancy: Occupancy) -> None:
        """A host has started, or an earlier directory left it behind with sessions."""
        for lease in occupancy.leases:
            self._bindings.claim(host, lease)
        if occupancy.retiring is not None:
            self._retire(host, occupancy.retiring)
        elif host.code_hash != self._pool.catalog_hash:
            self._placing.drain(host)

    def _retire(self, host: PoolHost, reason: str) -> None:
        self._pool.warnings.show(f"retire:{host.name}", f"{host.name} retires: {reason}")
        self._placing.drain(host)

    def report(self, host: PoolHost, report: HostReport) -> None:
        """A host says what became of its sessions."""
        if report.retiring is not None and not host.is_draining:
            self._retire(host, report.retiring)
        for one in report.slots:
            slot = self._slot_of(host, one)
            if slot is None:
                if one.state in (SlotState.BUSY, SlotState.PARKABLE):
                    self._tasks.start(self._look_for(host, one))
            elif slot.report is None or slot.report.epoch <= one.epoch:
                self._bindings.take(slot, one)

    def _slot_of(self, host: PoolHost, report: SlotReport) -> Slot | None:
        """The slot that a report is about; None if that adoption is over. A slot being adopted has no epoch yet."""
        adoption = (report.session_id, report.epoch)
        known = self._bindings.holders.get(report.session_id)
        if known is not None and known.host is host and known.epoch == report.epoch:
            return known
        ending = (slot for slot in host.slots if slot.stage is Stage.ENDING)
        found = next((s for s in ending if (s.session_id, s.epoch) == adoption), None)
        if found is not None:
            return found
        return known if known is not None and known.host is host and known.epoch is None else None

    async def _look_for(self, host: PoolHost, report: SlotReport) -> None:
        """A host tells of a session that it does not hold, as far as we know.

        It does if an adoption reached it after it was given up for lost: nobody would have the session parked. Else
        the report was on its way for longer than the session was there.
        """
        session_id = report.session_id
        async with self._bindings.lock(session_id):
            await self._failover.fenced(session_id)
            while host.is_alive and self._slot_of(host, report) is None:
                try:
                    lease = await host.port.lease(session_id)
                except CallError as error:
                    self._bindings.lost(host, error)
                    await sleep(self._clock, self._limits.retry_s)
                    continue
                if lease is None or lease.epoch != report.epoch or not host.is_alive:
                    return
                self._bindings.claim(host, lease)
                break
        slot = self._slot_of(host, report)
        if slot is not None and (slot.report is None or slot.report.since <= report.since):
            self._bindings.take(slot, report)
