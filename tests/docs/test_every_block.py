"""Every block of every page is executed, or read by what it is written for; what is not stands here with the reason."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.docs import command_lines, test_python_blocks

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ELSEWHERE = ("decisions", "upstream", "notebooks")
"""Records of their time, and what `make notebooks` has executed and rendered."""

PAGES = {
    str(path.relative_to(DOCS).with_suffix("")) if path.is_relative_to(DOCS) else path.stem: path
    for path in (
        ROOT / "README.md",
        ROOT / "ARCHITECTURE.md",
        ROOT / "CONTRIBUTING.md",
        *sorted(DOCS.rglob("*.md")),
    )
    if path.relative_to(ROOT).parts[1:2] not in [(one,) for one in ELSEWHERE]
}
FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```$", flags=re.M | re.S)
FILE = re.compile(r"# \w+\.py\n")

FILES = {
    "README": "docs/test_tours.py",
    "tutorial": "docs/test_tours.py",
    "email": "docs/test_howto_pages.py",
    "github": "docs/test_howto_pages.py",
    "slack": "docs/test_howto_pages.py",
    "fastapi": "integrations/test_fastapi.py",
    "auditors": "cli/test_signing.py",
    "other-frameworks": "extras/test_other_frameworks.py",
    "cookbook/coding-agent": "docs/test_cookbook.py",
    "cookbook/digest": "docs/test_cookbook.py",
    "cookbook/expenses": "docs/test_cookbook.py",
    "cookbook/incident": "docs/test_cookbook.py",
    "cookbook/invoices": "docs/test_cookbook.py",
    "cookbook/newsletter": "docs/test_cookbook.py",
    "cookbook/release": "docs/test_cookbook.py",
    "cookbook/signature": "docs/test_cookbook.py",
    "cookbook/research": "docs/test_cookbook.py",
    "cookbook/support-chat": "docs/test_cookbook.py",
}
"""Pages whose Python blocks are files, and the test that executes them."""

READ_BY = {
    "": "the command line below; what a program prints",
    "sh": "docs/test_tours.py",
    "console": "the command line below; what a program prints",
    "text": "docs/test_tours.py",
    "html": "docs/test_streaming_page.py",
    "sql": "docs/test_sql_page.py",
    "toml": "docs/test_toml_blocks.py",
    "yaml": "docs/test_monitoring.py",
    "ts": "client/test_typescript.py",
}

NOT_EXECUTED = {
    (
        "comparison",
        "python",
        5,
    ): "programs of other systems; test_site holds them to the files that make bench runs",
    (
        "langgraph",
        "py",
        1,
    ): "LangChain can't be installed beside LangGraph 1.0: tests/extras runs such an agent",
    (
        "streaming",
        "py",
        2,
    ): "excerpts of helmr.examples.chat and of the page's server, which its test runs whole",
    (
        "your-agent",
        "py",
        4,
    ): "programs that each are a module: tests/docs/test_your_agent runs them",
    ("README", "py", 1): "the plain one of these",
    ("http", "js", 1): "an excerpt of a page; tests/http sends the same request from its origin",
    ("fastapi", "js", 1): "executed in a browser by tests/integrations/test_fastapi.py",
    ("gate-mcp", "json", 1): "the settings file of another program",
    ("mcp", "json", 1): "the settings file of another program",
    ("monitoring", "json", 1): "a line of a log",
}


def blocks(page: str) -> list[tuple[str, str]]:
    return FENCE.findall(PAGES[page].read_text(encoding="utf-8"))


def test_every_block_has_something_that_reads_it() -> None:
    unread: Counter[tuple[str, str]] = Counter()
    modules = {param.id for param in test_python_blocks.PAGES}
    for page in PAGES:
        for kind, text in blocks(page):
            executed = FILES if FILE.match(text) else modules
            is_read = kind in READ_BY if kind != "python" else page in executed
            unread[page, kind] += not is_read
    listed = {(page, kind): count for page, kind, count in NOT_EXECUTED}
    assert {key: count for key, count in unread.items() if count} == listed


@pytest.mark.parametrize(("page", "test"), FILES.items())
def test_what_executes_a_file_names_its_page(page: str, test: str) -> None:
    assert page.rpartition("/")[2] in (ROOT / "tests" / test).read_text(encoding="utf-8")


def test_each_command_of_a_page_is_one() -> None:
    """As the command line itself reads it, with its options and arguments."""
    count = 0
    for path in PAGES.values():
        text = path.read_text(encoding="utf-8")
        for words in command_lines.lines_of(text):
            command_lines.read(words)
            count += 1
        for words in command_lines.mentions_of(text):
            command_lines.read_mention(words)
    assert count > 100


def test_what_no_command_takes_is_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        command_lines.read(["helmr", "status", "--every"])
    for words in (["helmr", "wait", "lst"], ["helmr", "wait", "list", "--statuses"]):
        with pytest.raises(LookupError):
            command_lines.read_mention(words)


# --- glue -------------------------------------------------------------------------------------------

GLUE_MAX = 5
"""Lines that would go if Helmr went."""

GLUE = {
    "pydantic-ai": {
        "from helmr import ",
        "from helmr.integrations.pydantic_ai import ",
        "approvals = streams.input(",
        "capabilities=[HelmrDurability(), DeferredToolWaits(approvals",
        "@task(",
    },
    "openai-agents": {
        "from helmr import ",
        "from helmr.integrations.openai_agents import ",
        "approvals = streams.input(",
        "@task(",
    },
    "langgraph": {
        "from helmr import ",
        "from helmr.integrations.langgraph import ",
        "answers = streams.input(",
        "@task(",
    },
    "fastapi": {
        "from helmr.integrations.fastapi import ",
        "map_errors(app)",
    },
}
CHANGED = {
    "openai-agents": {"result = await run(agent,": "Runner.run"},
    "langgraph": {
        "model = durable_model(": "the model as it is",
        'builder.add_node("send", durable(send))': "the node as it is",
        "run_graph(builder,": "graph.ainvoke",
    },
    "fastapi": {
        "app = FastAPI(lifespan=connected)": "FastAPI() and a client",
        "Depends(own_session(signed_in, owns))": "a check of its own",
        "helmr: HelmrClient": "a client of its own",
        "return await follow_output(": "events of its own",
        "SessionAccess": "a model of its own",
        "return await session_access(": "tokens of its own",
        "helmr, session, sends=": "their arguments",
    },
}
"""Lines that stand in place of others, and of which."""


@pytest.mark.parametrize("page", GLUE)
def test_an_agent_takes_at_most_five_lines_of_glue(page: str) -> None:
    assert len(GLUE[page]) <= GLUE_MAX
    code = next(text for kind, text in blocks(page) if kind == "python")
    tree = ast.parse(code)
    ours = {
        name.asname or name.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helmr.integrations")
        for name in node.names
    } | {"task", "streams"}
    imports = {
        line
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for line in range(node.lineno + 1, (node.end_lineno or 0) + 1)
    }
    known = (*GLUE[page], *CHANGED.get(page, ()))
    lines = [
        line.strip()
        for number, line in enumerate(code.splitlines(), start=1)
        if number not in imports and ours & set(re.findall(r"\w+", line))
    ]
    assert [line for line in lines if not any(one in line for one in known)] == []
    assert [one for one in known if one not in code] == []
