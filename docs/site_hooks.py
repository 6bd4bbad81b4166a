"""What the docs site does besides rendering pages.

The README is its first page, links out of it are left as text, and each page has a Markdown form beside its HTML, which
`llms.txt` lists.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

UPWARDS = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+)(README\.md)?([^)]*)\)")
FROM_README = re.compile(r"\]\(docs/")
DIRECTIVE = re.compile(r"^::: ", flags=re.M)
"""What a page of the API reference is made of; such a page has no Markdown form."""

_texts: dict[str, str] = {}
"""The Markdown of each page of the build at hand, by its path."""


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
        text, ups, readme, rest = link.groups()
        if len(ups) <= len(up):  # it stays inside
            return link[0]
        return f"[{text}]({up}index.md{rest})" if readme else text

    text = UPWARDS.sub(told, markdown)
    if not DIRECTIVE.search(text):
        _texts[page.file.src_uri] = text
    return text


def on_post_build(config: Any) -> None:
    """Write `llms.txt`, and each page's Markdown beside its HTML."""
    site = Path(config["site_dir"])
    for path, text in _texts.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text, encoding="utf-8")
    lines = [f"# {config['site_name']}", "", f"> {config['site_description']}", ""]
    for section in config["nav"]:
        for name, entries in section.items():
            listed = [_listed(path) for path in _paths(entries) if path in _texts]
            lines += [f"## {name}", "", *listed, ""] if listed else []
    (site / "llms.txt").write_text("\n".join(lines), encoding="utf-8")


def _paths(entries: Any) -> list[str]:
    """The pages of a part of the navigation, in its order."""
    if isinstance(entries, str):
        return [entries]
    if isinstance(entries, dict):
        entries = list(entries.values())
    return [path for entry in entries for path in _paths(entry)]


def _listed(path: str) -> str:
    """A line of `llms.txt`: the page's title, and its first sentence."""
    title = next((line[2:] for line in _texts[path].splitlines() if line.startswith("# ")), path)
    first = next(
        (part for part in _texts[path].split("\n\n") if part[:1].isalpha() or part[:1] in "*`["), ""
    )
    sentence = re.split(r"(?<=\.) ", " ".join(first.split()), maxsplit=1)[0]
    sentence = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", sentence)
    return f"- [{title}]({path}): {sentence}"
