"""The systems that are compared, by name; each module says in front of what and with which settings."""

from __future__ import annotations

from tests.benchmarks.systems.base import Missing, System
from tests.benchmarks.systems.dbos import DbosOnPostgres, DbosOnSqlite
from tests.benchmarks.systems.helmr import Helmr, HelmrInProcess
from tests.benchmarks.systems.helmr_ray import HelmrRay
from tests.benchmarks.systems.langgraph import LangGraphOnSqlite
from tests.benchmarks.systems.restate import Restate

SYSTEMS: dict[str, type[System]] = {
    one.name: one
    for one in (
        Helmr,
        HelmrRay,
        HelmrInProcess,
        DbosOnPostgres,
        Restate,
        LangGraphOnSqlite,
        DbosOnSqlite,
    )
}

__all__ = ["SYSTEMS", "Missing", "System"]
