"""What a raylet is told to start in place of Ray's agents, and that it ends with the raylet."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from helmr_runtime.process import ray_agents
from helmr_runtime.process.ray_agents import DASHBOARD, ENVIRONMENTS, commanded
from tests.stack.live import until

HOST = "127.0.0.1"
RAYLET = [
    "raylet",
    DASHBOARD + "python -u dashboard/agent.py --node-id=7",
    "--head",
    ENVIRONMENTS + "python -u main.py --node-id=7",
]
ENDS_S = 20


def begun(*arguments: str) -> subprocess.Popen[bytes]:
    """The script as a raylet runs it: the raylet's end is that of standard input."""
    script = [sys.executable, "-I", "-S", ray_agents.__file__]
    return subprocess.Popen([*script, *arguments], stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_raylet_is_told_ours_and_everything_else_as_before() -> None:
    told = commanded(RAYLET, port_file="/a folder/port", host=HOST)
    assert told[:2] == ["raylet", "--head"]
    idle, environments = told[2:]
    script = f"{sys.executable} -I -S {ray_agents.__file__}"
    assert idle == f"{DASHBOARD}{script} idle"
    assert shlex.split(environments) == [
        *shlex.split(f"{ENVIRONMENTS}{script} until-asked"),
        "/a folder/port",
        HOST,
        *shlex.split("python -u main.py --node-id=7"),
    ]


@pytest.mark.parametrize("missing", [1, 3])
def test_a_ray_that_starts_its_agents_in_another_way_is_not_started(missing: int) -> None:
    raylet = [one for at, one in enumerate(RAYLET) if at != missing]
    with pytest.raises(ValueError, match="does not tell its raylet"):
        commanded(raylet, port_file="port", host=HOST)


def test_the_idle_one_ends_with_the_raylet() -> None:
    one = begun("idle", "--what-the-raylet-adds")
    with pytest.raises(subprocess.TimeoutExpired):
        one.wait(0.5)
    one.communicate(timeout=ENDS_S)
    assert one.returncode == 0


def test_the_other_holds_its_port_ends_with_the_raylet_and_is_the_agent_for_whoever_calls(
    tmp_path: Path,
) -> None:
    """The caller is answered: it had called before the agent was there."""
    agent = tmp_path / "main.py"
    agent.write_text(
        "import sys\n"
        "from aiohttp import web\n"
        "import beside\n"
        "import socket\n"
        "web.run_app(sys.argv[1:], sock=socket.socket())\n"
    )
    (tmp_path / "beside.py").touch()
    aiohttp = tmp_path / "thirdparty_files" / "aiohttp"
    aiohttp.mkdir(parents=True)
    (aiohttp / "__init__.py").touch()
    (aiohttp / "web.py").write_text(
        "def run_app(told, sock):\n"
        "    caller, _ = sock.accept()\n"
        "    caller.sendall(repr(told).encode())\n"
    )
    port_file = tmp_path / "port"
    told = ("until-asked", str(port_file), HOST, sys.executable, "-u", str(agent), "--a=b")

    def held() -> int:
        until(port_file.exists, within_s=ENDS_S, what="the port")
        return int(port_file.read_text())

    with begun(*told) as never_asked:
        assert held() > 0
        assert never_asked.stdin is not None
        never_asked.stdin.close()
        assert never_asked.wait(ENDS_S) == 0
    port_file.unlink()
    with begun(*told) as asked:
        with socket.create_connection((HOST, held()), ENDS_S) as caller:
            assert caller.recv(100) == b"['--a=b']"
        assert asked.wait(ENDS_S) == 0


def test_who_types_it_is_told() -> None:
    one = begun()
    _, said = one.communicate(timeout=ENDS_S)
    assert one.returncode == 1
    assert b"not started by a raylet" in said
