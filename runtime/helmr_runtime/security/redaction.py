"""No secret in a log line: a filter for every handler, and the function behind it.

Ours are known by their prefix (`helmr_runtime.security.secrets`); what others gave us by where it stands:
a bearer header, a `whsec_` key, the path after /callbacks/ and /v1/links/. Redacting is the second line: the first
is that secrets are not logged, have no repr and that the server's access log is off.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

from helmr_runtime.security.secrets import parse_secret

MARK = "[redacted]"

_RULES = (
    # Also a secret that was cut off, whose rest may stand elsewhere; 4 characters give nothing
    # away.
    (re.compile(r"(hlmr_[a-z]{1,8}_)[0-9A-Za-z]{4,}"), rf"\1{MARK}"),
    (re.compile(r"(/(?:callbacks|v1/links)/)(?!\[redacted\])[^\s\"'?#<>]+"), rf"\1{MARK}"),
    (re.compile(r"(whsec_)[0-9A-Za-z+/=_-]{4,}"), rf"\1{MARK}"),
    (re.compile(r"(?i)(\bbearer\s+)(?!hlmr_|\[)[0-9A-Za-z._~+/=-]{4,}"), rf"\1{MARK}"),
)
_SECRET = re.compile(r"hlmr_[a-z]{1,8}_[0-9A-Za-z]{49}")
_OWN_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def redact(text: str) -> str:
    """The text without anything that looks like a secret."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def find_secrets(text: str) -> Iterator[str]:
    """The well-formed secrets in a text, live or not; what a search of logs and files looks for."""
    return (found[0] for found in _SECRET.finditer(text) if parse_secret(found[0]) is not None)


class RedactingFilter(logging.Filter):
    """Redacts message, traceback, stack and extra texts of every record that passes.

    Belongs on handlers: a logger's filters don't see what its children log.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact in place; every record goes on."""
        record.msg, record.args = redact(_message(record)), None
        if record.exc_info and not record.exc_text:
            record.exc_text = _FORMATTER.formatException(record.exc_info)
        if record.exc_text:
            # A formatter that finds exc_info makes its own text of it, past this filter.
            record.exc_text, record.exc_info = redact(record.exc_text), None
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for name, value in record.__dict__.items():
            if name not in _OWN_ATTRIBUTES:
                record.__dict__[name] = _redacted_value(value)
        return True


_FORMATTER = logging.Formatter()


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        # The call's own mistake: logging reports it on stderr with the arguments, so they go too.
        return f"{record.msg} (its arguments do not fit)"


def _redacted_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    cleaned = redact(text)
    return value if isinstance(value, str) is False and cleaned == text else cleaned


def install(logger: logging.Logger | None = None) -> None:
    """Put the filter on every handler of a logger (default the root); harmless when repeated."""
    for handler in (logger or logging.getLogger()).handlers:
        if not any(isinstance(each, RedactingFilter) for each in handler.filters):
            handler.addFilter(RedactingFilter())
