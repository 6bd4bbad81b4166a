"""A runtime for the test of every option, and the things in it that lines of commands name."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from helmr import auth
from helmr.client.sync import ask
from helmr.models import Page
from helmr.signing import fingerprint
from helmr.wire.operations import LIST_DELEGATIONS, LIST_LIMITS
from tests import signers
from tests.cli.lines import lines_of_features
from tests.notices.receivers import Endpoint
from tests.stack.live import LiveRuntime

WITHIN_S = 30.0
WEBHOOK_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRET = b"hlmr_key_"
"""Begins each API key."""
TASKS = Path(__file__).with_name("option_tasks.py")
RECORDED = Path(__file__).parents[1] / "examples" / "recorded"


def _holds_key(path: Path) -> bool:
    return path.suffix == ".keys" or SECRET in path.read_bytes()


class World:
    """A runtime in a process of its own, and the things in it that lines name.

    Args:
        folder: For everything.
        hook: Takes its notices.
        up: How it is started.
    """

    def __init__(self, folder: Path, hook: Endpoint, up: str) -> None:
        self.folder = folder
        self.round = "human"
        of_features = lines_of_features()
        self.makers = {name: make for one in of_features for name, make in one.names.items()}
        (folder / "own.toml").write_text(
            f"""[notices.oncall]
type = "webhook"
url = "{hook.url}"
secret_file = "{folder / "webhook.secret"}"
private_addresses = true

[limits.openai]
at_once = 8
[limits.search]
per = 5
within = "1m"
[people.ada-human]
email = "ada-human@example.com"
[people.ada-json]
email = "ada-json@example.com"
[people.bo-human]
[people.bo-json]
{"".join(one.config for one in of_features)}"""
        )
        (folder / "webhook.secret").write_text(WEBHOOK_KEY)
        (folder / "webhook.secret").chmod(0o600)
        (folder / "hook.secret").write_text("hushhush")
        config = folder / "config" / "helmr"
        config.mkdir(parents=True)
        (config / "console.toml").write_text("[profiles.nights.filters]\nlate = 'due<1h'\n")
        self.kept: dict[str, str] = {}
        self.live = LiveRuntime(
            folder, tasks=TASKS, environ={"XDG_CONFIG_HOME": str(folder / "config")}
        )
        self.live._arguments = self.words(up)[1:]
        self.live.start()
        self.client = self.live.client

    def end(self) -> None:
        """End it, and leave no key that works."""
        self.live.stop()
        data = self.live.data_dir.resolve()
        for path in self.folder.resolve().rglob("*"):
            if path.is_file() and data not in path.parents and _holds_key(path):
                path.unlink()

    def words(self, text: str) -> list[str]:
        """The words of a line, with what its names stand for."""
        names = re.compile(r"\$([A-Z_]+)")
        return [names.sub(lambda one: self.name(one[1]), part) for part in shlex.split(text)]

    def name(self, name: str) -> str:
        """What a name stands for; made once for each round, or each time if it begins with NEW_."""
        fixed = {
            "ROUND": self.round,
            "FOLDER": str(self.folder),
            "DATA_DIR": str(self.live.data_dir),
            "RING": str(self.live.data_dir / "master-keys.json"),
            "RECORDED": str(RECORDED),
        }
        if name in fixed:
            return fixed[name]
        kind = name.removeprefix("NEW_")
        if kind == name and (kept := self.kept.get(name)) is not None:
            return kept
        make = self.makers.get(kind)
        made: str = make(self) if make is not None else getattr(self, f"make_{kind.lower()}")()
        self.kept[name] = made
        return made

    # --- what names stand for -----------------------------------------------------------------

    def started(self, task: str, payload: Any = None) -> str:
        """A session that waits, or whose run has ended."""
        return self.client.sessions.start_and_wait(task, payload, timeout=WITHIN_S).id

    def run_of(self, session_id: str) -> str:
        return self.client.runs.page(session_id=session_id, limit=1).items[0].id

    def wait_of(self, session_id: str) -> str:
        wait = self.client.sessions.open(session_id).get().wait
        assert wait is not None
        return wait.id

    def make_asking(self) -> str:
        return self.started("ask", {})

    def make_asking_run(self) -> str:
        return self.run_of(self.make_asking())

    def make_wait(self) -> str:
        return self.wait_of(self.make_asking())

    def _done(self) -> tuple[str, str]:
        session_id = self.make_asking()
        wait_id = self.wait_of(session_id)
        self.client.waits.answer(wait_id, {"decision": "approve"})
        run_id = self.run_of(session_id)
        self.client.runs.wait(run_id, timeout=WITHIN_S)
        return session_id, wait_id

    def make_done(self) -> str:
        """A session that was answered; its wait and run are the names beside it."""
        session_id = self.make_asking()
        self.kept["DONE_WAIT"] = self.wait_of(session_id)
        self.kept["DONE_RUN"] = self.run_of(session_id)
        self.client.waits.answer(self.kept["DONE_WAIT"], {"decision": "approve"})
        self.client.runs.wait(self.kept["DONE_RUN"], timeout=WITHIN_S)
        return session_id

    def make_done_wait(self) -> str:
        self.make_done()
        return self.kept["DONE_WAIT"]

    def make_done_run(self) -> str:
        self.make_done()
        return self.kept["DONE_RUN"]

    def make_failed(self) -> str:
        return self.started("fail", "no luck")

    def make_failed_run(self) -> str:
        return self.run_of(self.make_failed())

    def make_chat(self) -> str:
        return self.started("chat")

    def make_parent(self) -> str:
        return self.started("parent")

    def make_cancelled(self) -> str:
        session_id = self.make_asking()
        self.client.sessions.open(session_id).cancel()
        return session_id

    def make_talking(self) -> str:
        return self.client.sessions.start("talk", str(self.folder / "stop")).id

    def make_token(self) -> str:
        return self.client.tokens.create(subject="Release?").id

    def make_public_token(self) -> str:
        return self.client.auth.create_public_token(scope=auth.complete(self.make_token())).id

    def make_key(self) -> str:
        return self.client.keys.create(role="viewer", name="of a test").id

    def make_link(self) -> str:
        return self.client.waits.link(self.name("WAIT"), person="ada").id

    def make_seen(self) -> str:
        """A file that names a wait, as --preview --json does."""
        path = self.folder / "seen.jsonl"
        path.write_text(json.dumps({"wait_id": self.make_wait()}) + "\n")
        return str(path)

    def make_signing_key(self) -> str:
        """The file of a public key."""
        path = self.folder / "signing.pub"
        path.write_text(signers.fresh_public() + "\n")
        return str(path)

    def make_fingerprint(self) -> str:
        """Of that key."""
        return fingerprint((self.folder / "signing.pub").read_text())

    def make_signers(self) -> str:
        """An allowed-signers file."""
        path = self.folder / "allowed_signers"
        path.write_text(f"ada {signers.fresh_public()}\n")
        return str(path)

    def make_sheet(self) -> str:
        """A table of answers."""
        path = self.folder / "sheet.csv"
        path.write_text(f"wait,decision\n{self.make_wait()},approve\n")
        return str(path)

    def make_url(self) -> str:
        return self.live.credentials.url

    def make_key_file(self) -> str:
        path = self.folder / "key"
        path.write_text(self.live.credentials.key or "")
        return str(path)

    def make_public_keys(self) -> str:
        path = self.folder / "keys.txt"
        path.write_text("".join(f"{one.key}\n" for one in self.client.keys.public().items))
        return str(path)

    def make_sessions_cursor(self) -> str:
        return self.cursor(self.client.sessions.page(limit=1))

    def make_runs_cursor(self) -> str:
        return self.cursor(self.client.runs.page(limit=1))

    def make_waits_cursor(self) -> str:
        return self.cursor(self.client.waits.page(limit=1))

    def make_tokens_cursor(self) -> str:
        return self.cursor(self.client.tokens.page(limit=1))

    def make_public_tokens_cursor(self) -> str:
        return self.cursor(self.client.auth.page(limit=1))

    def make_limits_cursor(self) -> str:
        return self.cursor(ask(self.client, LIST_LIMITS, query={"limit": 1}))

    def make_people_cursor(self) -> str:
        return self.cursor(self.client.people.page(limit=1))

    def make_delegation(self) -> str:
        person, deputy = f"ada-{self.round}", f"bo-{self.round}"
        until = datetime.now(UTC) + timedelta(days=1)
        made = self.client.people.delegate(person, deputy=deputy, ends_at=until, reason="ill")
        return made.id

    def make_delegations_cursor(self) -> str:
        for _ in range(2):
            self.make_delegation()
        return self.cursor(ask(self.client, LIST_DELEGATIONS, query={"limit": 1}))

    def make_keys_cursor(self) -> str:
        return self.cursor(self.client.keys.page(limit=1))

    def cursor(self, page: Page[Any]) -> str:
        assert page.next_cursor is not None
        return page.next_cursor

    def begin(self, kind: str) -> None:
        """The round of lines as they are, or with --json: with things of its own."""
        self.round = kind
        self.kept.clear()
        for task in ("chat", "chat"):
            self.started(task)
        for _ in range(2):
            self.make_token()
            self.make_public_token()
            self.make_key()

    @property
    def environ(self) -> dict[str, str]:
        """What a person's shell has."""
        return {
            "HELMR_URL": self.live.credentials.url,
            "HELMR_API_KEY": self.live.credentials.key or "",
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "CLAUDE_CONFIG_DIR": str(self.folder / "claude"),
        }
