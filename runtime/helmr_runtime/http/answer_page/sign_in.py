"""The page on which a person signs in: at the organisation's issuer, or with a key of their own (S-116)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from helmr.models import SUBJECT_MAX
from helmr.person.inbox_link import CODE_FIELD, LOCAL_PATH
from helmr_runtime.http.answer_page import texts
from helmr_runtime.http.answer_page.layout import SignedInBar, render

KEY_FIELD = "key"
STATE_FIELD = "state"
RETURN_FIELD = "next"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInPage:
    """The sign-in page.

    Attributes:
        is_on: The runtime knows people; else there is nothing to sign in to.
        kept: The fields of an answer that was sent without a sign-in, to send again to `return_to`.
        code: The code of a one-time link of the local key: the page has a button, and no field for a key.
        issuer: The issuer, if people can sign in there.
        return_to: The page to return to.
        state: Ties the form to this browser.
        problem: The reason for which the sign-in failed.
        bar: The person who is signed in already.
    """

    is_on: bool = True
    kept: Sequence[tuple[str, str]] = ()
    code: str = ""
    issuer: str | None = None
    return_to: str = ""
    state: str = ""
    problem: str = ""
    bar: SignedInBar | None = None


def render_sign_in(page: SignInPage) -> str:
    """The whole HTML document."""
    title = "Sign in" if page.bar is None else "You are signed in"
    host = urlsplit(page.issuer or "").netloc
    return render(
        "sign_in.html.jinja",
        title=f"Error: {title}" if page.problem else title,
        bar=page.bar,
        page=page,
        problem=texts.clean(page.problem, SUBJECT_MAX),
        issuer=texts.clean(host, SUBJECT_MAX),
        query=f"{RETURN_FIELD}={quote(page.return_to, safe='')}",
        code_field=CODE_FIELD,
        local_path=LOCAL_PATH,
        key_field=KEY_FIELD,
        state_field=STATE_FIELD,
    )


def render_home(*, version: str, waiting: str, bar: SignedInBar | None) -> str:
    """The whole HTML document at a runtime's own address; `waiting` is the number of waits, empty to hide it."""
    return render("home.html.jinja", title="Helmr", bar=bar, version=version, waiting=waiting)
