"""The gate's parts of the service, a noun each: calls, decisions, grants, outcomes."""

from __future__ import annotations

from dataclasses import replace

from helmr.gate.reach import OwnFolder
from helmr.matching import read_rules
from helmr_runtime.features.gate.decisions import Gate
from helmr_runtime.features.gate.gated_calls import GatedCalls
from helmr_runtime.features.gate.grants import GrantOperations
from helmr_runtime.features.gate.outcomes import GatedOutcomes
from helmr_runtime.service.service import Service


def gated_calls(service: Service) -> GatedCalls:
    """The part that keeps calls as sessions."""
    return GatedCalls(service.shared, service.sessions)


def gate(service: Service) -> Gate:
    """The part that decides calls, by the rules of the table `[gate]`; none reaches the data directory."""
    rules = read_rules(service.sections.get("gate", {}), "helmr.toml")
    if service.data_dir is not None:
        rules = replace(rules, own=OwnFolder(service.data_dir))
    return Gate(service.shared, service.sessions, service.part("gated_calls"), rules)


def grants(service: Service) -> GrantOperations:
    """The part that gives and revokes grants."""
    return GrantOperations(service.shared, service.part("gated_calls"))


def outcomes(service: Service) -> GatedOutcomes:
    """The part that takes what people know of a call's outcome."""
    return GatedOutcomes(service.shared, service.sessions, service.part("gated_calls"))
