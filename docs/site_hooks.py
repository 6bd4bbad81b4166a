"""What the docs site does besides rendering pages.

The README is two pages, its tour and what is around it; the first page shows parts of other pages; links out of the
site are left as text; each page has a Markdown form beside its HTML, which `llms.txt` lists; and the menu has the pages
of features that mkdocs.yml does not name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from helmr.feature import Feature
from helmr.features import FEATURES

UPWARDS = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+)(README\.md)?([^)]*)\)")
FROM_README = re.compile(r"\]\(docs/")
PART = re.compile(r"^<!-- (tabs|table|list) from ([\w.-]+)(?:, (.+?))? -->$", flags=re.M)
"""What a page shows of another one: its sections as tabs, or the first table or list of a section."""
SECTION = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", flags=re.M | re.S)
BLOCK = {
    "table": re.compile(r"^\|.*(?:\n\|.*)*", flags=re.M),
    "list": re.compile(r"^- .*(?:\n- .*)*", flags=re.M),
}
TOUR = "Ten minutes"
TOUR_PAGE = "ten-minutes.md"
README_PAGE = "overview.md"
"""The README without its tour."""
BEHIND = (
    "decisions/",
    "api/",
    "upstream/",
    "notebooks/",
    "invariants",
    "faults",
    "CONTRIBUTING",
    "ARCHITECTURE",
)
BEHIND_BOOST = 0.2
"""Of pages for those who build Helmr, in the search: a page that says how to do something stands before them."""
MENU = "How to"
"""The part of the menu that a feature's page stands in, unless mkdocs.yml names the page."""
DIRECTIVE = re.compile(r"^::: ", flags=re.M)
"""What a page of the API reference is made of; such a page has no Markdown form."""

_texts: dict[str, str] = {}
"""The Markdown of each page of the build at hand, by its path."""


def on_config(config: Any) -> Any:
    """Put the pages of features into the menu."""
    config["nav"] = with_features(config["nav"], FEATURES)
    return config


def with_features(nav: list[dict[str, Any]], features: Sequence[Feature]) -> list[dict[str, Any]]:
    """Return the menu with the pages of features that it lacks, each under what the feature is about."""
    listed = {path for section in nav for path in _paths(section)}
    lacking = [
        {one.about.removesuffix("."): one.page}
        for one in features
        if one.page and one.page not in listed
    ]
    return [
        {name: [*entries, *lacking] if name == MENU else entries for name, entries in part.items()}
        for part in nav
    ]


def on_files(files: Files, config: Any) -> Files:
    """Put the repository's own pages in."""
    root = _root(config)
    tour, rest = _tour_and_rest(_text(root, "README.md"))
    own = {TOUR_PAGE: tour, README_PAGE: rest}
    own |= {name: _text(root, name) for name in ("ARCHITECTURE.md", "CONTRIBUTING.md")}
    for page, text in own.items():
        files.append(File.generated(config, page, content=text))
    return files


def _tour_and_rest(readme: str) -> tuple[str, str]:
    """The README's tour, and the README around it, as two pages.

    Raises:
        KeyError: The README has no tour.
    """
    tour = dict(SECTION.findall(readme))[TOUR]
    rest = readme.replace(f"## {TOUR}\n{tour}", "").replace("# Helmr\n", "# Overview\n", 1)
    return f"# {TOUR}\n{tour}", rest


def _root(config: Any) -> Path:
    return Path(config["config_file_path"]).parent


def _text(root: Path, name: str) -> str:
    """A page of the repository or of `docs`, with links as from within `docs`."""
    path = root / name if (root / name).is_file() else root / "docs" / name
    return FROM_README.sub("](", path.read_text(encoding="utf-8"))


def with_parts(markdown: str, root: Path) -> str:
    """The page with what it shows of others.

    Raises:
        LookupError: A page that is named has no such section, or that has no table or list.
    """

    def told(part: re.Match[str]) -> str:
        kind, name, heading = part.groups()
        sections = dict(SECTION.findall(_text(root, name)))
        if kind == "tabs":
            return "\n\n".join(_tab(title, text) for title, text in sections.items())
        found = BLOCK[kind].search(sections[heading])
        if found is None:
            raise LookupError(f"{name} has no {kind} below {heading}")
        return found[0]

    return PART.sub(told, markdown)


def _tab(title: str, text: str) -> str:
    """A section as a tab of its own."""
    lines = (f"    {line}".rstrip() for line in text.strip().splitlines())
    return "\n".join([f'=== "{title}"', "", *lines])


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Parts of other pages; links that lead out of `docs`: the README's to its pages, others to plain text."""
    up = "../" * page.file.src_uri.count("/")
    if page.file.src_uri.startswith(BEHIND):
        page.meta["search"] = {"boost": BEHIND_BOOST}

    def told(link: re.Match[str]) -> str:
        text, ups, readme, rest = link.groups()
        if len(ups) <= len(up):  # it stays inside
            return link[0]
        if readme and rest == "#ten-minutes":
            return f"[{text}]({up}{TOUR_PAGE})"
        return f"[{text}]({up}{README_PAGE}{rest})" if readme else text

    text = UPWARDS.sub(told, with_parts(markdown, _root(config)))
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
