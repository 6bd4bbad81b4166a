"""The Model Context Protocol at `POST /mcp`: tasks are tools, what they wait for is asked of the client (S-94).

`questions` says how a wait is asked and what a response means (pure), `runs` what of the runtime one caller of MCP
reaches, `calls` what the calls of task tools answer, `tasks` the methods of the Tasks extension, `tools` the
runtime's own tools, `server` puts them together for one request. The
SDK of the extra `mcp` does the protocol; only `server` and what it imports load it.

Nothing is remembered between requests: what a client has asked for is in the ledger, or sealed in what it carries.
"""
