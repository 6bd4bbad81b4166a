"""What Ray's raylet starts here in place of its two agents, which import Ray and then do nothing.

The dashboard agent is for a dashboard, and there is none; the raylet only wants a process that lives as long as it does
(`idle`). The agent for runtime environments is asked by the raylet when a remote function of a task's step wants one,
as no part of a runtime does (`until-asked`): its port is held, and whoever calls there first makes this the agent,
which answers that call (`serve`).

    ray_agents.py idle …
    ray_agents.py until-asked PORT_FILE HOST PYTHON -u AGENT ARGUMENTS…
    ray_agents.py serve DESCRIPTOR AGENT ARGUMENTS…

The raylet runs this as a file, without the site's packages; so it imports little, and nothing of ours.
"""

from __future__ import annotations

import importlib
import os
import runpy
import select
import socket
import subprocess
import sys
from typing import Any

DASHBOARD = "--dashboard_agent_command="
ENVIRONMENTS = "--runtime_env_agent_command="


def commanded(raylet: list[str], *, port_file: str, host: str) -> list[str]:
    """A raylet's command with these in place of Ray's agents.

    Args:
        raylet: Ray's.
        port_file: Where the raylet looks for the port of the agent for environments.
        host: Where that listens.

    Raises:
        ValueError: Ray starts its agents in another way than the one that this knows.
    """
    agents = [one for one in raylet if one.startswith((DASHBOARD, ENVIRONMENTS))]
    if len(agents) != len((DASHBOARD, ENVIRONMENTS)):
        raise ValueError("this Ray does not tell its raylet how to start two agents")
    quiet = [sys.executable, "-I", "-S", __file__]
    idle = subprocess.list2cmdline([*quiet, "idle"])
    until_asked = subprocess.list2cmdline([*quiet, "until-asked", port_file, host])
    _, environments = sorted(agents)
    return [
        *(one for one in raylet if one not in agents),
        DASHBOARD + idle,
        environments.replace(ENVIRONMENTS, f"{ENVIRONMENTS}{until_asked} ", 1),
    ]


def until_asked(port_file: str, host: str, agent: list[str]) -> None:
    """Hold a port until somebody calls, then become the agent; returns when the raylet has ended.

    Args:
        port_file: Where the port is written.
        host: Where to listen.
        agent: The agent's command: Python, its option, the file, what it is told.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:
        fresh = f"{port_file}.fresh"
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(str(listening.getsockname()[1]))
        os.rename(fresh, port_file)
        ready, _, _ = select.select([sys.stdin, listening], [], [])
        if sys.stdin in ready:  # the raylet writes nothing: its end is the pipe's
            return
        listening.set_inheritable(True)
        python, option, *told = agent
        os.execv(python, [python, option, __file__, "serve", str(listening.fileno()), *told])


def serve(descriptor: int, agent: str, arguments: list[str]) -> None:
    """Be the agent, at a socket that listens already; returns at its end."""
    folder = os.path.dirname(agent)
    sys.path[:1] = [os.path.join(folder, "thirdparty_files"), folder]
    web: Any = importlib.import_module("aiohttp.web")  # Ray's own copy
    run_app = web.run_app

    def at_ours(app: Any, *, sock: socket.socket, **more: Any) -> None:
        sock.close()
        run_app(app, sock=socket.socket(fileno=descriptor), **more)

    web.run_app = at_ours
    sys.argv = [agent, *arguments]
    runpy.run_path(agent, run_name="__main__")


def main(arguments: list[str]) -> None:
    """Does not return before the raylet's end."""
    match arguments:
        case ["idle", *_]:  # the raylet adds an option to what it is told
            sys.stdin.read()
        case ["until-asked", port_file, host, *agent]:
            until_asked(port_file, host, agent)
        case ["serve", descriptor, agent, *told]:
            serve(int(descriptor), agent, told)
        case _:
            raise SystemExit(f"{__file__}: not started by a raylet")


if __name__ == "__main__":
    main(sys.argv[1:])
