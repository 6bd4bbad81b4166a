"""Sizes of memory as people write them."""

from __future__ import annotations

import pytest

from helmr.errors import UsageError
from helmr.wire.durations import cut_text, size_bytes, spell_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512MB", 512_000_000),
        ("4 gb", 4_000_000_000),
        ("1.5GiB", 1_610_612_736),
        (" 64KiB ", 65_536),
        ("1tb", 10**12),
        ("1000000", 1_000_000),
        (2_000_000, 2_000_000),
    ],
)
def test_a_size_is_read(text: str | int, expected: int) -> None:
    assert size_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "GB", "4G", "25%", "1e9", "4 GB 2 MB", "9" * 30, True, 2**61]
)
def test_what_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(UsageError, match="not a memory size"):
        size_bytes(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(900, "900 bytes"), (61_000_000, "61 MB"), (1_540_000_000, "1.5 GB"), (2_400, "2.4 kB")],
)
def test_a_size_is_spelt(size: int, text: str) -> None:
    assert spell_bytes(size) == text


def test_a_text_is_cut_between_characters_and_says_how_long_it_is() -> None:
    assert cut_text("é" * 10, 20) == "é" * 10
    assert cut_text("é" * 10, 7) == "ééé\n\n… (20 bytes in all)"
