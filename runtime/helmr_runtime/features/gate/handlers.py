"""Handlers of the calls that an agent waits for: it may leave before they are decided."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from helmr.errors import BadRequest
from helmr.gate.claude_code import HookMode, Mode
from helmr.models import GatedCallRequest, GateQuery
from helmr.wire import jsonio
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.http.served_operation import Handler, json_response


async def gate_claude_code(exchange: Exchange, query: GateQuery) -> Response:
    """Return the decision about an agent's call; gives up if the client disconnects meanwhile."""
    event = jsonio.loads(await exchange.raw())
    if not isinstance(event, dict):
        raise BadRequest("the event is not an object", hint="Post what the client gives its hook.")
    gate, caller = exchange.service.part("gate"), exchange.caller()
    if query.mode == HookMode.RULES:
        said = await gate.rules_hook(caller, event, has=query.rules, client=query.client)
        return JSONResponse(said)
    mode = Mode(query.mode)
    asking = gate.hook(caller, event, mode, query.timeout_s, run=query.run, client=query.client)
    return JSONResponse(await exchange.while_connected(asking))


async def ask_gated_call(exchange: Exchange, body: GatedCallRequest) -> Response:
    """Return the decision about a call without an id; a client that disconnects meanwhile takes no approval."""
    asking = exchange.service.part("gate").ask(exchange.caller(), body)
    return json_response(await exchange.while_connected(asking))


HANDLERS: dict[str, Handler] = {
    handler.__name__: handler for handler in (gate_claude_code, ask_gated_call)
}
"""Handlers by the name of their operation."""
