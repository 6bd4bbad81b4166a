"""A walk through every screen of the console by key presses: in-process and on a real terminal."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

from tests.console.flow.bench import Bench
from tests.console.flow.steps import FeatureWalk, Step
from tests.hostile import BIDI, HOSTILE, MARKUP
from tests.of_features import of_features

OF_FEATURES: list[FeatureWalk] = [one.WALK for one in of_features("walk")]

PASTE = "paste"
"""As a key: `PASTED` pasted into the field that has the focus."""
PASTED = f"{BIDI}\u200b{MARKUP}"
"""What a terminal lets through: it keeps control characters out of a paste itself."""
FAILED = "failed"
"""As a key: the id of the failed session, typed."""
REVIEWED = "reviewed"
"""Likewise of a session whose run was taken back."""


def _steps() -> list[Step]:
    inbox, session, text = "InboxScreen", "SessionScreen", "TextScreen"
    amend, correction = "AmendScreen", "CorrectionScreen"
    answer, batch, pick = "AnswerScreen", "BatchScreen", "PickScreen"
    table = [
        # --- inbox, and what opens over it
        ("", inbox, "⟨U+202E⟩"),
        ("Z", inbox, "Answer needs"),
        ("Z", inbox, "Inbox · oldest"),
        ("y", pick, "enter picks"),
        ("escape", inbox, "Inbox · oldest"),
        ("ctrl+p", pick, "enter picks"),
        ("paste", pick, "enter picks"),
        ("escape", inbox, "Inbox · oldest"),
        ("question_mark", text, "esc closes"),
        ("escape", inbox, "Inbox · oldest"),
        ("slash paste", inbox, "0 of 3 waits"),
        ("escape", inbox, "no filter"),
        ("h", "SinceScreen", "The last day"),
        ("escape", inbox, "Inbox · oldest"),
        # --- filters by name
        ("f", pick, "no filter"),
        ("escape", inbox, "Inbox · oldest"),
        ("F", "SaveFilterScreen", "forget the one named"),
        ("paste", "SaveFilterScreen", "control characters"),
        ("enter", "SaveFilterScreen", "a filter's name is"),
        ("escape", inbox, "Inbox · oldest"),
        # --- given to somebody
        ("d", "DelegateScreen", "To whom"),
        ("paste", "DelegateScreen", "control characters"),
        ("escape", inbox, "Inbox · oldest"),
        # --- answer
        ("a", answer, "( ) approve"),
        ("ctrl+t", answer, "fill the form first"),
        ("f3", answer, "Transcript"),
        ("f3", answer, ">( ) approve"),  # in sight again, and in focus
        ("space", answer, "(•) approve"),
        ("tab paste", answer, "control characters"),
        ("ctrl+t", text, "the run succeeds"),
        ("escape", answer, "(•) approve"),
        ("f2", answer, "answer as JSON"),
        ("f2", answer, "(•) approve"),
        ("ctrl+s", answer, "This is sent, exactly"),
        ("escape", answer, "(•) approve"),
        ("f1", text, "esc closes"),
        ("escape", answer, "(•) approve"),
        ("escape", inbox, "Inbox · oldest"),
        # --- one by one
        ("n", answer, "One by one ─"),
        ("escape", inbox, "Inbox · oldest"),
        # --- batch
        ("space", inbox, "1 marked"),
        ("space", inbox, "2 marked"),
        ("B", batch, "( ) approve"),
        ("space", batch, "(•) approve"),
        ("ctrl+s", batch, "1 field(s) need"),
        ("2 ctrl+s", batch, "This is sent, exactly"),
        ("escape", batch, "(•) approve"),
        ("escape", inbox, "2 marked"),
        ("escape", inbox, "3 waits"),
        # --- a session, its tabs, and what opens from it
        ("g o", session, "following"),
        ("g j j j f", session, "said:"),
        ("w t", session, "times:"),
        ("enter", text, "esc closes"),
        ("escape", session, "[Transcript]"),
        ("f space k d", text, "esc closes"),
        ("escape", session, "[Transcript]"),
        ("slash paste enter", session, "n N"),
        ("y", pick, "enter picks"),
        ("escape", session, "[Transcript]"),
        ("right_square_bracket", session, "[Waits]"),
        ("enter", text, "esc closes"),
        ("escape", session, "[Waits]"),
        ("right_square_bracket", session, "[Runs]"),
        ("enter", text, "esc closes"),
        ("escape", session, "[Runs]"),
        ("right_square_bracket", session, "[Raw]"),
        ("i", "SendScreen", "Send input ─"),
        ("escape", session, "[Raw]"),
        ("m", "NoteScreen", "0/5000"),
        ("paste", "NoteScreen", "control characters"),
        ("escape", session, "[Raw]"),
        ("X", "ConfirmScreen", "Cancel session ─"),
        ("paste", "ConfirmScreen", "control characters"),
        ("escape", session, "[Raw]"),
        ("escape escape", inbox, "Inbox · oldest"),  # the first one takes the search away
        # --- the other areas
        ("2", "SessionsScreen", "Sessions, newest activity first"),
        ("exclamation_mark", "SessionsScreen", "is:failed,blocked"),
        ("R", "ConfirmScreen", "Failed or blocked"),
        ("escape", "SessionsScreen", "is:failed,blocked"),
        ("escape", "SessionsScreen", "no filter"),
        ("slash failed enter", session, "following"),
        ("right_square_bracket right_square_bracket", session, "ValueError"),
        ("R", "ConfirmScreen", "Retry run ─"),
        ("escape", session, "[Runs]"),
        ("escape", "SessionsScreen", "Sessions, newest activity first"),
        # --- corrections: of a session that was taken back once
        ("slash reviewed enter", session, "following"),
        ("o", session, "no parent, no children"),
        ("D", "AttemptsScreen", "Attempts 1 and 2"),
        ("left_square_bracket right_square_bracket", "AttemptsScreen", "rewound"),
        ("escape", session, "[Transcript]"),
        ("g e j j", session, "+"),
        ("e", session, "~"),
        ("G k k k k k k", session, "with a kept answer"),
        ("c", pick, "Amend answer"),
        ("enter", amend, "(•) approve"),
        ("f2 f2 r tab paste", amend, "control characters"),
        ("ctrl+s", correction, "May run again: 1 step"),
        ("pagedown pageup paste", correction, "control characters"),
        ("ctrl+s", correction, "the number of steps in red"),
        ("escape", amend, "(•) reject"),
        ("escape", session, "[Transcript]"),
        ("c down enter", correction, "Rewind ─"),
        ("f1", text, "esc closes"),
        ("escape", correction, "Rewind ─"),
        ("escape", session, "[Transcript]"),
        ("c down down enter", correction, "Fork ─"),
        ("escape", session, "[Transcript]"),
        ("escape", "SessionsScreen", "Sessions, newest activity first"),
        ("3", "ActivityScreen", "Activity, newest first"),
        ("Z", "ActivityScreen", "run.rewound"),
        ("Z", "ActivityScreen", "Activity, newest first"),
        ("4", "SystemScreen", "Runtime"),
        ("n", "NoticesScreen", "No notices are sent"),
        ("slash paste escape", "NoticesScreen", "No notices are sent"),
        ("escape", "SystemScreen", "Runtime"),
        *(step for one in OF_FEATURES for step in one.steps),
    ]
    return [Step(tuple(keys.split()), screen, sees) for keys, screen, sees in table]


STEPS = _steps()


async def hostile(bench: Bench, **given: Any) -> dict[str, Any]:
    """A session whose every word tries to act on its reader; its wait."""
    asked = {
        "subject": HOSTILE.replace("\n", " ")[:190],
        "body": f"# {HOSTILE}\n- {HOSTILE}",
        "correlation": HOSTILE[:300],
        "say": [HOSTILE],
        "timeout": "5m",
    }
    return await bench.ask(**{**asked, **given})


async def hostile_everywhere(bench: Bench) -> tuple[dict[str, Any], dict[str, str]]:
    """Waits, a token, a note, a failed run and one taken back that are full of it.

    Returns:
        The first wait, and what the walk's keys of sessions type.
    """
    wait = await hostile(bench)
    await bench.ask(subject=HOSTILE[:190], correlation=HOSTILE[:300], timeout="30m")
    await bench.stack.started("sign", {"subject": HOSTILE[:190], "body": HOSTILE})
    failed = await bench.ask("break", subject=HOSTILE)
    await bench.stack.http.post(
        f"/v1/sessions/{wait['session']['id']}/notes",
        json={"text": HOSTILE},
        headers={"On-Behalf-Of": quote(HOSTILE[:100])},
    )
    await fill_features(bench, HOSTILE)
    typed = {FAILED: failed["session"]["id"], REVIEWED: await taken_back(bench)}
    return wait, typed


async def fill_features(bench: Bench, words: str) -> None:
    """What features keep, for their lists: it says these words."""
    for one in OF_FEATURES:
        if one.fill is not None:
            await one.fill(bench, words)


async def taken_back(bench: Bench, words: str = HOSTILE) -> str:
    """The id of a session whose run was taken back to its beginning, and ended again; its people say these words."""
    asked = await bench.ask("review", subject=words.replace("\n", " ")[:190], body=words)
    session, run = asked["session"]["id"], asked["run"]["id"]
    await bench.answer(asked["id"], {"decision": "approve", "note": words[:400]})
    await bench.until(partial(waits_on, bench, session, "chat"))
    summary = (await bench.stack.http.get(f"/v1/sessions/{session}")).json()
    await bench.answer(summary["wait"]["id"], words)
    await bench.stack.run_until(run, "succeeded")
    looked = await bench.stack.http.post(f"/v1/runs/{run}/rewind/preview", json={"to_op": 1})
    given = {"to_op": 1, "preview_hash": looked.json()["hash"], "reason": words[:400]}
    response = await bench.stack.http.post(f"/v1/runs/{run}/rewind", json=given)
    assert response.status_code == 200, response.text
    await bench.stack.run_until(run, "succeeded")
    return str(session)


async def waits_on(bench: Bench, session_id: str, stream: str) -> bool:
    """Whether the session waits on that stream."""
    wait = (await bench.stack.http.get(f"/v1/sessions/{session_id}")).json()["wait"]
    return wait is not None and wait["stream"] == stream
