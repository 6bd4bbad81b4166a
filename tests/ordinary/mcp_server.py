"""A small MCP server over stdio, started by a step."""

from mcp.server import MCPServer

server = MCPServer("numbers")


@server.tool()
def add(a: int, b: int) -> str:
    """The sum."""
    return str(a + b)


if __name__ == "__main__":
    server.run("stdio")
