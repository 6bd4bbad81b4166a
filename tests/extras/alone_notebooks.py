"""What `helmr[notebooks]` promises (docs/notebooks.md): a kernel that shows sessions as cards, and matplotlib."""

from __future__ import annotations

import importlib.util
import sys

import nbformat
from nbclient import NotebookClient

url, key = sys.argv[1:]
CELLS = [
    f"from helmr import Client\nclient = Client(url={url!r}, key={key!r})",
    "next(iter(client.waits.list(task='review')))",
    "from helmr.html import Transcript\n"
    "Transcript(client.sessions.open(next(iter(client.sessions.list())).id).transcript())",
    "client.query('SELECT task FROM sessions')",
    "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
]

for heavy in ("ray", "duckdb", "fastapi", "textual", "polars"):
    assert importlib.util.find_spec(heavy) is None, heavy
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in CELLS])
NotebookClient(notebook, timeout=60).execute()
shown = [
    {kind for output in cell.outputs for kind in output.get("data", {})} for cell in notebook.cells
]
assert ["text/html" in kinds for kinds in shown] == [False, True, True, True, False], shown
assert "image/png" in shown[-1], shown
