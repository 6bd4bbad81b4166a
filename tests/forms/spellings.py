"""Texts of each format that a form takes, as the console takes and proposes them, and what JSON has of each."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from ipaddress import IPv4Address, IPv6Address
from re import Pattern
from typing import Annotated, Any
from uuid import UUID

from pydantic import AnyUrl, Base64Str, SecretStr, WithJsonSchema

from helmr.person.forms import Kind, example

TYPES: dict[str, Any] = {
    "date": date,
    "time": time,
    "date-time": datetime,
    "duration": timedelta,
    "uuid": UUID,
    "uri": AnyUrl,
    "email": Annotated[str, WithJsonSchema({"type": "string", "format": "email"})],
    "ipv4": IPv4Address,
    "ipv6": IPv6Address,
    "regex": Pattern[str],
    "base64": Base64Str,
    "password": SecretStr,
}
"""The type of a task that has this format."""
DASHED = "01234567-89ab-cdef-0123-456789abcdef"
SPELT: dict[str, dict[str, str]] = {
    "date": {
        example(Kind.DATE): "2026-11-24",
        "20261124": "2026-11-24",
        "2026-W48-2": "2026-11-24",
    },
    "time": {
        example(Kind.TIME): "14:30:00",
        "14:30": "14:30:00",
        "1430": "14:30:00",
        "14:30:00.5": "14:30:00.500000",
        "14:30:00Z": "14:30:00Z",
        "14:30z": "14:30:00Z",
        "14:30+02:00": "14:30:00+02:00",
    },
    "date-time": {
        example(Kind.DATETIME): "2026-11-24T14:30:00Z",
        "2026-11-24 14:30Z": "2026-11-24T14:30:00Z",
        "2026-11-24t14:30:00z": "2026-11-24T14:30:00Z",
        "20261124T143000Z": "2026-11-24T14:30:00Z",
        "2026-11-24 14:30+0200": "2026-11-24T14:30:00+02:00",
        "2026-11-24T14:30:00.25Z": "2026-11-24T14:30:00.250000Z",
    },
    "duration": {
        example(Kind.DURATION): "PT5400S",
        "12d": "PT1036800S",
        "100ms": "PT0.1S",
        "0s": "PT0S",
        "P1DT2H": "P1DT2H",
        "P1W2D": "P1W2D",
        "PT1.5S": "PT1.5S",
        "-PT90S": "-PT90S",
    },
    "uuid": {DASHED: DASHED, DASHED.replace("-", ""): DASHED.replace("-", ""), f"{{{DASHED}}}": f"{{{DASHED}}}"},
    "uri": {one: one for one in ("https://example.com", "https://exämple.com/ü", "http://a/{id}")},
    "email": {one: one for one in ("ada@example.com", "ada@münchen.de")},
    "ipv4": {"192.0.2.1": "192.0.2.1"},
    "ipv6": {one: one for one in ("2001:db8::1", "fe80::1%eth0")},
    "regex": {one: one for one in ("a+", "(?P<x>a)", r"\Z")},
    "base64": {"aGFsbG8=": "aGFsbG8="},
    "password": {"p w": "p w"},
}  # fmt: skip
"""What is typed, and the JSON that is sent, by format."""
REFUSED: dict[str, tuple[str, ...]] = {
    "date": ("2026-02-30", "24.11.2026", "2026-11-24T00:00:00Z"),
    "time": ("14.30", "24:00", "2:30", "14:30:60"),
    "date-time": ("2026-11-24T14:30:00", "2026-11-24", "2026-11-24T14.30Z", "2026-11-24T23:59:60Z"),
    "duration": ("P", "PT", "Pfoo", "PT1e5S", "90", "PT99999999999S", "P9999999999D"),
}
