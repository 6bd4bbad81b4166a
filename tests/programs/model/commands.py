"""Random sequences of commands: made along the naive model, so that most of them meet something that is there.

A command is a kind and its arguments, whose names are the model's. A sequence is a list of them; a command of a shrunk
one that names what is no longer there is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.programs.model.naive import PEOPLE as THERE
from tests.programs.model.naive import STREAMS, TASKS, Model, Unknown
from tests.programs.model.random_code import CODE_MAX, PEOPLE, SHORT_MS, Scripts, Times
from tests.programs.model.things import PublicToken, Session, Wait

SENTS = ("a", "b", " a ", None, None)
PASSES_MS = 5_000
"""What passes by itself between two commands of a real runtime: longer than all short timeouts of a tree of runs."""

CLAIMS = (777, 40_777)
"""How long claims last. The product tells claims apart by microseconds: none ends just when something else is due."""

COMMANDS = 25
ONCE = (
    "advance",
    "delay",
    "nothing",
    "read",
    "rewind",
    "amend",
    "claim",
    "release",
    "prune",
    "withdraw",
    "disable",
    "enable",
    "regroup",
    "preview",
    "bulk",
)
"""Not asked again: a correction begins with a look, which is refused then; the others have no operation."""

GROUPS: tuple[list[str], ...] = (
    ["finance"],
    ["finance"],
    ["finance", "contractors"],
    ["legal"],
    [],
)

DAY_MS = 86_400_000

SESSIONS_MAX = 4
FORKS_MAX = 3
"""More sessions than these are not forked."""


@dataclass(frozen=True)
class Command:
    """One command."""

    kind: str
    args: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(f'{k}={v!r}' for k, v in self.args.items())})"


class Generator:
    """One sequence, command by command. `made` may be asked of a model that has met all of it so far."""

    def __init__(self, seed: int, times: Times) -> None:
        self.random = Random(seed)
        self.times = times
        self.scripts = Scripts(self.random, times)
        self.model = Model()
        self.redelivers: list[str] = []
        """Sessions that a sender tries again: they have left memory meanwhile."""
        self.is_shown = False
        """A batch was shown, and not begun yet (S-124)."""
        self.batch: list[Command] = []
        """What is left to do of it."""

    def sequence(self, count: int) -> list[Command]:
        """So many commands."""
        commands: list[Command] = []
        while len(commands) < count:
            command = self.next()
            commands.append(command)
            self.model.do(command.kind, command.args)
            if not self.times.advances:
                self.model.do("advance", {"ms": PASSES_MS})
        return commands

    def next(self) -> Command:
        """The next one."""
        if self.batch and self.chance(0.5):
            command = self.batch.pop(0)
            if command.args["batch"].startswith(self.today("b")):
                return command
        pick = self.random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        if self.redelivers and self.chance(0.6):
            pick = "send"
        if self.is_shown and self.chance(0.6):
            pick, self.is_shown = "bulk", False
        args: dict[str, Any] | None = getattr(self, pick)() if self.model.sessions else self.start()
        kind = pick if self.model.sessions else "start"
        while args is None:
            return self.next()
        if kind not in ONCE and "operation" not in args and self.random.random() < 0.2:
            args["operation"] = f"{self.today('o')}{self.random.randrange(4)}"
        return Command(kind, args)

    def today(self, letter: str) -> str:
        """How names of operations begin: they are known for a day, and perhaps longer."""
        return f"{letter}{self.model.now // DAY_MS}."

    # --- commands ---------------------------------------------------------------------------------

    def session(self) -> str:
        """One, rather an open one."""
        sessions = list(self.model.sessions.values())
        is_open = [one for one in sessions if one.status == "open"]
        return self.random.choice(is_open if is_open and self.chance(0.8) else sessions).id

    def chance(self, part: float) -> bool:
        """Seldom or often."""
        return self.random.random() < part

    def data(self) -> Any:
        """Two that fit, one that seldom does."""
        return "x" if self.chance(0.2) else self.random.randrange(2)

    def start(self) -> dict[str, Any] | None:
        """A new session, or one that is there."""
        if len(self.model.own()) >= SESSIONS_MAX and self.chance(0.8):
            return None
        tokens = [name for name in self.model.tokens if not self.model.is_gone(name)]
        given = [name for name in tokens if self.chance(0.5)]
        task = "nothing" if self.chance(0.02) else self.random.choice(TASKS)
        code: Any = "nonsense" if self.chance(0.03) else self.scripts.code(len(given))
        args: dict[str, Any] = {"task": task, "code": code, "tokens": given}
        known = [one for one in self.model.sessions.values() if one.external_id or one.key]
        if known and self.chance(0.4):
            as_that = self.random.choice(known)
            args = dict(zip(("task", "code", "tokens"), as_that.asked, strict=True))
            if any(self.model.is_gone(name) for name in args["tokens"]):
                return None
        if self.chance(0.4):
            args["external_id"] = f"e{self.random.randrange(2)}"
        if self.chance(0.2):
            args["key"] = f"k{self.random.randrange(2)}"
        return {**args, **self.person()} if self.chance(0.3) else args

    def send(self) -> dict[str, Any]:
        """Rather what is waited for."""
        is_again = bool(self.redelivers)
        session = self.redelivers.pop() if is_again else self.session()
        stream = "nothing" if self.chance(0.03) else self.random.choice(STREAMS)
        wait = self.model.sessions[session].wait
        if wait is not None and wait.stream is not None and self.chance(0.6):
            stream = wait.stream
        args: dict[str, Any] = {"session": session, "stream": stream, "data": self.data()}
        correlation = self.random.choice(SENTS)
        if wait is not None and self.chance(0.4):
            correlation = wait.correlation
        if correlation is not None:
            args["correlation"] = correlation
        if self.chance(0.8 if is_again else 0.3):
            args |= self.keyed(self.model.sessions[session])
        sending = self.public()
        if sending and self.chance(0.4):
            public = self.random.choice(sending)
            args["public"] = public.id
            if public.session is not None and self.chance(0.8):
                args |= {"session": public.session, "stream": public.stream}
        return args

    def keyed(self, session: Session) -> dict[str, Any]:
        """A key; often one that the session knows, with what came under it, on the same stream or on another."""
        if not session.keys or self.chance(0.4):
            return {"key": f"k{self.random.randrange(2)}"}
        (stream, key), (data, _) = self.random.choice(list(session.keys.items()))
        other = stream if self.chance(0.5) else self.random.choice(STREAMS)
        return {"stream": other, "key": key, "data": data}

    def answer(self) -> dict[str, Any] | None:
        """Rather one that is pending."""
        waits = [w for s in self.model.sessions.values() for w in s.waits]
        pending = [w for w in waits if w.status == "pending"]
        if not waits:
            return None
        voted = [w for w in pending if w.votes]
        wait = self.random.choice(pending if pending and self.chance(0.8) else waits)
        if voted and self.chance(0.5):
            wait = self.random.choice(voted)
        args = {"wait": wait.id, "data": self.said(wait), **self.somebody(wait)}
        if self.times.has_people and self.chance(0.1 if wait.who is not None else 0.01):
            args["why"] = "on leave"
        return {**args, "override": True} if self.chance(0.1) else args

    def said(self, wait: Wait) -> Any:
        """An answer; where people must agree, rather what somebody stands for."""
        if wait.who is None:
            return self.data()
        said = self.random.choice(wait.votes)[1] if wait.votes and self.chance(0.7) else self.data()
        if wait.who.comments and (isinstance(said, dict) or self.chance(0.6)):
            decision = "yes" if self.chance(0.7) else "no"
            if isinstance(said, dict):
                decision = said["decision"]
            return {"decision": decision, "why": self.random.randrange(2)}
        return said

    def somebody(self, wait: Wait) -> dict[str, Any]:
        """For whom a call is made, or by whom; often for nobody."""
        if self.chance(0.8 if wait.who is not None else 0.2) and (person := self.person()):
            return person
        return {"by": self.random.choice(PEOPLE)} if self.chance(0.5) else {}

    def person(self) -> dict[str, Any]:
        """Who is proven, by one of two keys; seldom with groups that are old or not known."""
        if not self.times.has_people:
            return {}
        allowed = [one for one in THERE if one not in self.model.disabled]
        me = self.random.choice(allowed if allowed and self.chance(0.8) else list(THERE))
        args = {"me": me, "via": self.random.choice(["key_1", "key_2"])}
        return (
            {**args, "groups": self.random.choice(["old", "unknown"])} if self.chance(0.1) else args
        )

    def withdraw(self) -> dict[str, Any] | None:
        """Rather a vote that is there."""
        waits = [w for s in self.model.sessions.values() for w in s.waits]
        voted = [w for w in waits if w.votes and w.status == "pending"]
        if voted and self.chance(0.8):
            wait = self.random.choice(voted)
            person = self.person()
            return {"wait": wait.id, **person, "me": wait.votes[-1][0]} if person else None
        restricted = [w for w in waits if w.who is not None]
        return {"wait": self.random.choice(restricted).id, **self.person()} if restricted else None

    def disable(self) -> dict[str, Any] | None:
        """Rather one who has voted, or holds something."""
        if not self.times.has_people:
            return None
        waits = [s.wait for s in self.model.sessions.values() if s.wait is not None]
        voters = [name for wait in waits for name, _ in wait.votes]
        return {
            "person": self.random.choice(voters if voters and self.chance(0.7) else list(THERE))
        }

    def enable(self) -> dict[str, Any] | None:
        """Rather one who is disabled."""
        return {"person": self.random.choice(self.model.disabled)} if self.model.disabled else None

    def regroup(self) -> dict[str, Any] | None:
        """Somebody changes places."""
        if not self.times.has_people:
            return None
        return {"person": self.random.choice(list(THERE)), "names": self.random.choice(GROUPS)}

    def claim(self) -> dict[str, Any] | None:
        """Rather a wait that is pending."""
        released = self.release()
        if released is None:
            return None
        args = dict(released)
        if self.times.advances and self.chance(0.5):
            args["expires_in"] = self.random.choice(CLAIMS)
        return {**args, "override": True} if self.chance(0.3) else args

    def release(self) -> dict[str, Any] | None:
        """Rather a wait that somebody is at."""
        waits = [w for s in self.model.sessions.values() for w in s.waits]
        claimed = [w for w in waits if w.claim is not None and w.status == "pending"]
        if claimed and self.chance(0.6):
            wait = self.random.choice(claimed)
            return {"wait": wait.id, **self.somebody(wait)}
        answered = self.answer()
        if answered is None:
            return None
        _, wait = self.model.wait_named(answered["wait"])
        return {"wait": wait.id, **self.somebody(wait)}

    def link(self) -> dict[str, Any] | None:
        """Rather for a wait that is pending."""
        answered = self.answer()
        if answered is None:
            return None
        args = {"wait": answered["wait"], "person": self.random.choice(PEOPLE)}
        if self.times.advances and self.chance(0.3):
            args["expires_in"] = self.scripts.timeout()
        return args

    def answer_link(self) -> dict[str, Any] | None:
        """Rather one whose wait is pending."""
        found = self.unlink()
        return found and {**found, "data": self.data()}

    def unlink(self) -> dict[str, Any] | None:
        """Rather one whose wait is pending."""
        links = [one for one in self.model.public_tokens.values() if one.wait is not None]
        pending = [
            one for one in links if self.model.wait_named(str(one.wait))[1].status == "pending"
        ]
        chosen = pending if pending and self.chance(0.7) else links
        return {"link": self.random.choice(chosen).id} if chosen else None

    def assign(self) -> dict[str, Any] | None:
        """Rather a wait that is pending."""
        answered = self.answer()
        return answered and {
            "wait": answered["wait"],
            "assignee": self.random.choice([*PEOPLE, None]),
        }

    def run(self) -> dict[str, Any]:
        """The next run."""
        idle = [s.id for s in self.model.sessions.values() if not s.run.is_active]
        session = self.random.choice(idle) if idle and self.chance(0.8) else self.session()
        who = self.person() if self.chance(0.2) else {}
        if self.chance(0.4):
            return {"session": session, **who}
        return {
            "session": session,
            "code": "nonsense" if self.chance(0.1) else self.scripts.code(0),
            **who,
        }

    def some_run(self, wanted: Callable[[Session], bool]) -> dict[str, Any]:
        """Rather the newest of a session that is as wanted."""
        fitting = [s for s in self.model.sessions.values() if wanted(s)]
        if fitting and self.chance(0.8):
            return {"run": self.random.choice(fitting).run.id}
        runs = [r for s in self.model.sessions.values() for r in s.runs]
        return {"run": self.random.choice(runs).id}

    def cancel_run(self) -> dict[str, Any]:
        """Rather one that is active."""
        return self.seen(self.some_run(lambda session: session.run.is_active))

    def retry(self) -> dict[str, Any]:
        """Rather one that can be."""
        failed = ("failed", "blocked")
        return self.seen(self.some_run(lambda session: session.run.status in failed))

    def seen(self, args: dict[str, Any]) -> dict[str, Any]:
        """Perhaps at an attempt that was seen."""
        _, run = self.model.run_named(args["run"])
        seen = max(1, run.attempt + self.random.choice([0, 0, -1, 1]))
        return {**args, "attempt": seen} if self.chance(0.5) else args

    def preview(self) -> dict[str, Any]:
        """Many as a batch, rather what some can take: of all sessions, or of some that are named."""
        there = [one for one in self.model.sessions.values() if not one.is_gone]
        is_open = [one for one in there if one.status == "open"]
        verb = self.random.choice(["retry", "cancel", "close"])
        if any(self.model.takes(one, "retry", end_input=False) for one in is_open):
            verb = "retry" if self.chance(0.8) else verb
        args = {
            "batch": f"{self.today('b')}{len(self.model.plans)}",
            "verb": verb,
            "end_input": verb == "close" and self.chance(0.6),
        }
        self.is_shown = True
        named = [one.id for one in there if self.chance(0.7)]
        return {**args, "sessions": named} if named and self.chance(0.5) else args

    def bulk(self) -> dict[str, Any] | None:
        """What a batch shows. Who does it ends in the middle, and another does it again from its beginning."""
        today = [one for one in self.model.plans if one.startswith(self.today("b"))]
        batch = today[-1] if today and self.chance(0.8) else self.random.choice(today or [""])
        shown = self.model.plans[batch][-1] if batch else []
        if not shown:
            return None
        places = [*range(len(shown))]
        parts = [places[: self.random.randrange(len(shown) + 1)], places]
        if any(self.is_tied(session) for session, _, _ in shown):
            # What is done to one changes others, and a real runtime does some at a time.
            parts = [[place] for part in parts for place in part]
        commands = [Command("bulk", {"batch": batch, "runs": part}) for part in parts if part]
        self.batch = commands[1:]
        return commands[0].args

    def is_tied(self, name: str) -> bool:
        """Whether what is done to the session may reach others, by tokens or as parent or child."""
        session = self.model.sessions[name]
        made = any(isinstance(one, str) for run in session.runs for one in run.outcomes.values())
        return made or session.parent is not None or any(run.tokens for run in session.runs)

    def rewind(self) -> dict[str, Any]:
        """Rather a newest run, to an op that it has."""
        run = self.some_run(lambda session: bool(session.run.opened))["run"]
        _, one = self.model.run_named(run)
        ops = one.opened if one.opened and self.chance(0.9) else range(1, CODE_MAX + 1)
        return {"run": run, "op": self.random.choice(ops), "keep": self.chance(0.8)}

    def amend(self) -> dict[str, Any] | None:
        """Rather a wait that had an answer."""
        waits = [w for s in self.model.sessions.values() for w in s.waits]
        ended = [w for w in waits if w.status in ("fulfilled", "timed_out") and not w.is_set_aside]
        if not waits:
            return None
        wait = self.random.choice(ended if ended and self.chance(0.9) else waits)
        args = {"wait": wait.id, "data": self.said(wait), "keep": self.chance(0.8)}
        return {**args, **self.answering(wait)}

    def answering(self, wait: Wait | None) -> dict[str, Any]:
        """Who answers otherwise than by answering."""
        if wait is None or not self.times.has_people:
            return {}
        if wait.who is not None and self.chance(0.15):
            return {"why": "a slip"}
        return self.person() if self.chance(0.7 if wait.who is not None else 0.1) else {}

    def fork(self) -> dict[str, Any] | None:
        """Rather of a newest run, from an op that it has; mostly with an answer, if it is a wait."""
        sessions = list(self.model.sessions.values())
        if len(self.model.own()) >= SESSIONS_MAX + FORKS_MAX:
            return None
        begun = [one for one in sessions if one.run.opened]
        origin = self.random.choice(begun if begun and self.chance(0.9) else sessions)
        opened = origin.run.opened
        op = self.random.choice(opened if opened and self.chance(0.9) else range(1, CODE_MAX + 1))
        asked = [w for w in origin.waits if (w.run, w.op) == (origin.run.id, op)]
        wait = asked[-1] if asked else None
        args: dict[str, Any] = {"session": origin.id, "op": op, "answer": ()}
        if self.chance(0.7 if asked else 0.1):
            args["answer"] = (self.said(wait) if wait is not None else self.data(),)
        return {**args, **self.answering(wait)}

    def note(self) -> dict[str, Any]:
        """A note."""
        return {"session": self.session(), "text": "seen"}

    def close(self) -> dict[str, Any]:
        """Close one."""
        return {"session": self.session(), "end_input": self.chance(0.6)}

    def cancel(self) -> dict[str, Any]:
        """Cancel one."""
        return {"session": self.session()}

    def create_token(self) -> dict[str, Any]:
        """A client's token."""
        return {"timeout": self.scripts.timeout(), "is_integer": self.chance(0.3)}

    def token(self) -> str | None:
        """One, rather one that is pending."""
        tokens = list(self.model.tokens.values())
        pending = [one for one in tokens if one.status == "pending"]
        chosen = pending if pending and self.chance(0.7) else tokens
        return self.random.choice(chosen).id if chosen else None

    def complete(self) -> dict[str, Any] | None:
        """Complete one, sometimes by a public token."""
        token = self.token()
        if token is None:
            return None
        args: dict[str, Any] = {"token": token, "data": self.data()}
        public = self.public()
        if public and self.chance(0.4):
            one = self.random.choice(public)
            args["public"] = one.id
            if one.token is not None and self.chance(0.8):
                args["token"] = one.token
        return args

    def cancel_token(self) -> dict[str, Any] | None:
        """Cancel one."""
        token = self.token()
        return {"token": token} if token is not None else None

    def create_public(self) -> dict[str, Any]:
        """A public token for a stream or a token."""
        args: dict[str, Any] = {}
        token = self.token()
        if token is not None and self.chance(0.4):
            args["token"] = token
        else:
            stream = "nothing" if self.chance(0.03) else self.random.choice(STREAMS)
            args |= {"session": self.session(), "stream": stream}
            if self.chance(0.3):
                args["correlation"] = self.random.choice(["a", "b"])
        if self.chance(0.6):
            args["max_uses"] = self.random.choice([1, 1, 2])
        if self.times.advances and self.chance(0.3):
            args["expires_in"] = self.scripts.timeout()
        return args

    def revoke(self) -> dict[str, Any] | None:
        """Revoke one."""
        public = self.public()
        return {"public": self.random.choice(public).id} if public else None

    def public(self) -> list[PublicToken]:
        """Those that a client made, and has the secrets of."""
        return [one for one in self.model.public_tokens.values() if one.id.startswith("p")]

    def prune(self) -> dict[str, Any] | None:
        """Rather when something is old; not while code may name what would go."""
        found = self.model.prunable(DAY_MS)
        if not found and self.chance(0.8):
            return None
        going = [one.id for one in found]
        for session in self.model.sessions.values():
            if session.id in going or session.is_gone:
                continue
            for run in session.runs:
                named = [
                    *run.tokens,
                    *(one for one in run.outcomes.values() if isinstance(one, str)),
                ]
                if any(name.partition(".")[0] in going for name in named):
                    return None
        return {"older_than": DAY_MS}

    def nothing(self) -> dict[str, Any]:
        """Park a session or kill what holds it; what was sent is often sent again then."""
        session = self.session()
        if self.model.sessions[session].keys:
            self.redelivers = [session, session]
        return {"session": session, "how": self.random.choice(["park", "kill"])}

    def advance(self) -> dict[str, Any] | None:
        """Let time pass."""
        if not self.times.advances:
            return None
        is_over = any(
            one.status != "open" and not one.is_gone for one in self.model.sessions.values()
        )
        if is_over and self.chance(0.15):
            return {"ms": self.random.choice([DAY_MS, DAY_MS + SHORT_MS])}
        return {"ms": self.random.choice(self.times.advances)}

    def delay(self) -> dict[str, Any] | None:
        """Let time pass, and the clock be late."""
        return self.advance() if self.times.is_late else None


_WEIGHTS = {
    "start": 12,
    "send": 24,
    "answer": 14,
    "link": 6,
    "answer_link": 8,
    "unlink": 2,
    "claim": 8,
    "release": 3,
    "assign": 4,
    "run": 8,
    "cancel_run": 3,
    "retry": 5,
    "preview": 6,
    "bulk": 3,
    "rewind": 5,
    "amend": 6,
    "fork": 5,
    "note": 2,
    "close": 3,
    "cancel": 2,
    "create_token": 5,
    "complete": 9,
    "cancel_token": 2,
    "create_public": 6,
    "revoke": 2,
    "prune": 6,
    "nothing": 6,
    "advance": 9,
    "delay": 5,
    "withdraw": 3,
    "disable": 2,
    "enable": 5,
    "regroup": 2,
}


def met(model: Model, command: Command) -> Any:
    """What the model answers, None if the command names what is not there."""
    try:
        return model.do(command.kind, command.args)
    except Unknown:
        return None


def kinds() -> Sequence[str]:
    """Every kind of command there is."""
    return tuple(_WEIGHTS)
