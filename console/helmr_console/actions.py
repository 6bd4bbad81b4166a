"""Everything an operator can do: one table, and the gate that every action goes through.

The table feeds the bindings, the footer, the help page, the palette, the key table in the docs and the gate. No key
reaches an action that is not in it. Read-only and stale mode refuse actions marked `writes`; every refusal gives a
reason. Only a `Permit`, which the gate issues for one action and which carries the client, can write: nothing else in
the console calls a client method that changes something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from helmr.client.aio import AsyncClient
from helmr.models import BulkVerb, RunStatus, SessionStatus


class ActionScope(StrEnum):
    """The place where an action of the kernel works; the value heads its part of the help. Features have their own."""

    ANYWHERE = "Anywhere"
    LIST = "In lists"
    AREA = "In the list of an area"
    MARKS = "With marks"
    WAITS = "Inbox"
    ONE_WAIT = "With a wait"
    SESSIONS = "Sessions"
    SESSION = "In a session"
    TRANSCRIPT = "Transcript"
    RUNS = "Runs"
    FORM = "In a form"
    ANSWER = "In the form of a wait"
    SYSTEM = "System"
    NOTICES = "Notice targets"
    ATTEMPTS = "Attempts"
    ONE_BY_ONE = "One by one"
    BATCH = "Batch"


@dataclass(frozen=True, slots=True)
class ActionContext:
    """The part of the screen's state on which actions depend.

    `wait_over` says why the wait can't be answered any more, empty if it can. `not_rewindable`, `not_amendable` and
    `not_forkable` say why the entry under the cursor can't be corrected that way.
    """

    live: bool = True
    link_text: str = "live"
    read_only: bool = False
    wait: bool = False
    wait_over: str = ""
    call: bool = False
    """The wait asks about a call of an agent that can be allowed for a while."""
    row: bool = False
    session_status: SessionStatus | None = None
    run_status: RunStatus | None = None
    run_is_newest: bool = True
    not_rewindable: str = ""
    not_amendable: str = ""
    not_forkable: str = ""
    marked: int = 0
    bulk: frozenset[BulkVerb] = frozenset()
    """Verbs that at least one marked session takes; without marks, those of the session under the cursor."""
    pending: int = 0
    field: bool = False
    in_list: bool = False
    list_below: bool = False
    batch_running: bool = False
    has_batch: bool = False
    """A batch was sent, or is being sent."""
    unsent: bool = False
    looked_at: bool = False
    discardable: bool = False
    composing: bool = False
    folded: bool = False
    """The arguments of a call are not shown as fields."""
    has_form: bool = False
    """The form has fields to fill, not only a confirmation."""
    is_narrow: bool = False
    reviewing: bool = False
    own_answer: bool = False
    """This operator has answered the wait under the cursor."""
    held: int = 0
    lost: int = 0
    thing: object = None
    """What is under the cursor in a feature's list; None if there is nothing."""


Reason = Callable[[ActionContext], str]


def _never(context: ActionContext) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Action:
    """One action of the operator.

    `keys` are Textual key names, empty for an action only of the palette. `rank` places it in the footer (0: not
    there, small first). `reason` gives why it can't be done now, empty if it can.
    """

    id: str
    scope: str
    keys: tuple[str, ...]
    label: str
    help: str
    rank: int = 0
    writes: bool = False
    dangerous: bool = False
    reason: Reason = _never
    shown_when: Callable[[ActionContext], bool] | None = None

    def refusal(self, context: ActionContext) -> str:
        """Return why the action can't run now; empty if it can."""
        if self.writes:
            if context.read_only:
                return "read-only: started with --read-only, nothing can be sent"
            if not context.live:
                return f"the gateway is not answering ({context.link_text}); drafts are kept"
        return self.reason(context)

    @property
    def refused_as(self) -> str:
        """Severity of a refusal: a warning for actions that would change something, else information."""
        return "warning" if self.writes or self.id == "undo" else "information"

    @property
    def key_text(self) -> str:
        """The first key as people write it; empty without one."""
        return key_name(self.keys[0]) if self.keys else ""


_NAMES = {
    "question_mark": "?",
    "full_stop": ".",
    "slash": "/",
    "minus": "-",
    "colon": ":",
    "asterisk": "*",
    "exclamation_mark": "!",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "escape": "esc",
}


def key_name(key: str) -> str:
    """`ctrl+s` as `^s`, `question_mark` as `?`, `f2` as `F2`."""
    if key.startswith("ctrl+"):
        return f"^{key[5:]}"
    if len(key) > 1 and key[0] == "f" and key[1:].isdigit():
        return key.upper()
    return _NAMES.get(key, key)


def key_while_typing(action: Action) -> str:
    """The action's first key that works in a text field, as people write it; empty if all its keys type characters."""
    return next((key_name(key) for key in action.keys if not _is_character(key)), "")


def _is_character(key: str) -> bool:
    return len(key) == 1 or key == "space" or (key in _NAMES and key != "escape")


def _needs(name: str, otherwise: str) -> Reason:
    """Require this part of the context; `otherwise` is the refusal."""
    return lambda context: "" if getattr(context, name) else otherwise


_needs_row = _needs("row", "nothing is selected")
_needs_marks = _needs("marked", "nothing is marked: space marks")
_needs_pending = _needs("pending", "nothing is new")
_needs_session = _needs("session_status", "no session is selected")
_needs_field = _needs("field", "no field has the focus")
_needs_folded = _needs("folded", "there is no call here whose arguments are folded")
_needs_list = _needs("in_list", "no list of rows has the focus")
_needs_list_below = _needs("list_below", "there is no list of rows here or below")
_needs_typed = _needs("discardable", "nothing has been typed")
_needs_held = _needs("held", "nothing is pending: every confirmed answer was sent")
_needs_batch = _needs("batch_running", "nothing is being sent")
_needs_unsent = _needs("unsent", "the batch was sent")
_needs_looked_at = _needs(
    "looked_at", "^t first shows a wait's text, and then this leaves it out; not in the review"
)


def _needs_open_wait(context: ActionContext) -> str:
    return context.wait_over or ("" if context.wait else "no wait is selected")


def _needs_open_wait_or_own_answer(context: ActionContext) -> str:
    return "" if context.own_answer else _needs_open_wait(context)


def _needs_call(context: ActionContext) -> str:
    no_call = "only a call that an agent asks about can be allowed for a while"
    return _needs_open_wait(context) or ("" if context.call else no_call)


def _is_filled(context: ActionContext) -> bool:
    return context.has_form and not context.reviewing


def _needs_open_session(context: ActionContext) -> str:
    if context.session_status in (None, SessionStatus.OPEN):
        return _needs_session(context)
    return f"the session is {context.session_status}"


def _says(name: str) -> Reason:
    """Refuse with the text in this part of the context."""
    return lambda context: str(getattr(context, name))


def _needs_retryable(context: ActionContext) -> str:
    if context.run_status is None:
        return "no run is selected"
    if context.run_status not in (RunStatus.BLOCKED, RunStatus.FAILED):
        return (
            f"only failed and blocked runs can be retried; this one is {context.run_status.value}"
        )
    return "" if context.run_is_newest else "only the newest run of a session can be retried"


def _needs_bulk(verb: BulkVerb, failed: str) -> Reason:
    """Require that at least one marked session takes the verb; without marks, the one under the cursor."""

    def reason(context: ActionContext) -> str:
        which = "none of the marked" if context.marked else "it is not one that"
        return "" if verb in context.bulk else f"{which} {failed}"

    return reason


_A, _L, _W, _S = ActionScope.ANYWHERE, ActionScope.LIST, ActionScope.WAITS, ActionScope.SESSION
_T, _R, _F = ActionScope.TRANSCRIPT, ActionScope.RUNS, ActionScope.FORM

# fmt: off
ACTIONS: list[Action] = [
    # --- anywhere
    Action("area.inbox", _A, ("1",), "Inbox", "Waits a person can answer, soonest end first."),
    Action("area.sessions", _A, ("2",), "Sessions", "All sessions, newest activity first."),
    Action("area.activity", _A, ("3",), "Activity", "Who did what."),
    Action("area.system", _A, ("4",), "System", "Gateway, pool, ledger, limits, versions."),
    Action("failed", _A, ("exclamation_mark",), "Failed",
           "Sessions whose newest run failed or is blocked."),
    Action("palette", _A, ("ctrl+p", "colon"), "Commands", "Find a command, wait or session.", 90),
    Action("help", _A, ("question_mark", "f1"), "Help",
           "Help for what has the focus, and all keys.", 80),
    Action("back", _A, ("escape",), "Back",
           "Close what is open; else clear the marks; else clear the filter.", 15,
           shown_when=lambda context: context.composing),
    Action("last", _A, ("minus",), "Last view", "Go back to the area before this one."),
    Action("merge", _A, ("full_stop",), "Merge",
           "Take new and gone rows into the list; the cursor stays on its row.", 60,
           reason=_needs_pending, shown_when=lambda context: bool(context.pending)),
    Action("pause", _A, ("p",), "Pause",
           "Hold back new rows, or let them in again.", 70,
           shown_when=lambda context: not context.composing),
    Action("refresh", _A, ("r",), "Refresh",
           "Ask the gateway again now.", 5, shown_when=lambda context: not context.live),
    Action("zoom", _A, ("Z",), "Zoom",
           "Give the pane beside the list the whole screen, or take it back."),
    Action("copy", _A, ("y",), "Copy",
           "Copy an id, the JSON or the CLI command that does the same.", 55,
           shown_when=lambda context: not context.composing),
    Action("undo", _A, ("u", "f5"), "Undo",
           "Undo the last confirmed answer while it is pending: nothing of it is sent, and it becomes a draft.", 12,
           reason=_needs_held, shown_when=lambda context: bool(context.held)),
    Action("lost", _A, ("L",), "Conflicts",
           "Your pending answers to waits that someone else answered first: their answer beside yours.", 13,
           reason=_needs("lost", "no answer of yours conflicts with another"),
           shown_when=lambda context: bool(context.lost) and not context.composing),
    Action("theme", _A, (), "Next theme", "Change the colours."),
    Action("quit", _A, ("q", "ctrl+q"), "Quit", "Leave. Drafts are kept."),
    # --- lists
    Action("list.down", _L, ("j",), "Down", "Next row; the arrow keys work too."),
    Action("list.up", _L, ("k",), "Up", "Row above."),
    Action("list.first", _L, ("g", "home"), "First", "First row."),
    Action("list.last", _L, ("G", "end"), "Last", "Last row; a transcript follows from there."),
    Action("open", _L, ("enter",), "Open", "Open what is under the cursor.", 10, reason=_needs_row),
    Action("filter", _L, ("slash",), "Filter", "Filter the list; in a transcript, search.", 40),
    Action("sort", _L, ("s",), "Sort", "Sort by the next column."),
    Action("sort.reverse", _L, ("S",), "Reverse", "Reverse the order."),
    Action("layout", ActionScope.AREA, ("W",), "Layout",
           "The pane beside the list, wider, below it, or not at all."),
    Action("since", ActionScope.AREA, ("h",), "Since last here",
           "What was answered, ended or failed since you were last here, and by whom."),
    # --- marks
    Action("mark", ActionScope.MARKS, ("space",), "Mark",
           "Mark or unmark this row and go to the next. Marks stay when the filter changes.", 30,
           reason=_needs_row),
    Action("mark.range", ActionScope.MARKS, ("V",), "Mark to here",
           "Mark from the last mark to here.", reason=_needs_row),
    Action("mark.all", ActionScope.MARKS, ("asterisk",), "Mark all", "Mark all rows shown; asks above 50."),
    # --- inbox
    Action("answer", _W, ("a",), "Answer",
           "Open the form for exactly this wait. Nothing is sent before its review.", 20,
           writes=True, reason=_needs_open_wait),
    Action("next", _W, ("n",), "One by one",
           "Answer one wait after the other, from this one on, soonest end first.", 45,
           writes=True, reason=_needs_open_wait),
    Action("batch", _W, ("B",), "Answer marked",
           "One form for all marked waits of one schema; reviewed, then sent one by one in the background.", 25,
           writes=True, dangerous=True, reason=_needs_marks,
           shown_when=lambda context: bool(context.marked)),
    Action("batch.seen", _W, ("v",), "Last batch",
           "How far the batch is that is being sent, and what became of each answer; F8 stops it there.", 26,
           reason=_needs("has_batch", "no batch was sent from here"),
           shown_when=lambda context: context.batch_running),
    Action("group", _W, ("b",), "Group",
           "Group by stream, task, tag or assignee, or not at all. Space on a heading marks its group."),
    Action("session", _W, ("o",), "Session",
           "Open the session of this wait.", 50, reason=_needs_row),
    Action("filter.pick", _W, ("f",), "Filters",
           "Pick a filter by its name: mine, unassigned, and the saved ones."),
    Action("filter.save", _W, ("F",), "Save filter",
           "Save the filter under a name; if there is no filter, delete a saved one by its name."),
    Action("over", _W, ("e",), "Ended waits", "Show or hide waits that ended in the last hour."),
    # --- with a wait
    Action("claim", ActionScope.ONE_WAIT, ("c",), "Claim",
           "Claim this wait for 15 minutes, or release it. On your own answer: amend it.",
           46, writes=True, reason=_needs_open_wait_or_own_answer),
    Action("delegate", ActionScope.ONE_WAIT, ("d",), "Delegate",
           "Assign this wait to someone from now on.", 47,
           writes=True, reason=_needs_open_wait),
    Action("grant", ActionScope.ONE_WAIT, ("A",), "Allow for a while",
           "Approve this call of an agent, and allow calls like it for a while.", 22,
           writes=True, reason=_needs_call, shown_when=lambda context: context.call),
    Action("snooze", ActionScope.ONE_WAIT, ("z",), "Snooze",
           "Snooze this wait for a while, for you alone; is:snoozed shows what you snoozed.", 48,
           reason=_needs_open_wait),
    # --- sessions
    Action("sessions.retry", ActionScope.SESSIONS, ("R",), "Retry",
           "Start the next attempt of the marked sessions that failed or are blocked, else of this one.",
           25, writes=True, dangerous=True, reason=_needs_bulk(BulkVerb.RETRY, "failed or is blocked"),
           shown_when=lambda context: BulkVerb.RETRY in context.bulk),
    Action("sessions.cancel", ActionScope.SESSIONS, (), "Cancel runs",
           "Cancel the runs of the marked sessions, else of this one; the sessions stay open.",
           writes=True, dangerous=True, reason=_needs_bulk(BulkVerb.CANCEL, "has a run that goes on")),
    Action("sessions.close", ActionScope.SESSIONS, (), "Close sessions",
           "Close the marked sessions that have no active run or wait for input, else this one.",
           writes=True, dangerous=True, reason=_needs_bulk(BulkVerb.CLOSE, "is idle or waits for input")),
    Action("sessions.prune", ActionScope.SESSIONS, (), "Prune sessions",
           "Remove the marked sessions that ended a day ago from the ledger, else this one; needs the role admin.",
           writes=True, dangerous=True, reason=_needs_bulk(BulkVerb.PRUNE, "ended a day ago")),
    # --- session
    Action("tab.next", _S, ("right_square_bracket",), "Next tab", "Transcript, Waits, Runs, Raw."),
    Action("tab.previous", _S, ("left_square_bracket",), "Previous tab", "The tab before."),
    Action("session.answer", _S, ("a",), "Answer",
           "Answer the session's active wait.", 20, writes=True, reason=_needs_open_wait),
    Action("correct", _S, ("c",), "Correct",
           "Correct something at this entry: amend the answer, rewind to here, or fork here.", 30,
           reason=_needs_session),
    Action("amend", _S, (), "Amend answer",
           "Give this answered wait another answer; first shows what runs again.", writes=True,
           dangerous=True, reason=_says("not_amendable")),
    Action("rewind", _S, (), "Rewind to here",
           "Take the run back to before this; first shows what runs again.", writes=True,
           dangerous=True, reason=_says("not_rewindable")),
    Action("fork", _S, (), "Fork here",
           "Start a session that begins with this one's past up to here.", writes=True,
           reason=_says("not_forkable")),
    Action("origin", _S, ("o",), "Related",
           "Its parent, its children, the origin of a fork, its forks. On a line that names a session: that one.",
           reason=_needs_session),
    Action("attempts", _S, ("D",), "Attempts",
           "Two attempts of the run side by side, op by op.", reason=_needs_session),
    Action("send", _S, ("i",), "Input",
           "Send input to a stream of this session, even if no wait asks for it.", 32, writes=True,
           reason=_needs_open_session),
    Action("note", _S, ("m",), "Note",
           "Write a note into the transcript.", 35, writes=True, reason=_needs_session),
    Action("session.cancel", _S, ("X",), "Cancel session",
           "Cancel the session, its run and its waits; asks for the id.", writes=True,
           dangerous=True, reason=_needs_open_session),
    Action("session.close", _S, (), "Close session",
           "Close the session: no more input. Asks for the id.", writes=True, dangerous=True,
           reason=_needs_open_session),
    # --- transcript
    Action("fold", _T, ("f",), "Fold", "Unfold or fold the entries on screen."),
    Action("times", _T, ("t",), "Times", "Clock, age, or time since the entry before."),
    Action("wrap", _T, ("w",), "Wrap", "Wrap long lines of unfolded entries, or cut them."),
    Action("aside", _T, ("e",), "Set aside", "Fold or show what rewinds have set aside."),
    Action("match.next", _T, ("n",), "Next match", "Next entry with the searched text."),
    Action("match.previous", _T, ("N",), "Previous match", "The match before."),
    Action("entry.mark", _T, ("space",), "Mark", "Mark this entry to compare it with another."),
    Action("diff", _T, ("d",), "Diff",
           "Compare this entry with the marked one.", 40, reason=_needs_row),
    # --- runs
    Action("run.retry", _R, ("R",), "Retry run",
           "Start the next attempt of a failed or blocked run; first shows what is set aside.", 25,
           writes=True, dangerous=True, reason=_needs_retryable),
    # --- system
    Action("notices", ActionScope.SYSTEM, ("n",), "Notices",
           "Where notices go, and how far each target is.", 21),
    Action("notice.retry", ActionScope.NOTICES, ("R",), "Retry",
           "Send again now what the target has not taken; asks first.", 20, writes=True, reason=_needs_row),
    # --- forms
    Action("review", _F, ("ctrl+s",), "Review",
           "Show the exact JSON and what it causes; pressed again, send it. Without free text: send it, with undo.", 10,
           writes=True),
    Action("raw", _F, ("f2",), "JSON", "The answer as JSON, or as a form again; in the review, its values as text.", 20,
           shown_when=lambda context: context.has_form),
    Action("arguments", _F, ("e",), "Arguments",
           "Change what a tool is called with; until then the call stands above, and its fields are folded.",
           reason=_needs_folded),
    Action("context", _F, ("f3",), "Transcript", "Show or hide the last entries.", 30,
           shown_when=lambda context: context.has_form and context.is_narrow),
    Action("editor", _F, ("f4",), "Editor", "Edit this text in $EDITOR.", 40, reason=_needs_field,
           shown_when=_is_filled),
    Action("blank", _F, ("ctrl+n",), "Not sent",
           "For an optional field: not sent, empty or null, three different answers. For JSON, an example to change.",
           50, reason=_needs_field, shown_when=_is_filled),
    Action("reset", _F, ("ctrl+r",), "Reset",
           "Give the field the value that it had before anything was typed, in this form or its draft.", 60,
           reason=_needs_field, shown_when=_is_filled),
    Action("row.add", _F, ("ctrl+o",), "Add row",
           "Add a row after this one; above a list, at its end.", 22, reason=_needs_list_below,
           shown_when=lambda context: context.list_below),
    Action("row.remove", _F, ("ctrl+g",), "Remove row",
           "In a list of rows: remove this one; on the line below the rows, the last one.", 23,
           reason=_needs_list, shown_when=lambda context: context.in_list),
    Action("row.up", _F, ("ctrl+up", "alt+up"), "Row up",
           "In a list of rows: move this one up.", reason=_needs_list),
    Action("row.down", _F, ("ctrl+down", "alt+down"), "Row down",
           "In a list of rows: move this one down.", reason=_needs_list),
    Action("discard", _F, ("f9",), "Discard",
           "Throw the draft away and begin with an empty form; once more brings it back.", 65,
           reason=_needs_typed, shown_when=_is_filled),
    Action("as.last", ActionScope.ANSWER, ("ctrl+l",), "As last time",
           "Fill the form with your last answer to a wait like this one; shows what that changes, and sends nothing.",
           49,
           shown_when=lambda context: not context.reviewing),
    Action("dry_run", ActionScope.ANSWER, ("ctrl+t",), "What if",
           "What the run would do with this answer, up to the next step, wait or token; nothing is sent or stored.", 35,
           shown_when=lambda context: not context.reviewing),
    # --- attempts
    Action("pair.older", ActionScope.ATTEMPTS, ("left_square_bracket",), "Older",
           "The two attempts before these.", 20),
    Action("pair.newer", ActionScope.ATTEMPTS, ("right_square_bracket",), "Newer",
           "The two attempts after these.", 21),
    # --- one by one
    Action("skip", ActionScope.ONE_BY_ONE, ("s", "f8"), "Skip",
           "Go to the next wait; what you entered is kept as a draft.", 12),
    # --- batch
    Action("look", ActionScope.BATCH, ("ctrl+t",), "Text",
           "Show the question and text of the next wait of the batch, unusual ones first; after the last one, "
           "the list again.", 15, reason=_needs_unsent, shown_when=lambda context: context.unsent),
    Action("leave.out", ActionScope.BATCH, ("ctrl+l",), "Leave out",
           "Leave the wait whose text is shown out of the batch.", 16, reason=_needs_looked_at,
           shown_when=lambda context: context.looked_at),
    Action("stop", ActionScope.BATCH, ("f8",), "Stop",
           "Stop before the next answer.", 20, reason=_needs_batch),
]
# fmt: on

BY_ID = {action.id: action for action in ACTIONS}
_FIRST_OF_SYSTEM = next(one for one in ACTIONS if one.scope is ActionScope.SYSTEM)


def add(found: Sequence[Action]) -> None:
    """Have a feature's actions in the table, behind those of features before it, ahead of the kernel's in System."""
    place = ACTIONS.index(_FIRST_OF_SYSTEM)
    ACTIONS[place:place] = found
    BY_ID.update({action.id: action for action in found})


def scopes() -> list[str]:
    """All of them in the order of the help: what features bring stands behind the System area."""
    of_features = [one.scope for one in ACTIONS if not isinstance(one.scope, ActionScope)]
    place = [*ActionScope].index(ActionScope.SYSTEM) + 1
    return [*[*ActionScope][:place], *dict.fromkeys(of_features), *[*ActionScope][place:]]


def keys_of(action_id: str, chosen: Mapping[str, str]) -> frozenset[str]:
    """The keys of an action; the user's own replace those of the table."""
    own = chosen.get(action_id)
    return frozenset(own.split(",")) if own is not None else frozenset(BY_ID[action_id].keys)


def in_scopes(scopes: Iterable[str]) -> tuple[Action, ...]:
    """The actions of these scopes, in table order."""
    wanted = set(scopes)
    return tuple(action for action in ACTIONS if action.scope in wanted)


def footer(scopes: Iterable[str], context: ActionContext) -> list[tuple[Action, bool]]:
    """Return the footer's actions, most important first; False marks one that can't run now."""
    shown = [
        action
        for action in in_scopes(scopes)
        if action.rank and (action.shown_when is None or action.shown_when(context))
    ]
    return [(action, not action.refusal(context)) for action in sorted(shown, key=lambda a: a.rank)]


def key_table() -> str:
    """The key table of the docs, as Markdown."""
    lines: list[str] = []
    for scope in scopes():
        actions = in_scopes([scope])
        if not actions:
            continue
        lines += [f"### {scope}", "", "| key | action | what it does |", "|---|---|---|"]
        for action in actions:
            keys = " ".join(f"`{key_name(key)}`" for key in action.keys) or "palette"
            effect = " **Sends.**" if action.writes and action.dangerous else ""
            lines.append(f"| {keys} | {action.label} | {action.help}{effect} |")
        lines.append("")
    return "\n".join(lines).replace("`|`", "`\\|`")


class NotPermitted(Exception):
    """The action can't be done now; the text says why."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The gate's pass for one action; `client` sends it with an operation id, so repeats are safe (S-61)."""

    action_id: str
    client: AsyncClient


def permit(action_id: str, context: ActionContext, client: AsyncClient) -> Permit:
    """Let a writing action through, or say why not.

    Raises:
        NotPermitted: With the reason that the footer's key gives too.
    """
    action = BY_ID[action_id]
    if not action.writes:
        raise NotPermitted(f"{action_id} is not an action that writes")
    reason = action.refusal(context)
    if reason:
        raise NotPermitted(reason)
    return Permit(action_id, client)
