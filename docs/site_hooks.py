"""The docs site's two adjustments: the README is its first page, and links out of it are left as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./(?:\.\./)*(README\.md)?([^)]*)\)")
FROM_README = re.compile(r"\]\(docs/")


def on_files(files: Files, config: Any) -> Files:
    """Put the README in as `index.md`."""
    text = Path(config["config_file_path"]).with_name("README.md").read_text(encoding="utf-8")
    index = FROM_README.sub("](", text).replace('src="docs/', 'src="')
    files.append(File.generated(config, "index.md", content=index))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links that lead out of `docs`: the README's to the first page, others to plain text."""
    up = "../" * page.file.src_uri.count("/")

    def told(link: re.Match[str]) -> str:
        text, readme, rest = link.groups()
        return f"[{text}]({up}index.md{rest})" if readme else text

    return OUTSIDE.sub(told, markdown)
