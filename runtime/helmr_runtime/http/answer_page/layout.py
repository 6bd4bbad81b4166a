"""The frame of all pages: layout, style, the signed-in person, and headers.

A page runs no script, unless it is given one of ours, which the policy names by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from helmr.models import SUBJECT_MAX
from helmr_runtime.http.answer_page import texts
from helmr_runtime.security.callbacks import NONCE_FIELD

if TYPE_CHECKING:
    from jinja2 import Environment

_FILES = files(__package__).joinpath("templates")
STYLE = _FILES.joinpath("style.css").read_text(encoding="utf-8")
TEMPLATES = (
    "layout.html.jinja",
    "fields.html.jinja",
    "page.html.jinja",
    "handing.html.jinja",
    "sign_in.html.jinja",
    "inbox.html.jinja",
    "home.html.jinja",
    "errors.html.jinja",
)
# Read at import, so that no request reads a file; templates compile with the first page.
_SOURCES = {name: _FILES.joinpath(name).read_text(encoding="utf-8") for name in TEMPLATES}
LOCAL_SCRIPT = _FILES.joinpath("local.js").read_text(encoding="utf-8")
"""Adds the reader's own time zone to each time; without scripts, pages show UTC alone."""
INBOX_SCRIPT = LOCAL_SCRIPT + _FILES.joinpath("inbox.js").read_text(encoding="utf-8")
"""Also keeps the list live; a browser without scripts has the same list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedInBar:
    """The bar above a page that names the signed-in person.

    Attributes:
        name: The person's name.
        nonce: The nonce of the sign-out form; empty behind a proxy that signs people in and out.
        has_inbox: The person's role may answer, so the bar links to the inbox.
    """

    name: str
    nonce: str = ""
    has_inbox: bool = True


def render(
    template: str, *, title: str, bar: SignedInBar | None = None, script: str = "", **parts: Any
) -> str:
    """The whole HTML document.

    Args:
        template: One of `TEMPLATES`.
        title: The document's title.
        bar: The signed-in person, if the page shows them.
        script: The page's script; `page_headers` must get the same.
        parts: Further variables of the template.
    """
    return (
        _environment()
        .get_template(template)
        .render(
            style=Markup(STYLE),  # our own files
            script=Markup(script),
            title=title,
            bar=bar,
            bar_name=texts.clean(bar.name, SUBJECT_MAX) if bar is not None else "",
            nonce_field=NONCE_FIELD,
            moment=texts.moment,
            distance=texts.distance,
            **parts,
        )
    )


def render_errors(rows: Sequence[tuple[str, int, str, str]]) -> str:
    """The page of errors: the code, status, meaning and remedy of each."""
    return render("errors.html.jinja", title="Errors", rows=rows)


def page_headers(script: str = "", *, is_live: bool = False) -> dict[str, str]:
    """The headers of every page: no other script runs, nothing is cached, links get no referrer.

    Args:
        script: The page's script.
        is_live: The script asks the runtime for changes.
    """
    runs = [f"script-src 'sha256-{_hash(script)}'"] if script else []
    if is_live:
        runs.append("connect-src 'self'")
    policy = (
        "default-src 'none'",
        f"style-src 'sha256-{_hash(STYLE)}'",
        *runs,
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "; ".join(policy),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex, nofollow, noarchive",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }


@cache
def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    from jinja2 import DictLoader, Environment, StrictUndefined  # noqa: PLC0415 - with what is compiled, a tenth of a gateway's start

    return Environment(
        loader=DictLoader(_SOURCES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
