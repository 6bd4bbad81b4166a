"""The lines of a transcript in which some entries are unfolded and some stretches are one line."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from helmr_console.widgets.transcript_rows import LineMap


def drawn(
    count: int, below: dict[int, int], stretches: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The lines in order, the slow way: which entry, and how far below its first."""
    found = []
    for seq in range(1, count + 1):
        here = next((one for one in stretches if one[0] <= seq <= one[1]), None)
        if here is None or here[0] == seq:
            found += [(seq, line) for line in range(1 + below.get(seq, 0))]
    return found


@st.composite
def views(draw: st.DrawFn) -> tuple[int, dict[int, int], list[tuple[int, int]]]:
    count = draw(st.integers(1, 60))
    cuts = sorted(draw(st.sets(st.integers(1, count), max_size=8)))
    stretches = [(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False) if b > a]
    below = draw(st.dictionaries(st.integers(1, count), st.integers(1, 5), max_size=6))
    return count, below, stretches


@given(views())
def test_it_says_what_counting_lines_says(
    view: tuple[int, dict[int, int], list[tuple[int, int]]],
) -> None:
    count, below, stretches = view
    lines, found = drawn(count, below, stretches), LineMap(below, stretches)
    assert found.height(count) == len(lines)
    assert [found.at_line(line) for line in range(len(lines))] == lines
    assert found.at_line(len(lines))[0] > count
    for seq in range(1, count + 1):
        assert lines[found.line_of(seq)] == (found.shown(seq), 0)


@given(views())
def test_moving_goes_through_what_shows(
    view: tuple[int, dict[int, int], list[tuple[int, int]]],
) -> None:
    count, below, stretches = view
    found = LineMap(below, stretches)
    shown = list(dict.fromkeys(seq for seq, _ in drawn(count, below, stretches)))
    for here, there in pairwise(shown):
        assert found.step(here, 1) == there
        assert found.step(there, -1) == here
    assert found.step(shown[0], len(shown) - 1) == shown[-1]
