"""Executes the notebooks top to bottom and renders them to docs/notebooks: Markdown, with plots as PNG files.

`make notebooks` runs it. The notebooks themselves are not written: they stay without outputs. A renderer of our own,
because nbconvert brings ten packages and pages that no forge shows.
"""

from __future__ import annotations

import argparse
import base64
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
PAGES = HERE.parent / "docs" / "notebooks"
CELL_TIMEOUT_S = 240
"""A cell starts a runtime or simulates thousands of sessions at most."""

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def execute(path: Path) -> Any:
    """The notebook with its outputs, executed in a fresh kernel and an empty folder.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="helmr-notebook-") as folder:
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT_S,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    return notebook


def render(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by file name."""
    pictures: dict[str, bytes] = {}
    parts = [f"<!-- Made by `make notebooks` from notebooks/{name}.ipynb; do not edit. -->"]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(_links(cell.source))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            parts += _shown(output, name, pictures)
    return "\n\n".join(parts) + "\n", pictures


def _links(source: str) -> str:
    """Notebooks link to each other and to docs/ from their own folder."""
    return source.replace(".ipynb)", ".md)").replace("](../docs/", "](../")


def _shown(output: Any, name: str, pictures: dict[str, bytes]) -> Iterator[str]:
    if output.output_type == "stream":
        yield f"```text\n{ANSI.sub('', output.text).rstrip()}\n```"
        return
    data = output.get("data", {})
    if "image/png" in data:
        file = f"{name}-{len(pictures) + 1}.png"
        pictures[file] = base64.b64decode(data["image/png"])
        yield f"![Plot]({file})"
    elif "text/html" in data:
        # In one block: a blank line would end the HTML for a Markdown reader.
        html = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.S)
        rows = html.strip().replace("</tr>", "</tr>\n")  # a line each, which a diff shows
        yield re.sub(r"\n\s*\n", "\n", rows)
    elif "text/plain" in data:
        yield f"```text\n{data['text/plain']}\n```"


def main() -> int:
    """Execute and render; exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="notebooks without .ipynb; all of them if none")
    names = parser.parse_args().names or sorted(path.stem for path in HERE.glob("*.ipynb"))
    PAGES.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"{name}: executing", flush=True)
        page, pictures = render(execute(HERE / f"{name}.ipynb"), name)
        for old in PAGES.glob(f"{name}*"):
            old.unlink()
        (PAGES / f"{name}.md").write_text(page, encoding="utf-8")
        for file, picture in pictures.items():
            (PAGES / file).write_bytes(picture)
        print(f"{name}: docs/notebooks/{name}.md, {len(pictures)} plots", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
