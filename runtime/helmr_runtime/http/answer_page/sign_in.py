"""The page on which a person signs in: at the organisation's issuer, or with a key of their own (S-116)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from helmr.inbox_link import CODE_FIELD, LOCAL_PATH
from helmr.models import SUBJECT_MAX
from helmr_runtime.http.answer_page import texts
from helmr_runtime.http.answer_page.layout import SignedInBar, render

KEY_FIELD = "key"
STATE_FIELD = "state"
RETURN_FIELD = "next"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInPage:
    """A page.

    Attributes:
        is_on: The runtime knows people; else there is nothing to sign in to.
        kept: The fields of an answer that was sent without a sign-in; `return_to` takes it again.
        code: Of a one-time link of the local key: there is a button to press, and no key to type.
        issuer: Where people sign in, if not only with keys.
        return_to: The page that they come from.
        state: Ties the form to this browser.
        problem: Why they are not signed in.
        bar: Who is signed in already.
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
    """The whole HTML document at a runtime's own address; `waiting` is how much waits, empty if that is not said."""
    return render("home.html.jinja", title="Helmr", bar=bar, version=version, waiting=waiting)
