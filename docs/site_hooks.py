"""The docs site's two adjustments: the README is its first page, and links out of it are left as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./(?:\.\./)*(README\.md)?([^)]*)\)")
FROM_README = re.compile(r"\]\(docs/")


def on_files(files: Files, config: Any) -> Files:
    """Put the repository's own pages in, the README as `index.md`."""
    root = Path(config["config_file_path"]).parent
    for name, page in (
        ("README", "index"),
        ("ARCHITECTURE", "ARCHITECTURE"),
        ("CONTRIBUTING", "CONTRIBUTING"),
    ):
        text = (root / f"{name}.md").read_text(encoding="utf-8")
        content = FROM_README.sub("](", text).replace('src="docs/', 'src="')
        files.append(File.generated(config, f"{page}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links that lead out of `docs`: the README's to the first page, others to plain text."""
    up = "../" * page.file.src_uri.count("/")

    def told(link: re.Match[str]) -> str:
        text, readme, rest = link.groups()
        return f"[{text}]({up}index.md{rest})" if readme else text

    return OUTSIDE.sub(told, markdown)
