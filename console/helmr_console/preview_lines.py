"""What a rewind or an amendment would do, in lines to read before it is done (S-76). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from helmr.difflines import DiffLine
from helmr.models import AskedAgain, KeptAnswer, RepeatedStep, RepeatedStepState, RewindPreview
from helmr.review import words
from helmr.review.words import short_id

Line = tuple[str, str]
"""A text and its role. Texts are as the session has them: whoever draws them makes them safe."""

_DIFF_ROLES = {"~": "warning", "+": "success", "-": "error"}
_KEYS_FROM = 18
"""Cells before a key."""


def repeated(preview: RewindPreview) -> int:
    """How many steps had started and may run again: the number that confirms it."""
    return len(preview.steps)


def preview_lines(preview: RewindPreview, changed: Sequence[DiffLine] = ()) -> list[Line]:
    """All that it does, what is repeated first.

    Args:
        changed: Of an amendment, the answer as it was against the answer as it will be.
    """
    return [
        *_steps(preview.steps),
        *_changed(changed),
        *_listed("Answers kept, if the same is asked", map(_kept, preview.kept)),
        *_listed("Asked again", map(_asked, preview.asked_again)),
        *_listed("Tokens cancelled, if they are pending", map(short_id, preview.tokens)),
        *_listed("Public tokens revoked", map(short_id, preview.public_tokens)),
        *_listed(
            "Outputs that may be appended again, and stay",
            (f"op {one.op}  {one.stream} #{one.seq}" for one in preview.outputs),
        ),
        ("", ""),
        (
            f"{len(preview.set_aside)} op(s) are set aside, from op {preview.to_op} on; "
            "they stay in the transcript.",
            "muted",
        ),
    ]


def _changed(changed: Sequence[DiffLine]) -> Iterator[Line]:
    if not changed:
        return
    yield "", ""
    yield "The answer", "muted"
    for line in changed:
        yield f"  {line.sign} {line.path}  {line.text}", _DIFF_ROLES.get(line.sign, "")


def _steps(steps: Sequence[RepeatedStep]) -> Iterator[Line]:
    if not steps:
        yield "No step is repeated: none had started.", "success"
        return
    yield f"May run again: {len(steps)} step(s) that had started", "error"
    for step in steps:
        at = words.clock(step.at)
        yield f"  ! op {step.op}  {step.name}  {step.state.value} {at}", "error"
        if step.state is RepeatedStepState.RUNNING or step.step_key == step.new_key:
            yield f"{'key kept':>{_KEYS_FROM - 2}}  {step.step_key}", "error"
        else:
            yield f"{'old key':>{_KEYS_FROM - 2}}  {step.step_key}", "error"
            yield f"{'new key':>{_KEYS_FROM - 2}}  {step.new_key}", "error"


def _listed(title: str, found: Iterator[str]) -> Iterator[Line]:
    texts = list(found)
    if texts:
        yield "", ""
        yield title, "muted"
        yield from ((f"  {text}", "") for text in texts)


def _kept(one: KeptAnswer) -> str:
    where = f"{one.stream} #{one.record_seq}" if one.stream is not None else "token"
    return f"{where}  of {short_id(one.wait_id)}"


def _asked(one: AskedAgain) -> str:
    return f"op {one.op}  {one.stream or 'token'}  {one.subject or ''}"
