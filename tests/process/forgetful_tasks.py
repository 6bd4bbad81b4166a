"""Tasks whose author forgot `@step`: each touches the world in another form, then waits for a person."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import os
import shutil
import smtplib
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import urllib3

from helmr import Task, step, streams, task

ok = streams.input("ok", schema=bool)

World = dict[str, str]
"""Where to write, and what to connect to: folder, url, mail (a port), device, datagrams (a port)."""

made_at_import = urllib3.PoolManager()
kept_at_import = httpx.Client()


def forgotten(form: Callable[[World], Any]) -> Task[..., Any]:
    """A task that does this before it waits."""

    async def body(payload: World) -> bool:
        done = form(payload)
        if inspect.isawaitable(done):
            await done
        return await ok.wait().unwrap()

    return task(id=form.__name__.replace("_", "-"))(body)


@forgotten
def a_file(world: World) -> None:
    with Path(world["folder"], "paid.txt").open("a") as file:
        file.write("paid\n")


@forgotten
def a_file_in_pieces(world: World) -> None:
    number = os.open(Path(world["folder"], "raw.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(number, b"paid\n")
    os.close(number)


@forgotten
def a_file_of_a_library(world: World) -> None:
    shutil.copyfile(__file__, Path(world["folder"], "copy.txt"))


@forgotten
def a_removed_file(world: World) -> None:
    path = Path(world["folder"], "copy.txt")
    path.unlink(missing_ok=True)


@forgotten
def an_http_client(world: World) -> None:
    urllib.request.urlopen(world["url"], data=b"pay").read()


@forgotten
async def an_async_http_client(world: World) -> None:
    async with httpx.AsyncClient() as client:
        (await client.post(world["url"])).raise_for_status()


@forgotten
def a_client_as_boto_has_it(world: World) -> None:
    with urllib3.PoolManager(retries=False) as pool:
        pool.request("POST", world["url"], body=b"pay")


@forgotten
def a_client_made_at_import(world: World) -> None:
    made_at_import.request("POST", world["url"], body=b"pay")


@forgotten
def a_subprocess(world: World) -> None:
    subprocess.run(["true"], check=True)


@forgotten
async def an_async_subprocess(world: World) -> None:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()


@forgotten
def a_shell_command(world: World) -> None:
    os.system("true")


@forgotten
def a_database(world: World) -> None:
    with sqlite3.connect(Path(world["folder"], "ledger.sqlite")) as database:
        database.execute("create table if not exists paid (n)")
        database.execute("insert into paid values (1)")
    database.close()


@forgotten
def a_mail(world: World) -> None:
    with smtplib.SMTP("127.0.0.1", int(world["mail"])) as server:
        server.sendmail("a@example.com", ["b@example.com"], "Subject: paid\n\n")


@forgotten
def a_datagram(world: World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"paid", ("127.0.0.1", int(world["datagrams"])))


@forgotten
def a_device(world: World) -> None:
    with Path(world["device"]).open("wb", buffering=0) as device:
        device.write(b"paid\n")


@forgotten
def a_thread(world: World) -> None:
    thread = threading.Thread(target=write, args=(Path(world["folder"], "thread.txt"),))
    thread.start()
    thread.join()


@forgotten
async def a_thread_of_asyncio(world: World) -> None:
    await asyncio.to_thread(Path(world["folder"], "asyncio.txt").write_text, "paid\n")


@forgotten
async def an_executor(world: World) -> None:
    path = Path(world["folder"], "executor.txt")
    await asyncio.get_running_loop().run_in_executor(None, path.write_text, "paid\n")


@forgotten
async def a_task_of_its_own(world: World) -> None:
    await asyncio.create_task(later(Path(world["folder"], "later.txt")))


def write(path: Path) -> None:
    with path.open("a") as file:
        file.write("paid\n")


async def later(path: Path) -> None:
    await asyncio.sleep(0)
    write(path)


FORMS = sorted(one.id for one in vars().copy().values() if isinstance(one, Task))
"""The ids of all of them."""


@task(id="by-the-client-that-was-open")
async def by_the_client_that_was_open(payload: World) -> bool:
    """Asks over a connection that was there before; only a socket's own methods show that."""
    by_what_was_open(payload)
    return await ok.wait().unwrap()


def by_what_was_open(world: World) -> None:
    kept_at_import.post(world["url"])


@step
async def in_a_step(world: World) -> None:
    write(Path(world["folder"], "step.txt"))
    async with httpx.AsyncClient() as client:
        await client.post(world["url"])
    thread = threading.Thread(target=write, args=(Path(world["folder"], "step.txt"),))
    thread.start()
    thread.join()
    await asyncio.to_thread(write, Path(world["folder"], "step.txt"))


@step
def in_a_sync_step(world: World) -> None:
    write(Path(world["folder"], "step.txt"))
    subprocess.run(["true"], check=True)
    sqlite3.connect(Path(world["folder"], "step.sqlite")).close()


@step(loop="run")
async def in_a_step_of_its_loop(world: World) -> None:
    ask(world)


def ask(world: World) -> None:
    urllib.request.urlopen(world["url"], data=b"pay").read()


@task(id="careful")
async def careful(payload: World) -> bool:
    """Does all of it in steps, and outside of them what touches nothing."""
    await in_a_step(payload)
    await in_a_sync_step(payload)
    await in_a_step_of_its_loop(payload)
    touch_nothing()
    await asyncio.to_thread(Path(__file__).read_bytes)
    log_to(Path(payload["folder"], "task.log"))
    import_from(payload["folder"])
    return await ok.wait().unwrap()


def touch_nothing() -> None:
    """Read, and write where no one else looks."""
    Path(__file__).read_text(encoding="utf-8")
    sqlite3.connect(":memory:").close()
    with tempfile.TemporaryFile() as scratch:
        scratch.write(b"x")
    with Path(os.devnull).open("w") as nothing:
        nothing.write("x")


def log_to(path: Path) -> None:
    """A log file that opens with its first line."""
    handler = logging.FileHandler(path, delay=True)
    handler.emit(logging.makeLogRecord({"msg": "said"}))
    handler.close()


def import_from(folder: str) -> None:
    """A module that writes a cache when it is imported, as libraries do; Python writes its bytecode too."""
    sys.path.insert(0, folder)
    try:
        importlib.invalidate_caches()
        importlib.import_module("caching_module")
        sys.modules.pop("caching_module")
    finally:
        sys.path.remove(folder)
