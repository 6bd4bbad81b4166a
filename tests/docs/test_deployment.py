"""The files of docs/deployment.md: read by the tools that they are for, and their commands run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from helmr_runtime.launchers.runtime import READY, STOPPING, SUPERSEDED
from helmr_runtime.process.spec import RING_NAME
from tests.docs import command_lines
from tests.process.test_in_process import TASKS
from tests.stack.live import until

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "deployment"
UNITS = sorted(FOLDER.glob("*.service"))
PAIR = FOLDER / "pair.conf"
COMPOSE = ("compose.yaml", "compose.pair.yaml")
PROGRAM, STATE = "/opt/helmr/bin/helmr", "/var/lib/helmr"
EXPOSURE_MAX = 2.0
START_S = 120.0

pytestmark = pytest.mark.allows_blocking
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
with_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def settings(unit: Path) -> dict[str, list[str]]:
    """What a unit says, by name."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text("utf-8"), flags=re.M):
        found.setdefault(name, []).append(value)
    return found


def words_of(unit: Path) -> list[str]:
    """The `helmr` command of a unit or drop-in, as systemd starts it: the last one, behind an empty one."""
    *_, line = settings(unit)["ExecStart"]
    words = shlex.split(line)
    if words[:2] == ["/bin/sh", "-c"]:
        words = shlex.split(words[2].removeprefix("exec "))
    assert words[0] == PROGRAM
    return words


# --- units ----------------------------------------------------------------------------------------


def put_for_this_machine(source: Path, target: Path) -> None:
    """A unit that systemd can look at where neither program nor user is installed."""
    text = source.read_text("utf-8").replace(PROGRAM, "/bin/true")
    target.write_text(re.sub(r"^(User|Group)=.*", r"\1=root", text, flags=re.M))


def verify(*units: Path) -> tuple[int, str]:
    """What systemd says of them."""
    command = ["systemd-analyze", "verify", *sorted(map(str, units))]
    said = subprocess.run(command, capture_output=True, text=True)
    return said.returncode, said.stderr


@with_systemd
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for path in FOLDER.glob("helmr*.*"):
        put_for_this_machine(path, tmp_path / path.name)
    units = list(tmp_path.iterdir())
    assert verify(*units) == (0, "")
    assert len(units) == 3


@with_systemd
def test_systemd_finds_nothing_wrong_with_the_unit_of_a_pair(tmp_path: Path) -> None:
    unit, folder = tmp_path / "helmr.service", tmp_path / "helmr.service.d"
    folder.mkdir()
    put_for_this_machine(FOLDER / unit.name, unit)
    put_for_this_machine(PAIR, folder / PAIR.name)
    assert verify(unit) == (0, "")
    # It has read the drop-in: one that is wrong is found.
    (folder / PAIR.name).write_text("[Service]\nNoSuchSetting=yes\n")
    assert "NoSuchSetting" in verify(unit)[1]


def test_a_runtime_of_a_pair_comes_back_whatever_ended_it_but_what_no_restart_mends() -> None:
    command_lines.read(["helmr", *words_of(PAIR)[1:]])
    assert settings(PAIR)["Restart"] == ["always"]
    (prevented,) = settings(FOLDER / "helmr.service")["RestartPreventExitStatus"]
    assert str(SUPERSEDED) not in prevented.split()
    assert words_of(PAIR)[: len(words_of(FOLDER / "helmr.service"))] == words_of(
        FOLDER / "helmr.service"
    )


@with_systemd
@each_unit
def test_a_unit_may_do_little(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert exposure is not None
    assert float(exposure[1]) <= EXPOSURE_MAX


@each_unit
def test_a_units_command_is_one_of_ours(unit: Path) -> None:
    command_lines.read(["helmr", *words_of(unit)[1:]])


def test_the_sizes_are_those_of_the_page() -> None:
    said = (ROOT / "docs" / "operations.md").read_text("utf-8")
    unit = settings(FOLDER / "helmr.service")
    for name in ("TasksMax", "LimitNOFILE"):
        assert f"`{name}={unit[name][0]}`" in said


class Manager:
    """What listens at $NOTIFY_SOCKET, as systemd does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(START_S)

    def next(self) -> str:
        return self._socket.recv(1024).decode()

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True)
class Machine:
    """Where units of the page are run as if they were installed: their paths are below a folder."""

    folder: Path

    def words(self, unit: str, replaced: Mapping[str, str]) -> list[str]:
        made = words_of(FOLDER / unit)[1:]
        for before, behind in {STATE: str(self.folder / "state"), **replaced}.items():
            made = [word.replace(before, behind) for word in made]
        return [sys.executable, "-m", "helmr.cli", *made]

    def environ(self, unit: str, **more: str) -> dict[str, str]:
        said = " ".join(settings(FOLDER / unit).get("Environment", ())).replace(
            STATE, str(self.folder / "state")
        )
        own = dict(one.split("=", 1) for one in said.split())
        return {**os.environ, **own, **more}

    @contextmanager
    def running(
        self, unit: str, replaced: Mapping[str, str], *more: str, **environ: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The unit's command in the background; killed at the end if it still runs."""
        command = [*self.words(unit, replaced), *more]
        with (self.folder / f"{unit}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environ(unit, **environ),
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def installed(folder: Path) -> Machine:
    """One with the tasks and an empty data directory."""
    (folder / "state" / "backups").mkdir(parents=True)
    (folder / "state" / "data").mkdir(mode=0o700)
    (folder / "helmr.toml").write_text("")
    shutil.copy(TASKS, folder / "app_tasks.py")
    return Machine(folder)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return installed(tmp_path)


@pytest.mark.long  # tests/process/test_service_manager.py
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "form",
    [
        pytest.param("--in-process"),
        pytest.param("--hosts=1", id="ray", marks=[pytest.mark.ray, pytest.mark.long]),
    ],
)
def test_the_units_commands_run_and_end_as_systemd_asks_them_to(
    machine: Machine, form: str
) -> None:
    """Start, ready, a backup beside it; and SIGTERM to the main process alone."""
    data_dir = machine.folder / "state" / "data"
    manager = Manager(machine.folder / "notify")
    app = {"app.tasks": "app_tasks.py", "/etc/helmr/": f"{machine.folder}/"}
    with machine.running(
        "helmr.service", app, "--port=0", form, NOTIFY_SOCKET=str(manager.path)
    ) as runtime:
        assert manager.next() == READY
        credentials = json.loads((data_dir / "credentials.json").read_text())
        with urllib.request.urlopen(credentials["url"] + "/readyz", timeout=10) as answer:
            assert answer.status == 200
        backup = machine.words("helmr-backup.service", {"$$(date +%%a)": "Mon"})
        environ = machine.environ("helmr-backup.service")
        subprocess.run(backup, env=environ, check=True, capture_output=True, timeout=60)
        assert (machine.folder / "state" / "backups" / "Mon.backup").stat().st_size > 0
        runtime.send_signal(signal.SIGTERM)
        assert manager.next() == STOPPING
        assert runtime.wait(float(settings(FOLDER / "helmr.service")["TimeoutStopSec"][0])) == 0
    assert not (data_dir / "credentials.json").exists()
    manager.close()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_standby_of_a_pair_has_started_for_systemd_and_takes_over_at_a_stop(
    tmp_path: Path,
) -> None:
    managers = [Manager(tmp_path / name) for name in ("notify-1", "notify-2")]
    machines = [installed(tmp_path / name) for name in ("one", "two")]

    def run(number: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
        machine, place = machines[number], str(managers[number].path)
        replaced = {
            "app.tasks": "app_tasks.py",
            "/etc/helmr/": f"{machine.folder}/",
            "s3://my-bucket/helmr": f"file://{tmp_path}/store",
        }
        state = str(machine.folder / "state")
        form = ("--port=0", "--in-process")
        return machine.running(
            PAIR.name, replaced, *form, NOTIFY_SOCKET=place, XDG_STATE_HOME=state, HOME=state
        )

    data_dirs = [one.folder / "state" / "data" for one in machines]
    with run(0) as first:
        assert managers[0].next() == READY
        shutil.copy(data_dirs[0] / RING_NAME, data_dirs[1] / RING_NAME)
        with run(1) as second:
            assert managers[1].next() == READY
            assert not is_ready(data_dirs[1])
            first.send_signal(signal.SIGTERM)
            assert managers[0].next() == STOPPING
            assert managers[1].next() == READY
            assert is_ready(data_dirs[1])
            assert first.wait(15) == 0
            second.send_signal(signal.SIGTERM)
            assert second.wait(15) == 0
    for manager in managers:
        manager.close()


def is_ready(data_dir: Path) -> bool:
    url = json.loads((data_dir / "credentials.json").read_text())["url"] + "/readyz"
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except urllib.error.HTTPError:
        return False


# --- the image ------------------------------------------------------------------------------------


def dockerfile() -> list[tuple[str, str]]:
    """Its instructions, in order."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.M)
    lines = text.replace("\\\n", " ").splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]  # type: ignore[misc]


def last_stage() -> list[tuple[str, str]]:
    instructions = dockerfile()
    begin = max(place for place, (name, _) in enumerate(instructions) if name == "FROM")
    return instructions[begin:]


def test_the_image_runs_as_somebody_else_and_builds_nothing_there() -> None:
    stage = dict(last_stage())
    assert stage["USER"] == "10001"
    assert not re.search(r"\b(apt-get|pip|gcc|git)\b", stage["RUN"])
    assert stage["VOLUME"] == STATE
    assert f"--owner=helmr --group=helmr {STATE}" in stage["RUN"]
    assert "--mode=0700" in stage["RUN"]


def test_the_image_starts_helmr_itself_which_gets_its_signals() -> None:
    stage = dict(last_stage())
    assert stage["STOPSIGNAL"] == "SIGTERM"
    command = json.loads(stage["ENTRYPOINT"]) + json.loads(stage["CMD"])  # no shell between
    command_lines.read(command)


def test_what_the_image_is_built_of_is_there_and_let_through() -> None:
    """`.dockerignore` lets nothing else through: no secrets, no data directory."""
    sources = [
        source
        for name, rest in dockerfile()
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    let = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    assert set(sources) == let
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.extras
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_the_steps_of_the_image_make_a_runtime_that_ends_as_the_first_process(
    tmp_path: Path,
) -> None:
    """What its build runs, in folders of this machine; then its command, health check and stop signal."""
    source, prefix = tmp_path / "src", tmp_path / "opt"
    source.mkdir()
    for name, rest in dockerfile():
        if name == "COPY" and "--from" not in rest:
            *names, _ = rest.split()
            for one in names:
                path = ROOT / one
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, source / one)
    (build,) = [rest for name, rest in dockerfile() if name == "RUN" and "venv" in rest]
    build = build.replace("/opt/helmr", str(prefix)).replace("python -m venv", "true")
    venv.create(prefix, with_pip=True)
    subprocess.run(["/bin/sh", "-ec", build], cwd=source, check=True, timeout=900)
    app = tmp_path / "app"
    app.mkdir()
    shutil.copy(TASKS, app / "tasks.py")
    (app / "pyproject.toml").write_text('[tool.helmr]\ntasks = ["tasks.py"]\n')
    (tmp_path / "data").mkdir(mode=0o700)
    stage = dict(last_stage())
    port = free_port()
    command = [str(prefix / "bin" / "helmr"), *json.loads(stage["CMD"]), f"--port={port}"]
    command = [word.replace(STATE, str(tmp_path / "data")) for word in command]
    can_unshare = os.geteuid() == 0 and shutil.which("unshare") is not None
    first = ["unshare", "--pid", "--fork", "--mount-proc"] if can_unshare else []
    process = subprocess.Popen(
        [*first, *command],
        cwd=app,
        env={**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")},
    )
    check = json.loads(stage["HEALTHCHECK"].split("CMD", 1)[1].replace("4356", str(port)))
    check[0] = str(prefix / "bin" / "python")
    try:
        until(lambda: subprocess.run(check).returncode == 0, within_s=START_S, what="healthy")
        os.kill(first_process(process.pid) if first else process.pid, signal.SIGTERM)
        assert process.wait(45) == 0
    finally:
        if process.poll() is None:
            process.kill()
    assert subprocess.run(check).returncode != 0


def first_process(pid: int) -> int:
    """The one process that `unshare` has forked."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


# --- compose --------------------------------------------------------------------------------------


def read_compose(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / name).read_text("utf-8"))
    return loaded


@pytest.fixture
def compose(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One of the files: compose.yaml, if a test names none."""
    return read_compose(getattr(request, "param", COMPOSE[0]))


each_compose = pytest.mark.parametrize("compose", COMPOSE, indirect=True)


@each_compose
def test_the_services_commands_are_ours(compose: dict[str, Any]) -> None:
    ours = [one for one in compose["services"].values() if one["image"] == "helmr"]
    assert ours
    for one in ours:
        command_lines.read(["helmr", *one["command"]])
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]


def test_the_runtimes_of_a_pair_differ_in_their_volume_and_port_alone() -> None:
    services = read_compose("compose.pair.yaml")["services"]
    one, two = services["one"], services["two"]
    assert {name for name in one if one[name] != two[name]} == {"volumes", "ports"}
    assert one["restart"] == "always"
    said = " ".join(one["command"])
    assert f"@store/{services['store']['environment']['POSTGRES_USER']}" in said


@each_compose
def test_what_the_services_name_is_there(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert set(service.get("secrets", ())) <= compose["secrets"].keys(), name
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).is_file(), source
            elif not source.startswith("$"):
                assert source in compose["volumes"], source
    assert all("file" in one for one in compose["secrets"].values()), "none in the environment"


@each_compose
def test_nothing_is_open_to_other_machines(compose: dict[str, Any]) -> None:
    ports = [port for one in compose["services"].values() for port in one.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_prometheus_is_told_of_the_rules_and_of_the_key(compose: dict[str, Any]) -> None:
    made = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    job = made["scrape_configs"][0]
    assert job["job_name"] == "helmr"  # as the rules have it
    (secret,) = compose["services"]["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    mounted = " ".join(compose["services"]["prometheus"]["volumes"])
    assert all(f"/etc/prometheus/{name}" in mounted for name in made["rule_files"])
