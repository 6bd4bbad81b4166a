"""The systems that are compared, by name; each module says in front of what and with which settings."""

from __future__ import annotations

from tests.programs.benchmarks.systems.base import Missing, System
from tests.programs.benchmarks.systems.dbos import DbosOnPostgres, DbosOnSqlite
from tests.programs.benchmarks.systems.helmr import (
    Helmr,
    HelmrInProcess,
    HelmrOnBucket,
    HelmrOnPostgres,
)
from tests.programs.benchmarks.systems.helmr_ray import HelmrRay
from tests.programs.benchmarks.systems.langgraph import LangGraphOnSqlite
from tests.programs.benchmarks.systems.restate import Restate

SYSTEMS: dict[str, type[System]] = {
    one.name: one
    for one in (
        Helmr,
        HelmrRay,
        HelmrInProcess,
        HelmrOnPostgres,
        HelmrOnBucket,
        DbosOnPostgres,
        Restate,
        LangGraphOnSqlite,
        DbosOnSqlite,
    )
}

__all__ = ["SYSTEMS", "Helmr", "HelmrRay", "Missing", "System"]
