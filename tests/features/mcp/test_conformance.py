"""The protocol's own conformance suite against `/mcp`, as far as a runtime of tasks has what a scenario asks for.

`make npm` installs it, and the Node that it needs.
"""

from __future__ import annotations

import http.client
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.programs.gate import conformance, npm
from tests.stack.live import LiveRuntime

TASKS = Path(__file__).with_name("conformance_tasks.py")

pytestmark = [
    pytest.mark.long,
    pytest.mark.allows_blocking,
    pytest.mark.timeout(180),
    npm.needs("conformance"),
]

CORE = (
    "server-stateless",
    "tools-list",
    "tools-call-simple-text",
    "tools-call-error",
    "dns-rebinding-protection",
    "caching",
    "http-header-validation",
    "input-required-result-basic-elicitation",
    "input-required-result-request-state",
    "input-required-result-multi-round",
    "input-required-result-missing-input-response",
    "input-required-result-result-type",
    "input-required-result-unsupported-methods",
    "input-required-result-tampered-state",
    "input-required-result-ignore-extra-params",
    "input-required-result-validate-input",
)
EXTENSION = (
    "tasks-lifecycle",
    "tasks-mrtr-input",
    "tasks-capability-negotiation",
    "tasks-wire-fields",
    "tasks-request-state-removal",
    "tasks-request-headers",
    "tasks-dispatch-and-envelope",
    "tasks-status-notifications",
)
DIFFERENT = {
    "sep-2575-server-rejects-undeclared-capability": "who can't be asked gets a handle",
    "sep-2575-missing-capability-http-400": "the same",
    "sep-2575-http-server-no-independent-requests-on-stream": "answers are no streams",
    "sep-2575-server-no-log-without-loglevel": "nothing is logged to clients",
    "sep-2575-server-sends-subscription-ack": "subscriptions are not served",
    "sep-2575-server-tags-subscription-id": "the same",
    "sep-2575-server-honors-notification-filter": "the same",
    "sep-2549-prompts-list-caching-hints": "prompts are not served",
    "sep-2549-resources-list-caching-hints": "resources are not served",
    "sep-2549-resources-templates-list-caching-hints": "the same",
    "sep-2663-tasks-get-status-failed": "no run ends with a protocol error",
    "tasks-mrtr-partial-fulfillment": "a run asks one thing at a time",
    "sep-2322-elicitation-incomplete": "keys are the wait's, not the fixture's user_name",
    "sep-2322-elicitation-complete": "the same",
}
"""Checks that ask for what is not served, or for a fixture that no task can be."""
FAILED = re.compile(r"\[(\S+)\s*\] FAILURE")
COLOURS = re.compile(r"\x1b\[\d*m")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the suite, which has no key, reaches a runtime."""
    live = LiveRuntime(tmp_path_factory.mktemp("conformance"), tasks=TASKS, in_process=True)
    live.start()
    place = live.credentials
    with ThreadingHTTPServer(("127.0.0.1", 0), _adds(place.key, urlsplit(place.url).netloc)) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{one.server_address[1]}/mcp"
        one.shutdown()
    live.stop()


def _adds(key: str, netloc: str) -> type[BaseHTTPRequestHandler]:
    """A proxy that adds the key, and changes nothing else."""

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the name that its base calls
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            runtime = http.client.HTTPConnection(netloc, timeout=60)
            runtime.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    runtime.putheader(name, value)
            runtime.putheader("Authorization", f"Bearer {key}")
            runtime.putheader("Content-Length", str(len(body)))
            runtime.endheaders(body)
            answer = runtime.getresponse()
            told = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)
            runtime.close()

        do_GET = do_DELETE = do_POST  # noqa: N815  # the names that its base calls

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Proxy


@pytest.mark.parametrize("scenario", [*CORE, *EXTENSION])
def test_a_scenario_passes(url: str, scenario: str) -> None:
    done = subprocess.run(
        [
            *conformance.SUITE,
            "server",
            "--url",
            url,
            "--scenario",
            scenario,
            "--spec-version",
            "2026-07-28",
            "--force",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = COLOURS.sub("", done.stdout + done.stderr)
    assert "Passed: " in said, said
    assert set(FAILED.findall(said)) <= set(DIFFERENT), said
