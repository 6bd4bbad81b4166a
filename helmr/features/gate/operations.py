"""The operations of the gate: calls of agents that ask first, standing grants, and outcomes."""

from __future__ import annotations

from typing import Any

from helmr.models import (
    GatedCallInfo,
    GatedCallRequest,
    GatedOutcomeRequest,
    GateQuery,
    GateReceipt,
    GrantInfo,
    GrantRequest,
    ListQuery,
    NoFields,
    Page,
    SaidOutcomeRequest,
)
from helmr.wire.operation import Operation, Repeat
from helmr.wire.roles import Need, Owner

# A table is read row by row.
# fmt: off

GATE_CLAUDE_CODE = Operation(
    "", "POST /v1/gate/claude-code", Need.ASK,
    "Take an event of a Claude Code hook; if the hook asks, answer with the decision in its form.",
    description="The call waits until a person or a rule has decided, at most until 10 s before `timeout_s`. `mode` "
    "headless always gets a decision; interactive gets `{}` if there is none, and the client shows its own prompt. "
    "`rules` asks no person: the answer, at once, is `deny`, `ask` or nothing, with a copy of the rules in `rules` if "
    "the hook has another.",
    tag="gate", query=GateQuery, reply=dict[str, Any], problems=(400, 409, 413), repeat=Repeat.AGAIN)
ASK_GATED_CALL = Operation(
    "", "POST /v1/gate/calls", Need.ASK, "Ask whether an agent may make a call that has no id.",
    description="The call waits for `hold_s` at most; then it answers `pending`. Ask about the same call again to "
    "get the decision, once, within an hour. A request repeated under its operation id gets the same decision.",
    tag="gate", body=GatedCallRequest, reply=GateReceipt, problems=(404,), repeat=Repeat.AGAIN)
REPORT_GATED_CALL = Operation(
    "", "POST /v1/gate/calls/{session_id}/outcome", Need.ASK,
    "Report how an allowed call ended; the first report counts.",
    tag="gate", service="gated_calls.report", owner=Owner.OWN, body=GatedOutcomeRequest, reply=GatedCallInfo,
    problems=(404,), repeat=Repeat.AGAIN)
GET_GATED_CALL = Operation(
    "", "GET /v1/gate/calls/{session_id}", Need.ASK,
    "Get a call that the same key has asked about; the role admin gets any.",
    tag="gate", service="gated_calls.get", owner=Owner.OWN, reply=GatedCallInfo, problems=(404,))
WITHDRAW_GATED_CALL = Operation(
    "", "POST /v1/gate/calls/{session_id}/withdraw", Need.ASK,
    "Stop asking about a call that the same key has asked about; the role admin may stop any.",
    description="A decided call stays as it is. Withdrawing again changes nothing.",
    tag="gate", service="gated_calls.withdraw", owner=Owner.OWN, body=NoFields, reply=GatedCallInfo, problems=(404,),
    repeat=Repeat.AGAIN)

LIST_UNKNOWN_OUTCOMES = Operation(
    "outcomes.list", "GET /v1/gate/unknown", Need.READ,
    "List approved calls of agents of which no one knows what became.",
    description="Newest first. A page may have fewer calls than asked for.",
    tag="gate", service="outcomes.unknown", query=ListQuery, reply=Page[GatedCallInfo])
SAY_OUTCOME = Operation(
    "outcomes.say", "POST /v1/gate/calls/{session_id}/said-outcome", Need.ANSWER,
    "Say what became of an approved call, as far as a person has found out; the first word counts.",
    tag="gate", service="outcomes.say", body=SaidOutcomeRequest, reply=GatedCallInfo, problems=(404, 409),
    repeat=Repeat.AGAIN)
LIST_GRANTS = Operation(
    "grants.list", "GET /v1/gate/grants", Need.READ, "List standing grants, newest first, those that are over too.",
    tag="gate", query=ListQuery, reply=Page[GrantInfo])
GET_GRANT = Operation(
    "grants.get", "GET /v1/gate/grants/{grant_id}", Need.READ, "Get a standing grant.",
    tag="gate", reply=GrantInfo, problems=(404,))
CREATE_GRANT = Operation(
    "grants.create", "POST /v1/gate/grants", Need.ANSWER,
    "Allow an agent's calls of one tool for a while: those of the same session, client and key as the call named.",
    description="`matches` narrows it by globs for arguments; null takes those of the call. An answer to the call is "
    "another operation: a grant answers none. Rules that deny come first.",
    tag="gate", body=GrantRequest, reply=GrantInfo, status=201, problems=(404, 409), repeat=Repeat.ONCE)
REVOKE_GRANT = Operation(
    "grants.revoke", "DELETE /v1/gate/grants/{grant_id}", Need.ANSWER,
    "Revoke a standing grant; the agent's next call is asked about. Revoking again changes nothing.",
    tag="gate", reply=GrantInfo, problems=(404, 409), repeat=Repeat.ONCE)
