"""The contract once more, from the rules alone: lists searched from the front, no index, no fold, no replay log.

Nothing of the runtime is imported. Time is a number of milliseconds. Ids are names: `s0` the first session of a
client, `s0c0` the first child that its code started, `s0.r1` its second run, `s0.w3` its fourth wait, `s0.t0` the first
token that its code made and `s0.p0` the first public token, `t0` the first token of a client, `p0` its first public
token, `l0` its first answer link. Code is what `script.py` says, walked from its beginning each time it goes on: an op
whose outcome is recorded gives it, the first without one is asked for.

`do` gives the receipt or the code of the refusal, `entries` of a session are its transcript: (kind, run, op, who,
what matters of the body, when). Left out is what says where a session lived: `run.resumed`, `run.actor_died`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from tests.programs.model.things import (
    CALLER,
    RUNTIME,
    TASK,
    Answerers,
    Claim,
    End,
    Output,
    Parent,
    Person,
    PublicToken,
    Receipt,
    Record,
    Run,
    Session,
    Token,
    Wait,
    Who,
    copied,
    like,
)

STREAMS = ("numbers", "chat")
RETRIES = {"retries": 2}
BACKOFF_MS = 50
AFTER_PUBLIC_MS = 30 * 86_400_000
LINK_MS = 7 * 86_400_000
CLAIM_MS = 900_000
OWN = {
    "session": "session_not_found",
    "run": "run_not_found",
    "wait": "wait_not_found",
    "token": "token_not_found",
    "public": "key_not_found",
    "link": "key_not_found",
}
"""What commands name that may be a session's own, and how it is told that it is not there."""

NOT_ASKED = ("by", "override", "me", "via", "groups", "why")
"""How a call is made, and not what it asks for."""

PEOPLE = {"ada": ("finance",), "bob": ("finance", "contractors"), "cy": ()}
"""Who there is, and their groups at the issuer at first."""

IN_FILE = {"ada": (), "bob": ("legal",), "cy": ("contractors",)}
"""Their groups of the file, which admit and exclude whatever is known of the issuer's."""

ON_IDLE = {"runs": "run", "rejects": "reject"}
NOTICES = {
    "wait.opened": "wait.opened",
    "wait.reminded": "wait.reminded",
    "wait.assigned": "wait.assigned",
    "wait.fulfilled": "wait.resolved",
    "wait.cancelled": "wait.resolved",
    "wait.timed_out": "wait.timed_out",
    "run.failed": "run.failed",
    "run.blocked": "run.blocked",
}
"""What people are told of, by kind of entry."""

TASKS = ("keeps", "runs", "rejects", "closes", "retries")


class Refused(Exception):
    """A command that leaves nothing; `args[0]` is its code."""


class Unknown(Exception):
    """The sequence names what is not there: a shrunk one may."""


class Model:
    """Everything there is, and what each command does to it."""

    def __init__(self) -> None:
        self.now = 0
        self.who: Who = CALLER
        self.sessions: dict[str, Session] = {}
        self.tokens: dict[str, Token] = {}
        self.public_tokens: dict[str, PublicToken] = {}
        self.operations: dict[str, tuple[Any, Receipt]] = {}
        self.is_forgotten = False
        """What was done is not remembered: it came to nothing."""
        self.before: dict[tuple[str, int], Session] = {}
        """Sessions as they were when a run asked for an op, for forks."""
        self.plans: dict[str, tuple[str, bool, list[tuple[str, str, int]]]] = {}
        """Batches by name, as they were shown: what is done, whether input is ended, and to which session, run and
        attempt. Who was shown one keeps it."""
        self.groups: dict[str, tuple[str, ...]] = dict(PEOPLE)
        self.disabled: list[str] = []
        self.person: Person | None = None
        """Who calls, if that is proven."""

    # --- commands ---------------------------------------------------------------------------------

    def do(self, kind: str, args: dict[str, Any]) -> Receipt | str:
        """The receipt, or the code of the refusal.

        Raises:
            Unknown: It names what is not there.
        """
        args = dict(args)
        operation = args.pop("operation", None)
        self.check_names(args)
        if args.get("correlation") is not None:
            args["correlation"] = args["correlation"].strip() or None
        secret = args.get("public", args.get("link"))
        public = self.one(self.public_tokens, secret) if secret is not None else None
        is_user = public is not None and kind not in ("revoke", "unlink")
        who: Who = public.who if public is not None and is_user else CALLER
        me, groups = args.pop("me", None), args.pop("groups", "now")
        args.pop("via", None)  # one person, whatever they come with
        if me is not None:
            who = (f"person {me}", me)
        request = {name: args[name] for name in args if name not in NOT_ASKED}
        asked = (who, kind, sorted(request.items()))
        on_token: Receipt = {}
        if kind in ("answer", "answer_link"):  # of a wait on a token is the token's completion
            _, wait = self.wait_named(public.wait if public is not None else args["wait"])
            if wait.token is not None:
                on_token = {"wait": wait.id, "run": wait.run}
                asked = (who, "complete", [("data", args["data"]), ("token", wait.token)])
        try:
            if me in self.disabled:  # the gateway lets nobody else in (S-117)
                raise Refused("person_disabled")
            if public is not None and is_user:
                self.let_in(public, kind, args)
            self.needs_there(kind, args)
            if operation in self.operations:  # before any state check (S-61)
                first, receipt = self.operations[operation]
                if first != asked:
                    raise Refused("operation_conflict")
                if kind == "cancel_run":  # is answered by the run as it is now
                    on_token = {"status": self.run_named(args["run"])[1].status}
                return {**receipt, **on_token}
            before, self.is_forgotten = self.size(), False
            by = args.pop("by", None)
            self.who = who if by is None else (f"caller for {by}", by)
            known = self.groups[me] if me is not None and groups == "now" else None
            self.person = Person(me, known, IN_FILE[me]) if me is not None else None
            receipt = getattr(self, f"do_{kind}")(**args)
        except Refused as refused:
            return str(refused.args[0])
        if operation is not None and self.size() != before and not self.is_forgotten:
            self.operations[operation] = (asked, receipt)
        return {**receipt, **on_token}

    def size(self) -> tuple[Any, ...]:
        """What changes whenever a command leaves something."""
        ended = [t.status for t in self.tokens.values()]
        dead = [p.is_revoked for p in self.public_tokens.values()]
        return [len(s.entries) for s in self.sessions.values()], ended, dead

    def one(self, things: dict[str, Any], name: str) -> Any:
        if name not in things:
            raise Unknown(name)
        return things[name]

    def check_names(self, args: dict[str, Any]) -> None:
        """All that is named is there."""
        if "session" in args:
            self.one(self.sessions, args["session"])
        if "run" in args:
            self.run_named(args["run"])
        if "wait" in args:
            self.wait_named(args["wait"])
        for name in (*args.get("tokens", ()), *([args["token"]] if "token" in args else ())):
            self.one(self.tokens, name)
        if any(self.is_gone(name) for name in args.get("tokens", ())):
            raise Unknown("tokens")

    def is_gone(self, name: str) -> bool:
        """A session that was pruned, or what was its own."""
        public = self.public_tokens.get(name)
        of = public.session if public is not None else name.partition(".")[0]
        return of in self.sessions and self.sessions[of].is_gone

    def needs_there(self, kind: str, args: dict[str, Any]) -> None:
        """What was pruned is not found (S-69); that it is not there changes nothing that went wrong."""
        gone = [name for name in OWN if name in args and self.is_gone(args[name])]
        if gone and kind != "nothing":
            raise Refused(OWN[gone[0]])

    def wait_named(self, name: str) -> tuple[Session, Wait]:
        session = self.one(self.sessions, name.partition(".")[0])
        return session, self.one({w.id: w for w in session.waits}, name)

    def run_named(self, name: str) -> tuple[Session, Run]:
        session = self.one(self.sessions, name.partition(".")[0])
        return session, self.one({r.id: r for r in session.runs}, name)

    def let_in(self, public: PublicToken, kind: str, args: dict[str, Any]) -> None:
        """S-44, S-46: first whether it is good at all, then whether it is for this."""
        is_over = public.is_revoked or self.now >= public.expires_at or self.is_gone(public.id)
        if is_over or public.person in self.disabled:
            raise Refused("not_found" if kind == "answer_link" else "unauthenticated")
        if kind == "answer_link":
            return
        if kind == "send":
            if (public.session, public.stream) != (args["session"], args["stream"]):
                raise Refused("scope_denied")
            if public.correlation is not None:
                if args.get("correlation") not in (None, public.correlation):
                    raise Refused("scope_denied")
                args["correlation"] = public.correlation
        elif kind == "read" or public.token != args["token"]:
            raise Refused("scope_denied")

    def spend(self, name: str | None) -> None:
        if name is None:
            return
        public = self.public_tokens[name]
        if public.max_uses is not None and public.uses >= public.max_uses:
            raise Refused("token_exhausted")
        public.uses += 1

    def do_start(
        self,
        *,
        task: str,
        code: Any,
        tokens: list[str],
        external_id: str | None = None,
        key: str | None = None,
    ) -> Receipt:
        """S-2, S-4."""
        if task not in TASKS:
            raise Refused("task_not_found")
        if not isinstance(code, list):
            raise Refused("schema_mismatch")
        asked = (task, code, tokens)
        there = [session for session in self.sessions.values() if not session.is_gone]
        for session in there:
            if key is not None and session.key == key:
                if session.asked != asked:
                    raise Refused("idempotency_conflict")
                return {"session": session.id, "run": session.runs[0].id, "created": False}
        for session in reversed(there):  # the newest, if a rewind opened another
            is_named = external_id is not None and session.external_id == external_id
            if is_named and session.status == "open":
                if session.asked != asked:
                    raise Refused("external_id_conflict")
                return {"session": session.id, "run": session.run.id, "created": False}
        session = Session(f"s{len(self.own())}", task, external_id, key, asked)
        run = self.begin(session, code, tokens, self.who)
        return {"session": session.id, "run": run.id, "created": True}

    def said(self, who: Who) -> list[str]:
        """The person whom a caller is or speaks for."""
        return [who[1]] if who[1] in self.groups else []

    def own(self) -> list[Session]:
        """The sessions that clients made."""
        return [one for one in self.sessions.values() if one.parent is None]

    def begin(self, session: Session, code: list[Any], tokens: list[str], who: Who) -> Run:
        self.sessions[session.id] = session
        session.starters = [*session.starters, *self.said(who)]
        self.log(session, "session.created", who=who)
        run = self.new_run(session, code, tokens, "start", who)
        self.go_on(session)
        return run

    def do_send(
        self,
        *,
        session: str,
        stream: str,
        data: Any,
        correlation: str | None = None,
        key: str | None = None,
        public: str | None = None,
    ) -> Receipt:
        """S-20 to S-28."""
        to = self.one(self.sessions, session)
        if key is not None and (stream, key) in to.keys:
            first, receipt = to.keys[stream, key]
            if first != data:
                raise Refused("idempotency_conflict")
            return {**receipt, "duplicate": True}
        self.accepts(to, stream, data)
        if public is not None:
            self.spend(public)
        wait = to.wait
        if wait is not None and wait.kind not in ("token", "session"):
            self.pass_time(to, wait, self.now)
        receipt = self.accept(to, stream, data, correlation, self.who)
        if key is not None:
            to.keys[stream, key] = (data, receipt)
        if public is not None:
            self.log(to, "public_token.spent", self.public_tokens[public].uses, who=self.who)
        if not to.run.is_active and ON_IDLE.get(to.task) == "run":
            to.records[-1].has_started_run = True
            self.new_run(to, to.run.code, to.run.tokens, "record", RUNTIME)
        self.go_on(to)
        return receipt

    def accepts(self, to: Session, stream: str, data: Any) -> None:
        if to.status != "open":
            raise Refused("session_terminal")
        if stream not in STREAMS:
            raise Refused("stream_not_found")
        if stream == "numbers" and not isinstance(data, int):
            raise Refused("schema_mismatch")
        if not to.run.is_active and ON_IDLE.get(to.task) == "reject":
            raise Refused("idle_input_rejected")

    def accept(
        self,
        to: Session,
        stream: str,
        data: Any,
        correlation: str | None,
        who: Who,
        *,
        answers: Wait | None = None,
        told: tuple[Any, ...] = (),
    ) -> Receipt:
        """S-22 to S-25. `answers`: this wait takes it, whatever it is; `told` of who has answered."""
        seq = 1 + len([r for r in to.records if r.stream == stream])
        wait = to.wait
        starts_run = not to.run.is_active and ON_IDLE.get(to.task) == "run"
        there = [w for w in to.waits if w.run == to.run.id and not w.is_set_aside]
        mine = [w for w in there if w.takes(stream, correlation)]
        if wait is not None and (wait is answers or wait.takes(stream, correlation)):
            outcome = "fulfilled"
        elif not starts_run and mine and mine[-1].status == "timed_out":
            outcome = "late"
        elif wait is not None and wait.stream == stream:
            outcome = "unmatched"
        else:
            outcome = "buffered"
        taken_by = wait if outcome == "fulfilled" else None
        name = taken_by.id if taken_by is not None else None
        record = Record(stream, seq, data, correlation)
        to.records.append(record)
        self.log(to, "input.accepted", stream, seq, data, correlation, outcome, name, who=who)
        if taken_by is not None:
            self.take(to, taken_by, record, who, *told)
        return {
            "record": f"{stream}#{seq}",
            "outcome": outcome,
            "duplicate": False,
            "wait": name,
            "run": taken_by.run if taken_by is not None else None,
        }

    def do_answer(
        self, *, wait: str, data: Any, override: bool = False, why: str | None = None
    ) -> Receipt:
        """S-18, S-81."""
        return self.answer(wait, data, override=override, why=why)

    def answer(
        self,
        wait: str,
        data: Any,
        *,
        override: bool = False,
        claims: bool = True,
        why: str | None = None,
    ) -> Receipt:
        """`claims`: another's claim is in the way. `why`: an admin answers in place of those who may."""
        session, one = self.wait_named(wait)
        if one.status == "timed_out":
            raise Refused("wait_timed_out")
        if one.status != "pending":
            raise Refused("wait_resolved")
        if one.kind in ("timer", "session"):
            raise Refused("bad_request")
        if one.token is not None:
            if why is not None:
                raise Refused("bad_request")
            token = self.tokens[one.token]
            if self.now >= token.expires_at:
                raise Refused("wait_timed_out")
            if token.is_integer and not isinstance(data, int):
                raise Refused("schema_mismatch")
            if one.default_by is not None and self.now >= one.default_by:
                raise Refused("wait_resolved")
            if self.is_due(one):
                raise Refused("wait_timed_out")
            if claims:
                self.needs_unclaimed(one, override=override)
            return {"token": token.id, "outcome": self.complete(token, data, self.who, None)}
        assert one.stream is not None
        if one.stream == "numbers" and not isinstance(data, int):
            raise Refused("schema_mismatch")
        told: tuple[Any, ...] = ()
        if not self.is_over(one):
            told = self.admitted(one, why)
            if claims:
                self.needs_unclaimed(one, override=override)
        self.pass_time(session, one, self.now)
        if one.status != "pending":
            self.go_on(session)
            raise Refused("wait_timed_out" if one.status == "timed_out" else "wait_resolved")
        if claims and self.is_anothers(one):
            self.say_claims(session)
            self.end_claim(one, "overridden", self.who, self.now)
        if self.person is not None and one.who is not None and one.who.approvals > 1:
            have = self.vote(session, one, self.person, data)
            if have < one.who.approvals and not one.who.refuses(data):
                return {"wait": wait, "outcome": "voted", "have": have, "need": one.who.approvals}
            told += (have,) if not one.who.refuses(data) else ()
        receipt = self.accept(
            session, one.stream, data, one.correlation, self.who, answers=one, told=told
        )
        self.go_on(session)
        return receipt

    def admitted(self, one: Wait, why: str | None) -> tuple[Any, ...]:
        """What the wait's end says of who answers it (S-112)."""
        if one.who is None:
            if why is not None:
                raise Refused("bad_request")
            return ()
        if why is not None:
            is_excluded = self.who[1] in one.who.excluded(one.starters)
            if is_excluded or self.person is not None or self.who[0].startswith("link"):
                raise Refused("not_an_answerer")
            return (why,)
        admits = one.who.admits(self.person, one.starters) if self.person is not None else False
        if admits is None:
            raise Refused("groups_unknown")
        if not admits or self.person is None:
            raise Refused("not_an_answerer")
        return (self.person.name,)

    def vote(self, session: Session, one: Wait, person: Person, data: Any) -> int:
        """How many people stand for this with theirs; too few are a vote (S-113)."""
        assert one.who is not None
        proposal = one.who.proposal(data)
        others = [(name, what) for name, what in one.votes if name != person.name]
        have = 1 + len([what for _, what in others if what == proposal])
        if have < one.who.approvals and not one.who.refuses(data):
            if one.claim is not None and self.now < one.claim.until and one.claim.by == self.who:
                self.say_claims(session)
                self.end_claim(one, "released", self.who, self.now)
            one.votes = [*others, (person.name, proposal)]
            told = (data, person.name, have, one.who.approvals, [name for name, _ in others])
            self.log(session, "wait.voted", *told, who=self.who, run=session.run, op=one.op)
        return have

    def do_withdraw(self, *, wait: str) -> Receipt:
        """S-113: without a vote, or of nobody, nothing changes."""
        session, one = self.wait_named(wait)
        self.is_forgotten = True  # it has no operation
        person = self.person.name if self.person is not None else ""
        have = self.withdraw(session, one, person, "taken_back")
        need = one.who.approvals if one.who is not None else 1
        return {"wait": wait, "outcome": "withdrawn", "have": have, "need": need}

    def withdraw(self, session: Session, one: Wait, person: str, reason: str) -> int:
        """How many stand for the newest proposal then."""
        if one.status == "timed_out":
            raise Refused("wait_timed_out")
        if one.status != "pending":
            raise Refused("wait_resolved")
        self.pass_time(session, one, self.now)
        if one.status != "pending":
            self.go_on(session)
            raise Refused("wait_timed_out" if one.status == "timed_out" else "wait_resolved")
        left = [(name, what) for name, what in one.votes if name != person]
        have = len([what for _, what in left if what == left[-1][1]])
        if left != one.votes:
            assert one.who is not None
            one.votes = left
            told = (person, reason, have, one.who.approvals)
            run = session.run
            self.log(session, "wait.vote_withdrawn", *told, who=self.who, run=run, op=one.op)
        return have

    def do_disable(self, *, person: str) -> Receipt:
        """S-117: nothing of theirs is stored any more, and what they hold is given back."""
        if person not in self.disabled:
            self.disabled.append(person)
        waiting = [(session, session.wait) for session in self.sessions.values()]
        pending = [(s, w) for s, w in waiting if w is not None and not s.is_gone]
        for session, one in pending:
            if any(name == person for name, _ in one.votes):
                with suppress(Refused):  # it was over
                    self.withdraw(session, one, person, "disabled")
        for _, one in pending:
            if one.claim is not None and one.claim.by[1] == person and one.status == "pending":
                self.lapse(one)
                if one.claim is not None:
                    self.end_claim(one, "released", self.who, self.now)
        for link in self.public_tokens.values():
            if link.person == person and not self.is_gone(link.id):
                self.do_unlink(link=link.id)
        for _, one in pending:
            if one.assignee == person and one.status == "pending":
                with suppress(Refused):  # time has ended it
                    self.do_assign(wait=one.id, assignee=None)
        return {"person": person}

    def do_enable(self, *, person: str) -> Receipt:
        """S-117: what disabling has ended stays ended."""
        self.disabled = [one for one in self.disabled if one != person]
        return {"person": person}

    def do_regroup(self, *, person: str, names: list[str]) -> Receipt:
        """They are in these groups from now on; what was said of them stays said."""
        self.groups[person] = tuple(names)
        return {}

    def do_link(self, *, wait: str, person: str, expires_in: int | None = None) -> Receipt:
        """S-74; it is good until the wait's deadline, for seven days at most."""
        session, one = self.wait_named(wait)
        if one.status != "pending":
            raise Refused("wait_resolved")
        if one.kind in ("timer", "session"):
            raise Refused("bad_request")
        made = [known for known in self.public_tokens if known.startswith("l")]
        ends = [self.now + LINK_MS]
        ends += [self.now + expires_in] if expires_in is not None else []
        ends += [one.ends_at] if one.ends_at is not None else []
        link = PublicToken(f"l{len(made)}", session.id, None, None, None, None, min(ends))
        link.wait, link.person = wait, person
        self.public_tokens[link.id] = link
        self.log(session, "public_token.created", who=self.who)
        return {"link": link.id, "person": person}

    def do_answer_link(self, *, link: str, data: Any) -> Receipt:
        """S-74: an answer as any other."""
        wait = self.public_tokens[link].wait
        assert wait is not None
        return self.answer(wait, data, claims=False)

    def do_unlink(self, *, link: str) -> Receipt:
        """S-74: a link that died with its wait stays as it was."""
        one = self.public_tokens[link]
        session, wait = self.wait_named(str(one.wait))
        if wait.status == "pending" and not one.is_revoked:
            one.is_revoked = True
            self.log(session, "public_token.revoked", who=self.who)
        return {"link": link, "is_live": False}

    def do_claim(self, *, wait: str, override: bool = False, expires_in: int = CLAIM_MS) -> Receipt:
        """S-81; again, by the same person, renews it."""
        _, one = self.wait_named(wait)
        self.needs_waiting(one)
        self.needs_unclaimed(one, override=override)
        self.lapse(one)
        until = self.now + expires_in
        if one.claim is not None and not self.is_anothers(one):
            one.claim.until = until
        else:
            if one.claim is not None:
                self.end_claim(one, "overridden", self.who, self.now)
            one.claim = Claim(self.who, until)
            one.unsaid.append(("wait.claimed", self.who, [self.now, until]))
        return {"wait": wait, "claim": self.who[0]}

    def do_release(self, *, wait: str) -> Receipt:
        """S-81."""
        _, one = self.wait_named(wait)
        self.needs_waiting(one)
        self.needs_unclaimed(one, override=False)
        self.lapse(one)
        if one.claim is not None:
            self.end_claim(one, "released", self.who, self.now)
        return {"wait": wait, "claim": None}

    def needs_waiting(self, one: Wait) -> None:
        """The time counts, whether or not the clock has escalation step."""
        if one.status == "timed_out":
            raise Refused("wait_timed_out")
        if one.status != "pending":
            raise Refused("wait_resolved")
        if one.kind in ("timer", "session"):
            raise Refused("bad_request")
        if one.default_by is not None and self.now >= one.default_by:
            raise Refused("wait_resolved")
        if self.is_due(one):
            raise Refused("wait_timed_out")

    def needs_unclaimed(self, one: Wait, *, override: bool) -> None:
        if self.is_anothers(one) and not override:
            raise Refused("wait_claimed")

    def is_anothers(self, one: Wait) -> bool:
        """Somebody else is at it, now."""
        return one.claim is not None and self.now < one.claim.until and one.claim.by != self.who

    def lapse(self, one: Wait) -> None:
        if one.claim is not None and self.now >= one.claim.until:
            self.end_claim(one, "lapsed", RUNTIME, one.claim.until)

    def end_claim(self, one: Wait, reason: str, who: Who, at: int) -> None:
        one.claim = None
        one.unsaid.append(("wait.claim_ended", who, [reason, at]))

    def say_claims(self, session: Session) -> None:
        """With the session's next entry, before it (S-81)."""
        session.entries += self.unsaid(session)
        if session.wait is not None:
            session.wait.unsaid = []

    def unsaid(self, session: Session) -> list[Any]:
        """What its next entry brings along, also one that is left out here for saying where the session lived."""
        one = session.wait
        if one is None:
            return []
        self.lapse(one)
        return [(kind, one.run, one.op, who[0], told, None) for kind, who, told in one.unsaid]

    def do_assign(self, *, wait: str, assignee: str | None) -> Receipt:
        """S-72; whom it concerns already changes nothing."""
        session, one = self.wait_named(wait)
        if one.status == "timed_out":
            raise Refused("wait_timed_out")
        if one.status != "pending":
            raise Refused("wait_resolved")
        if one.kind in ("timer", "session"):
            raise Refused("bad_request")
        if any(one.escalation_steps[number][0] == "default" for number in one.come(self.now)):
            raise Refused("wait_resolved")
        if self.is_due(one):
            raise Refused("wait_timed_out")
        if session.status != "open":
            raise Refused("session_terminal")
        self.pass_time(session, one, self.now)
        told = [assignee, one.assignee, None]
        self.is_forgotten = assignee == one.assignee
        if not self.is_forgotten:
            one.assignee, one.assigned_at = assignee, None if assignee is None else self.now
            run = session.run
            self.log(session, "wait.assigned", *told, who=self.who, run=run, op=one.op)
        return {"wait": wait, "assignee": assignee}

    def do_run(self, *, session: str, code: Any = None) -> Receipt:
        """S-2; without a payload the newest run's."""
        of = self.one(self.sessions, session)
        if code is not None and not isinstance(code, list):
            raise Refused("schema_mismatch")
        if of.status != "open":
            raise Refused("session_terminal")
        if of.run.is_active:
            raise Refused("run_active")
        tokens = of.run.tokens if code is None else []
        run = self.new_run(of, of.run.code if code is None else code, tokens, "operator", self.who)
        self.go_on(of)
        return {"run": run.id}

    def do_cancel_run(self, *, run: str, attempt: int | None = None) -> Receipt:
        """S-6, S-124."""
        session, one = self.run_named(run)
        if not one.is_active:
            return {"run": run, "status": one.status}
        if attempt not in (None, one.attempt):
            raise Refused("session_changed")
        self.end_ops(session, self.who)
        self.end(session, "cancelled", self.who)
        self.go_on(session)
        return {"run": run, "status": "cancelled"}

    def do_retry(self, *, run: str, attempt: int | None = None) -> Receipt:
        """S-5, S-124."""
        session, one = self.run_named(run)
        if one is not session.run:
            raise Refused("run_not_retryable")
        if session.status != "open":
            raise Refused("session_terminal")
        if one.status not in ("failed", "blocked"):
            raise Refused("run_not_retryable")
        if attempt not in (None, one.attempt):
            raise Refused("session_changed")
        self.log(session, "run.retried", one.attempt + 1, who=self.who, run=one)
        self.next_attempt(one)
        self.go_on(session)
        return {"run": run}

    def do_preview(
        self, *, batch: str, verb: str, end_input: bool, sessions: list[str] | None = None
    ) -> Receipt:
        """S-124: those that can take it, each with the attempt of its newest run; nothing is stored."""
        if sessions is None:
            meant = [one for one in self.sessions.values() if not one.is_gone]
        else:
            meant = [self.one(self.sessions, name) for name in sessions]
        if any(one.is_gone for one in meant):
            raise Refused("session_not_found")
        shown = [
            (one.id, one.run.id, one.run.attempt)
            for one in meant
            if one.status == "open" and self.takes(one, verb, end_input=end_input)
        ]
        self.plans[batch] = (verb, end_input, sorted(shown))
        return {"runs": [[run, attempt] for _, run, attempt in sorted(shown)]}

    def takes(self, one: Session, verb: str, *, end_input: bool) -> bool:
        if verb == "retry":
            return one.run.status in ("failed", "blocked")
        if verb == "cancel":
            return one.run.is_active
        asks = one.wait is not None and one.wait.kind == "input"
        return not one.run.is_active or (end_input and asks)

    def do_bulk(self, *, batch: str, runs: list[int]) -> Receipt:
        """S-124: each of these of the batch once, by an operation of its own, if it is still what was shown."""
        verb, end_input, shown = self.one(self.plans, batch)
        if any(place >= len(shown) for place in runs):
            raise Unknown(batch)
        outcomes = []
        for place in runs:
            session, run, attempt = shown[place]
            args = {"run": run, "attempt": attempt, "operation": f"{batch} {run}"}
            kind = {"cancel": "cancel_run"}.get(verb, verb)
            if verb == "close":
                args |= {"session": session, "end_input": end_input}
            reply = self.do(kind, args)
            if isinstance(reply, str):
                outcomes.append([run, "skipped", reply])
            else:
                wanted = {"cancel": "cancelled", "close": "closed"}.get(verb)
                is_done = reply.get("status") == wanted
                outcomes.append([run, "accepted" if is_done else "skipped", None])
        return {"outcomes": outcomes}

    def do_rewind(self, *, run: str, op: int, keep: bool) -> Receipt:
        """S-75, S-78."""
        session, one = self.run_named(run)
        self.check_rewindable(session, one)
        if op not in one.opened:
            raise Refused("op_not_found")
        self.take_back(session, op, keep)
        self.go_on(session)
        return {"run": run}

    def admitted_alone(self, one: Wait, why: str | None) -> tuple[Any, ...]:
        """As of an answer that one person can give (S-112)."""
        told = self.admitted(one, why)
        if one.who is not None and why is None and one.who.approvals > 1:
            raise Refused("ask_anew")
        return told

    def do_amend(self, *, wait: str, data: Any, keep: bool, why: str | None = None) -> Receipt:
        """S-79."""
        session, one = self.wait_named(wait)
        self.check_rewindable(session, next(r for r in session.runs if r.id == one.run))
        is_there = one.op in session.run.opened and not one.is_set_aside
        is_asked = one.kind in ("input", "token")
        if not is_there or not is_asked or one.status not in ("fulfilled", "timed_out"):
            raise Refused("wait_not_amendable")
        token = self.tokens[one.token] if one.token is not None else None
        is_typed = token is not None and (token.is_integer or one.pinned)
        if (is_typed or one.stream == "numbers") and not isinstance(data, int):
            raise Refused("schema_mismatch")
        told = self.admitted_alone(one, why)
        self.take_back(session, one.op, keep, amended=one, told=told)
        self.hold(session, one, data)
        self.go_on(session)
        return {"run": one.run}

    def hold(self, session: Session, asked: Wait, data: Any) -> None:
        """The next wait of the session that asks this has this answer."""
        if asked.stream is None:
            session.run.held.insert(0, (asked.question, [data]))
            return
        seq = 1 + len([r for r in session.records if r.stream == asked.stream])
        record = Record(asked.stream, seq, data, asked.correlation, is_taken=True)
        session.records.append(record)
        session.run.held.insert(0, (asked.question, record))
        told = (asked.stream, seq, data, asked.correlation, "fulfilled", None)
        self.log(session, "input.accepted", *told, who=self.who)

    def check_rewindable(self, session: Session, run: Run) -> None:
        if run is not session.run:
            raise Refused("run_not_rewindable")
        is_its_own = session.status == "closed" and session.closed_by == run.id
        if session.status != "open" and not is_its_own:
            raise Refused("session_terminal")

    def take_back(
        self,
        session: Session,
        to_op: int,
        keep: bool,
        amended: Wait | None = None,
        told: tuple[Any, ...] = (),
    ) -> None:
        """The op and all behind it are set aside, and so is a wait that is open; answers are held."""
        self.say_claims(session)
        run, wait = session.run, session.wait
        gone = [op for op in run.opened if op >= to_op]
        if wait is not None:
            wait.status = "cancelled"
            self.log(session, "wait.cancelled", "rewound", who=self.who, run=run, op=wait.op)
            gone.append(wait.op)
        held = []
        for one in session.waits:
            if one.run == run.id and one.op in gone and not one.is_set_aside:
                one.is_set_aside = True
                if one.answer is not None and one is not amended:
                    held.append((one.question, one.answer))
        for said in session.outputs:
            said.is_set_aside |= said.run == run.id and said.op in gone
        run.held = [*held, *run.held] if keep else []
        outcomes = [run.outcomes.pop(op, None) for op in gone]
        made = [self.tokens[one] for one in outcomes if isinstance(one, str) and one in self.tokens]
        made = [token for token in made if token.owner == session.id]
        for op in gone:
            public = self.public_tokens.get(run.made_public.pop(op, ""))
            if public is not None and public.session == session.id:
                public.is_revoked = True
        run.opened = [op for op in run.opened if op not in gone]
        run.attempt += 1
        run.first_attempt = run.attempt
        run.status, run.is_started, run.retry_at, run.failed_op = "queued", False, None, None
        session.status, session.closed_by = "open", None
        self.log(session, "run.rewound", run.attempt, to_op, *told, who=self.who, run=run)
        for token in made:
            if token.status == "pending":
                self.end_token(token, "cancelled", self.who)
        self.end_children(session, self.who, lambda of: of.run == run.id and of.op in gone)

    def do_fork(
        self, *, session: str, op: int, answer: tuple[Any, ...] = (), why: str | None = None
    ) -> Receipt:
        """S-86; the answer in a tuple of one, or none."""
        origin = self.one(self.sessions, session)
        if op not in origin.run.opened:
            raise Refused("op_not_found")
        name, run = f"s{len(self.own())}", origin.run
        asked = next(
            (w for w in origin.waits if (w.run, w.op) == (run.id, op) and not w.is_set_aside), None
        )
        told: tuple[Any, ...] = ()
        if answer:
            if asked is None or asked.kind not in ("input", "token"):
                raise Refused("op_not_found")
            token = self.tokens[asked.token] if asked.token is not None else None
            is_typed = token is not None and (token.is_integer or asked.pinned)
            if (is_typed or asked.stream == "numbers") and not isinstance(answer[0], int):
                raise Refused("schema_mismatch")
            told = self.admitted_alone(asked, why)
        made = self.sessions[name] = copied(self.before[run.id, op], name)
        for known in made.run.opened:
            self.before[made.run.id, known] = copied(self.before[run.id, known], name)
        self.log(made, "session.forked", op, *told, who=self.who, run=made.run)
        made.starters = [*made.starters, *self.said(self.who)]
        made.run.status = "running"
        made.run.held = []  # what rewinds kept is the origin's
        if answer and asked is not None:
            self.hold(made, asked, answer[0])
        forked = made.run.id
        self.go_on(made)
        return {"session": name, "run": forked}

    def do_note(self, *, session: str, text: str) -> Receipt:
        self.log(self.one(self.sessions, session), "note.added", text, who=self.who)
        return {}

    def do_close(
        self, *, session: str, end_input: bool, run: str | None = None, attempt: int | None = None
    ) -> Receipt:
        """S-6; of a batch only as it was seen (S-124)."""
        one = self.one(self.sessions, session)
        if one.status != "open":
            return {"status": one.status}
        if run is not None and (run, attempt) != (one.run.id, one.run.attempt):
            raise Refused("session_changed")
        if one.run.is_active:
            wait = one.wait
            if not end_input or wait is None or wait.kind != "input":
                raise Refused("run_active")
            self.resolve(one, wait, "cancelled", "input_ended", who=self.who)
        one.status, one.input_ended = "closed", end_input
        self.log(one, "session.closed", end_input, who=self.who)
        self.go_on(one)
        return {"status": "closed"}

    def do_cancel(self, *, session: str) -> Receipt:
        one = self.one(self.sessions, session)
        if one.status == "open":
            self.cancel(one, self.who)
        return {"status": one.status}

    def cancel(self, one: Session, who: Who) -> None:
        """S-6: with its run, its wait, its children, the tokens that its code made and its public tokens."""
        if one.run.is_active:
            self.end_ops(one, who)
            one.run.status = "cancelled"
            self.log(one, "run.cancelled", who=who, run=one.run)
            self.end_for_others(one, End(self.now, who, ["WaitCancelled"]))
        one.status = "cancelled"
        self.log(one, "session.cancelled", who=who)
        for public in self.public_tokens.values():
            public.is_revoked = public.is_revoked or public.session == one.id
        for token in list(self.tokens.values()):
            if token.owner == one.id and token.status == "pending":
                self.end_token(token, "cancelled", who)
        self.end_children(one, who, lambda of: not of.leaves)

    # --- children ---------------------------------------------------------------------------------

    def end_children(self, of: Session, who: Who, wanted: Callable[[Parent], bool]) -> None:
        """For their parent they have ended; what takes anything more is cancelled."""
        for child in list(self.sessions.values()):
            is_its = child.parent is not None and child.parent.session == of.id
            if is_its and child.end is None and child.parent is not None and wanted(child.parent):
                self.end_for_others(child, End(self.now, who, ["WaitCancelled"]))
                if child.status == "open":
                    self.cancel(child, who)

    def end_for_others(self, child: Session, end: End) -> None:
        """Its first end counts."""
        if child.parent is None or child.end is not None:
            return
        child.end = end
        for session in list(self.sessions.values()):
            wait = session.wait
            if wait is not None and wait.child == child.id:
                self.hear_child(session, wait, end)
                self.go_on(session)

    def hear_child(self, session: Session, wait: Wait, end: End) -> None:
        if wait.deadline is not None and end.at >= wait.deadline:
            self.time_out(session, wait)
        else:
            self.resolve(session, wait, "fulfilled", None, who=end.who)
            session.run.outcomes[wait.op] = end.told

    # --- tokens -----------------------------------------------------------------------------------

    def do_create_token(self, *, timeout: int, is_integer: bool) -> Receipt:
        """S-40."""
        made = len([t for t in self.tokens.values() if t.owner is None])
        token = Token(f"t{made}", None, self.now + timeout, is_integer, is_integer)
        self.tokens[token.id] = token
        return {"token": token.id}

    def do_complete(self, *, token: str, data: Any, public: str | None = None) -> Receipt:
        """S-41."""
        one = self.one(self.tokens, token)
        return {"token": token, "outcome": self.complete(one, data, self.who, public)}

    def complete(self, token: Token, data: Any, who: Who, public: str | None) -> str:
        if token.status == "completed":
            if token.data != data:
                raise Refused("token_completed")
            return "already_completed"
        self.needs_pending(token)
        if token.is_integer and not isinstance(data, int):
            raise Refused("schema_mismatch")
        self.spend(public)
        token.data = data
        self.end_token(token, "completed", who)
        return "completed"

    def needs_pending(self, token: Token) -> None:
        if token.status == "cancelled":
            raise Refused("token_cancelled")
        if token.status == "expired" or self.now >= token.expires_at:
            raise Refused("token_expired")

    def do_cancel_token(self, *, token: str) -> Receipt:
        one = self.one(self.tokens, token)
        if one.status == "completed":
            raise Refused("token_completed")
        if one.status != "cancelled":
            self.needs_pending(one)
            self.end_token(one, "cancelled", self.who)
        return {"token": token, "status": "cancelled"}

    def end_token(self, token: Token, status: str, who: Who) -> None:
        """It ends, and every wait on it (S-40); one whose deadline passed before has timed out (S-14)."""
        token.status, token.ended_at, token.ended_by = status, self.now, who
        for session in list(self.sessions.values()):
            wait = session.wait
            if wait is not None and wait.token == token.id:
                self.hear(session, wait, token)
                self.go_on(session)

    def hear(self, session: Session, wait: Wait, token: Token) -> None:
        self.escalate(session, wait, token.ended_at)
        if wait.status != "pending":
            return
        if wait.deadline is not None and token.ended_at >= wait.deadline:
            self.time_out(session, wait)
        elif token.status == "completed":
            self.resolve(session, wait, "fulfilled", None, who=token.ended_by, gives=token.data)
        elif token.status == "expired":
            self.resolve(session, wait, "timed_out", who=RUNTIME)
        else:
            self.resolve(session, wait, "cancelled", "token_cancelled", who=token.ended_by)

    def do_create_public(
        self,
        *,
        session: str | None = None,
        stream: str | None = None,
        token: str | None = None,
        correlation: str | None = None,
        max_uses: int | None = None,
        expires_in: int = AFTER_PUBLIC_MS,
    ) -> Receipt:
        """S-44."""
        if token is not None:
            if self.one(self.tokens, token).status != "pending":
                raise Refused("conflict")
        elif session is not None:
            self.one(self.sessions, session)
            if stream not in STREAMS:
                raise Refused("stream_not_found")
        made = [known for known in self.public_tokens if known.startswith("p")]
        public = PublicToken(
            f"p{len(made)}",
            session,
            stream,
            token,
            correlation,
            max_uses,
            self.now + expires_in,
        )
        self.public_tokens[public.id] = public
        if session is not None:
            self.log(self.sessions[session], "public_token.created", who=self.who)
        return {"public": public.id}

    def do_revoke(self, *, public: str) -> Receipt:
        one = self.public_tokens[public]
        if not one.is_revoked and one.session is not None:
            self.log(self.sessions[one.session], "public_token.revoked", who=self.who)
        one.is_revoked = True
        return {"public": public}

    # --- what people are told -----------------------------------------------------------------------

    def notices(self) -> dict[str, list[Any]]:
        """By session, in order (S-84): of waits that people answer, of runs in need; nothing that a fork copied."""
        return {one.id: told for one in self.sessions.values() if (told := self.told_of(one))}

    def told_of(self, session: Session) -> list[Any]:
        kinds = [kind for kind, *_ in session.entries]
        copied = (
            len(kinds) - kinds[::-1].index("session.forked") if "session.forked" in kinds else 0
        )
        coming, told = list(session.waits), []
        wait: Wait | None = None
        for place, (kind, run, op, *_) in enumerate(session.entries):
            if kind == "wait.opened":
                wait = coming.pop(0)
            is_wait = kind.startswith("wait.")
            if place < copied or kind not in NOTICES:
                continue
            if not is_wait:
                told.append((NOTICES[kind], run))
            elif wait is not None and wait.kind in ("input", "token"):
                assert (wait.run, wait.op) == (run, op)
                told.append((NOTICES[kind], wait.id))
        return told

    # --- what is old ------------------------------------------------------------------------------

    def do_prune(self, *, older_than: int) -> Receipt:
        """S-69."""
        count = 0
        while found := self.prunable(older_than):
            count += len(found)
            for session in found:
                session.is_gone = True
        return {"sessions": count}

    def prunable(self, older_than: int) -> list[Session]:
        """Sessions that are over for so long, and that nothing which stays refers to."""
        there = [one for one in self.sessions.values() if not one.is_gone]
        found = [one for one in there if self.is_old(one, self.now - older_than)]
        while True:
            going = [one.id for one in found]
            torn = [one for one in there if one.parent and one.parent.session in going]
            keep = [one.parent.session for one in torn if one.parent and one.id not in going]
            keep += [one.id for one in found if one.parent and one.parent.session not in going]
            for token in self.tokens.values():
                is_others = token.pinned_by is not None and token.pinned_by != token.owner
                if is_others and not self.is_gone(token.id):
                    keep.append(str(token.pinned_by))
            if not any(one in keep for one in going):
                return found
            found = [one for one in found if one.id not in keep]

    def is_old(self, one: Session, before: int) -> bool:
        owned = [token for token in self.tokens.values() if token.owner == one.id]
        is_over = one.status != "open" and not one.run.is_active
        is_over = is_over and not any(token.status == "pending" for token in owned)
        return is_over and bool(one.entries[-1][5] < before)

    # --- time -------------------------------------------------------------------------------------

    def do_nothing(self, *, session: str, how: str) -> Receipt:
        """Parking, or the crash of what held the session: nobody can tell."""
        self.one(self.sessions, session)
        return {}

    def do_delay(self, *, ms: int) -> Receipt:
        """Time passes and the clock has not escalation step yet."""
        self.now += ms
        return {}

    def do_advance(self, *, ms: int) -> Receipt:
        """Time passes; what falls due does so in order (S-14)."""
        target = self.now + ms
        while True:
            due = [one for one in self.dues() if one[0] <= target]
            if not due:
                break
            at, thing, session = min(due, key=lambda one: one[0])
            self.now = max(self.now, at)
            if isinstance(thing, Token):
                self.end_token(thing, "expired", RUNTIME)
            elif session is not None:
                if isinstance(thing, Wait):
                    self.pass_time(session, thing, self.now)
                else:
                    thing.retry_at = None
                self.go_on(session)
        self.now = target
        return {}

    def dues(self) -> Iterator[tuple[int, Any, Session | None]]:
        """What the clock will ring for."""
        for session in self.sessions.values():
            wait, run = session.wait, session.run
            if wait is not None and wait.next_escalation is not None:
                yield wait.next_escalation[0], wait, session
            elif wait is not None and wait.deadline is not None:
                yield wait.deadline, wait, session
            if run.status == "queued" and run.retry_at is not None:
                yield run.retry_at, run, session
        for token in self.tokens.values():
            if token.status == "pending":
                yield token.expires_at, token, None

    def is_due(self, wait: Wait) -> bool:
        return wait.deadline is not None and self.now >= wait.deadline

    def is_over(self, wait: Wait) -> bool:
        """Time has ended it, whether or not the clock has escalation step."""
        is_answered = any(
            wait.escalation_steps[number][0] == "default" for number in wait.come(self.now)
        )
        return is_answered or self.is_due(wait)

    def pass_time(self, session: Session, wait: Wait, at: int) -> None:
        """What time has done to a wait by then: escalation steps, then its end (S-14, S-82)."""
        self.escalate(session, wait, at)
        if wait.status == "pending" and wait.deadline is not None and at >= wait.deadline:
            self.time_out(session, wait)

    def escalate(self, session: Session, wait: Wait, at: int) -> None:
        for number in wait.come(at):
            do, _, _, what = wait.escalation_steps[number]
            wait.fire(number, at)
            if do == "default":
                self.answer_by_default(session, wait, what)
            elif do == "remind":
                self.log(session, "wait.reminded", number, run=session.run, op=wait.op)
            else:
                told = (what, wait.assignee, number)
                wait.assignee = what
                self.log(session, "wait.assigned", *told, run=session.run, op=wait.op)

    def answer_by_default(self, session: Session, wait: Wait, value: Any) -> None:
        """As anybody's answer would; a token stays as it is."""
        if wait.stream is None:
            self.resolve(session, wait, "fulfilled", None, who=RUNTIME, gives=value)
        else:
            self.accept(session, wait.stream, value, wait.correlation, RUNTIME, answers=wait)

    def time_out(self, session: Session, wait: Wait) -> None:
        if wait.kind == "timer":
            self.resolve(session, wait, "fulfilled", None, who=RUNTIME)
        else:
            self.resolve(session, wait, "timed_out", who=RUNTIME)

    # --- runs and their code ----------------------------------------------------------------------

    def log(
        self,
        session: Session,
        kind: str,
        *what: Any,
        who: Who = RUNTIME,
        run: Run | None = None,
        op: int | None = None,
    ) -> None:
        """One entry (S-50, S-51)."""
        self.say_claims(session)
        name = run.id if run is not None else None
        session.entries.append((kind, name, op, who[0], list(what), self.now))

    def new_run(
        self, session: Session, code: list[Any], tokens: list[str], by: str, who: Who
    ) -> Run:
        run = Run(f"{session.id}.r{len(session.runs)}", code, tokens)
        run.starters = [*(session.run.starters if by == "run" else ()), *self.said(who)]
        session.runs.append(run)
        self.log(session, "run.created", by, who=who, run=run)
        return run

    def resolve(
        self, session: Session, wait: Wait, status: str, *what: Any, who: Who, gives: Any = None
    ) -> None:
        """A wait leaves `pending` once (S-11); its code sees how."""
        self.say_claims(session)
        run = session.run
        assert wait.status == "pending"
        wait.status = status
        kinds = {"fulfilled": "fulfilled", "timed_out": "timed_out", "cancelled": "cancelled"}
        self.log(session, f"wait.{kinds[status]}", *what, who=who, run=run, op=wait.op)
        given = {"timed_out": ["WaitTimeout"], "cancelled": ["WaitCancelled"]}
        run.outcomes[wait.op] = given.get(status, ["fulfilled", gives])
        if wait.kind == "timer":
            run.outcomes[wait.op] = "slept"
        if run.status == "waiting":
            run.status = "running"

    def take(self, session: Session, wait: Wait, record: Record, who: Who, *told: Any) -> None:
        """S-24."""
        assert not record.is_taken
        record.is_taken = True
        what = f"{record.stream}#{record.seq}"
        wait.answer = record
        self.resolve(session, wait, "fulfilled", what, *told, who=who, gives=record.data)

    def end_ops(self, session: Session, who: Who = RUNTIME) -> None:
        """A run's end cancels its wait (S-10); who cancels the run, cancels it."""
        wait = session.wait
        if wait is not None:
            self.resolve(session, wait, "cancelled", "run_end", who=who)
            session.run.opened.remove(wait.op)  # to be asked for anew
            del session.run.outcomes[wait.op]

    def end(self, session: Session, status: str, who: Who, *what: Any) -> None:
        """The run has ended; what its task says follows (S-1, S-7)."""
        run = session.run
        run.status, run.retry_at = status, None
        self.log(session, f"run.{status}", *what, who=who, run=run)
        told = {"failed": "ChildFailed", "cancelled": ["WaitCancelled"]}
        self.end_for_others(session, End(self.now, who, told.get(status, ["fulfilled", *what])))
        if status == "cancelled":
            self.end_children(session, who, lambda of: of.run == run.id and not of.leaves)
        if session.status != "open":
            return
        if session.task == "closes":
            session.status, session.closed_by = "closed", run.id
            self.log(session, "session.closed", False)
        elif ON_IDLE.get(session.task) == "run":
            for record in session.records:
                if not record.has_started_run and not record.is_taken:
                    record.has_started_run = True
                    self.new_run(session, run.code, run.tokens, "record", RUNTIME)
                    break

    def next_attempt(self, run: Run) -> None:
        """The op that failed the attempt is asked for again, what came before it is not (S-5)."""
        if run.status != "blocked" and run.failed_op is not None:
            del run.outcomes[run.failed_op]
            run.opened.remove(run.failed_op)
        run.attempt += 1
        run.status, run.is_started, run.failed_op = "queued", False, None

    def fail(self, session: Session, error: str, op: int | None) -> None:
        """An exception left the task (S-5)."""
        run = session.run
        run.failed_op = op
        if run.attempt - run.first_attempt >= RETRIES.get(session.task, 0):
            self.end(session, "failed", TASK, error)
            return
        self.log(session, "run.attempt_failed", error, run.attempt + 1, who=TASK, run=run)
        run.retry_at = self.now + BACKOFF_MS * 2 ** (run.attempt - run.first_attempt)
        self.next_attempt(run)

    def go_on(self, session: Session) -> None:
        """Let the code run until it waits or has ended."""
        while session.run.status == "running" or (
            session.run.status == "queued" and session.run.retry_at is None
        ):
            self.execute(session, session.run)

    def execute(self, session: Session, run: Run) -> None:
        """Walk the code from its beginning, as a replay does."""
        if not run.is_started:
            self.log(session, "run.started", run.attempt, run=run)
            run.is_started = True
        run.status = "running"
        seen: list[Any] = []
        made: list[str] = []
        children: list[str] = []
        op = 0
        for instruction in run.code:
            if instruction[0] == "raise":
                self.fail(session, "ValueError", None)
                return
            if instruction[0] == "continue":
                run.status = "succeeded"
                self.log(session, "run.succeeded", None, who=TASK, run=run)
                self.new_run(session, instruction[1], run.tokens, "run", TASK)
                return
            op += 1  # noqa: SIM113 - not every instruction is an op
            if op not in run.outcomes:
                self.ask(session, run, op, instruction, made, children)
            if op not in run.outcomes:
                return
            outcome = run.outcomes[op]
            if instruction[0] == "create":
                made.append(outcome)
                outcome = "created"
            if instruction[0] == "child":
                children.append(outcome)
                outcome = "started"
            if outcome == "ChildFailed":
                if not instruction[3]:
                    self.fail(session, "ChildFailed", op)
                    return
                outcome = ["ChildFailed"]
            if instruction[0] == "await" and self.is_unreadable(instruction, outcome):
                run.status = "blocked"
                self.log(session, "run.blocked", "schema_mismatch", run=run)
                return
            if outcome == "failed" and not instruction[3]:
                self.fail(session, "StepFailed", op)
                return
            seen.append(outcome)
        self.end(session, "succeeded", TASK, seen)

    def is_unreadable(self, instruction: Any, outcome: Any) -> bool:
        """A token was completed with what the code, which pinned a type too late, can't read (S-21, S-43)."""
        return bool(
            instruction[4] and outcome[0] == "fulfilled" and not isinstance(outcome[1], int)
        )

    def ask(
        self,
        session: Session,
        run: Run,
        op: int,
        instruction: Any,
        made: list[str],
        children: list[str],
    ) -> None:
        """The code asks for an op for the first time."""
        name, *rest = instruction
        self.before[run.id, op] = like(session)
        run.opened.append(op)
        match name:
            case "wait" | "await" | "sleep" | "join":
                self.open_wait(session, run, op, instruction, made, children)
            case "child":
                started = [one for one in self.sessions if re.fullmatch(rf"{session.id}c\d+", one)]
                child = f"{session.id}c{len(started)}"
                self.log(
                    session, "step.started", f"sessions.start {rest[0]}", who=TASK, run=run, op=op
                )
                asked = (rest[0], rest[1], run.tokens)
                parent = Parent(session.id, run.id, op, rest[2])
                run.outcomes[op] = child
                self.log(session, "step.succeeded", child, who=TASK, run=run, op=op)
                begun = Session(child, rest[0], None, None, asked, parent)
                begun.starters = [*session.starters, *run.starters]
                self.begin(begun, rest[1], run.tokens, TASK)
            case "create":
                token = Token(
                    f"{session.id}.t{session.tokens_made}",
                    session.id,
                    self.now + rest[0],
                    is_integer=False,
                    asks_for_one=False,
                )
                session.tokens_made += 1
                self.tokens[token.id] = token
                run.outcomes[op] = token.id
                self.log(session, "token.created", who=TASK, run=run, op=op)
            case "public":
                mine = [p for p in self.public_tokens if p.startswith(f"{session.id}.p")]
                public = PublicToken(
                    f"{session.id}.p{len(mine)}",
                    session.id,
                    rest[0],
                    None,
                    None,
                    None,
                    self.now + AFTER_PUBLIC_MS,
                )
                self.public_tokens[public.id] = public
                run.made_public[op] = public.id
                run.outcomes[op] = "created"
                self.log(session, "public_token.created", who=TASK, run=run, op=op)
            case "step":
                run.outcomes[op] = self.step(session, run, op, *rest[:2])
            case "output":
                session.outputs.append(Output(rest[0], run.id, op))
                run.outcomes[op] = "appended"
                seq = len(session.outputs)
                self.log(session, "output.appended", seq, rest[0], who=TASK, run=run, op=op)
            case "peek":
                there = [r for r in session.records if r.stream == rest[0] and not r.is_taken]
                run.outcomes[op] = [r.data for r in there]
                self.log(session, "peek.read", [r.seq for r in there], who=TASK, run=run, op=op)
            case "history":
                run.outcomes[op] = [o.data for o in session.outputs if not o.is_set_aside][
                    -rest[0] :
                ]
                self.log(session, "history.read", len(session.outputs), who=TASK, run=run, op=op)
            case "clock":
                run.outcomes[op] = "read"
                self.log(session, "clock.read", who=TASK, run=run, op=op)
            case _:
                raise AssertionError(name)

    def step(self, session: Session, run: Run, op: int, bad_tries: int, bad_attempts: int) -> Any:
        """Two tries (S-33)."""
        self.log(session, "step.started", "work", who=TASK, run=run, op=op)
        for tries in (1, 2):
            if tries > bad_tries and run.attempt > bad_attempts:
                self.log(session, "step.succeeded", tries, who=TASK, run=run, op=op)
                return tries
            if tries == 1:
                self.log(session, "step.try_failed", who=TASK, run=run, op=op)
        self.log(session, "step.failed", who=TASK, run=run, op=op)
        return "failed"

    def open_wait(
        self,
        session: Session,
        run: Run,
        op: int,
        instruction: Any,
        made: list[str],
        children: list[str],
    ) -> None:
        """S-10 to S-16: what is there already satisfies it at once."""
        kind, *rest = instruction
        name = f"{session.id}.w{len(session.waits)}"
        wait = Wait(name, run.id, op, "timer", None, None, None, None)
        if kind == "sleep":
            wait.deadline = self.now + rest[0]
        elif kind == "join":
            wait.kind, wait.child = "session", children[rest[0]]
            wait.deadline = self.now + rest[1] if rest[1] else None
        else:
            wait.kind = "input" if kind == "wait" else "token"
            wait.deadline = self.now + rest[2] if kind == "wait" and rest[2] else None
        token = None
        if kind == "wait":
            wait.stream, wait.correlation = rest[0], rest[1]
        elif kind == "await":
            wait.token = (run.tokens if rest[0] == "given" else made)[rest[1]]
            token = self.tokens[wait.token]
            if rest[2] is not None and self.now + rest[2] < token.expires_at:
                wait.deadline = self.now + rest[2]
            wait.pinned, wait.asks_for_one = rest[3], rest[3] or token.asks_for_one
            if rest[3] and token.status == "pending":
                token.is_integer, token.pinned_by = True, session.id
        desk = rest[3] if kind == "wait" else rest[-1] if kind == "await" else None
        if desk is not None:
            wait.assignee, wait.escalation_steps = desk
        if kind == "wait" and rest[4:] and rest[4] is not None:
            wait.who, wait.starters = Answerers(**rest[4]), [*session.starters, *run.starters]
        wait.opened_at = self.now
        wait.assigned_at = self.now if wait.assignee is not None else None
        wait.ends_at = wait.deadline
        if wait.deadline is None and token is not None:
            wait.ends_at = token.expires_at
        session.waits.append(wait)
        run.status = "waiting"
        deadline = wait.deadline if wait.kind != "token" else None
        opened = (wait.kind, wait.stream, wait.correlation, deadline)
        self.log(session, "wait.opened", *opened, who=TASK, run=run, op=op)
        kept = next((one for one in run.held if one[0] == wait.question), None)
        if kept is not None:
            run.held.remove(kept)
            wait.deadline, wait.answer = None, kept[1]
            is_record = isinstance(wait.answer, Record)
            what = f"{wait.answer.stream}#{wait.answer.seq}" if is_record else None
            gives = wait.answer.data if is_record else wait.answer[0]
            self.resolve(session, wait, "fulfilled", what, who=RUNTIME, gives=gives)
        elif token is not None and token.status != "pending":
            wait.deadline = None
            self.hear(session, wait, token)
        elif wait.child is not None and (end := self.sessions[wait.child].end) is not None:
            wait.deadline = None
            self.hear_child(session, wait, end)
        for record in session.records:
            is_there = wait.kind == "input" and not record.is_taken and wait.status == "pending"
            if is_there and wait.takes(record.stream, record.correlation):
                self.take(session, wait, record, RUNTIME)
        if wait.kind == "input" and wait.status == "pending" and session.input_ended:
            self.resolve(session, wait, "cancelled", "input_ended", who=RUNTIME)
