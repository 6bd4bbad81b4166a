"""What a client calls, whichever way it goes: the model's commands as calls, its names for ids, its lines for entries.

One runtime serves many sequences; each has names of its own. Where time passes by itself, everything that the model
says has happened is waited for before the next command.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from helmr import auth
from helmr.client import AsyncClient, calls
from helmr.client.bulk import NOT_DONE
from helmr.client.calls import UNSET, Call
from helmr.errors import HelmrError, SessionNotFound, TokenNotFound
from helmr.models import BulkOutcome, BulkPlan, ClaimReceipt, VoteReceipt
from helmr.wire import ids
from helmr.wire.operations import ANSWER_BY_LINK, ANSWER_WAIT, CLAIM_WAIT, RELEASE_WAIT
from tests.programs.model.compare import Reply, stored_difference
from tests.programs.model.lines import Lines, principal_of
from tests.programs.model.naive import Model

T = TypeVar("T")
POLL_S = 0.02

Nothing = Callable[[str, str], Awaitable[None]]


async def let_be(session_id: str, how: str) -> None:
    """Nothing goes wrong with the session."""


class ClientDoor:
    """A client of some runtime.

    Attributes:
        time_passes: By itself, so that a short timeout is over before the next command.

    Args:
        runner: Whose loop the client lives on.
        client: The client.
        begin: What times count from; None where they can't be compared.
        nothing: Parks the session, or kills what holds it.
    """

    time_passes = True
    within_s = 20.0
    """How long it may take until all is stored that has happened."""

    def __init__(
        self,
        runner: asyncio.Runner,
        client: AsyncClient,
        *,
        begin: datetime | None = None,
        nothing: Nothing = let_be,
    ) -> None:
        self.runner = runner
        self.client = client
        self.lines = Lines(begin)
        self.own = secrets.token_hex(6)
        self.nothing = nothing
        self.seqs: dict[str, int] = {}
        self.operations: dict[str, str] = {}
        self.secrets: dict[str, str] = {}
        self.linked: dict[str, str] = {}
        self.expired: set[str] = set()
        self.plans: dict[str, str] = {}
        """Batches as JSON: what goes on with one has nothing else."""
        self._tokens: dict[str, Any] = {}

    # --- the door ---------------------------------------------------------------------------------

    def do(self, kind: str, args: dict[str, Any]) -> Reply:
        """The receipt in the model's names, or the code of the refusal."""
        return self.runner.run(self._do(kind, dict(args)))

    async def _do(self, kind: str, args: dict[str, Any]) -> Reply:
        if "operation" in args:
            name = args.pop("operation")
            made = self.operations.setdefault(name, ids.new_id(ids.OPERATION))
            args["operation_id"] = made
        try:
            receipt: dict[str, Any] = await getattr(self, f"do_{kind}")(**args)
        except HelmrError as error:
            return error.code
        except KeyError as missing:
            return f"nothing is called {missing}"
        return receipt

    def settle(self, model: Model) -> None:
        """Wait for what the model says is stored; what never comes is a difference afterwards."""
        self.runner.run(self._settle(model))

    async def _settle(self, model: Model) -> None:
        ending = asyncio.get_running_loop().time() + self.within_s
        while True:
            there = [one for one in model.sessions.values() if not one.is_gone]
            for session in there:
                is_known = session.id in self.lines.ids  # a child, by its parent's entries
                if is_known and len(self.lines_of(session.id)) < len(session.entries):
                    await self.fetch(self.lines.ids[session.id])
            is_there = all(len(self.lines_of(one.id)) >= len(one.entries) for one in there)
            for token in model.tokens.values():  # no transcript says that one has expired
                real = self.lines.ids.get(token.id)
                if token.status == "expired" and real is not None and real not in self.expired:
                    status = (await self.client.tokens.get(real)).status.value
                    is_there = is_there and status != "pending"
                    self.expired |= {real} if status != "pending" else set()
            if is_there or asyncio.get_running_loop().time() > ending:
                return
            await asyncio.sleep(POLL_S)

    def finish(self, model: Model) -> None:
        """The same, of all there is."""
        self.runner.run(self._finish(model))

    async def _finish(self, model: Model) -> None:
        ending = asyncio.get_running_loop().time() + self.within_s
        while True:
            for session_id in list(self.seqs):
                try:
                    await self.fetch(session_id)
                except SessionNotFound:
                    del self.seqs[session_id]
            self._tokens = await self.read_tokens()
            is_there = stored_difference(model, self, 0) is None
            if is_there or asyncio.get_running_loop().time() > ending:
                return
            await asyncio.sleep(POLL_S)

    def transcripts(self) -> dict[str, list[Any]]:
        """The lines of each session."""
        there = {one: lines for one, lines in self.lines.of.items() if one in self.seqs}
        return {self.lines.names[one]: lines for one, lines in there.items()}

    def tokens(self) -> dict[str, Any]:
        """What became of tokens and public tokens, as `finish` read them."""
        return self._tokens

    def notices(self) -> dict[str, list[Any]] | None:
        """Nobody is told."""
        return None

    async def read_tokens(self) -> dict[str, Any]:
        """What became of them."""
        found: dict[str, Any] = {}
        for name, real in self.lines.ids.items():
            if real.startswith(f"{ids.TOKEN}_"):
                with suppress(TokenNotFound):
                    info = await self.client.tokens.get(real)
                    found[name] = [info.status.value, info.data]
        async for public in self.client.auth.list(limit=100):
            known = self.lines.names.get(public.id)
            if known is not None:
                found[known] = [public.uses, public.revoked_at is not None]
        return found

    def lines_of(self, session: str) -> list[Any]:
        """The lines of a session that the model names."""
        return self.lines.of.get(self.lines.ids.get(session, ""), [])

    async def fetch(self, session_id: str) -> None:
        """Read what is new in a transcript, and in those of the children that it tells of first."""
        after = self.seqs.get(session_id, 0)
        async for entry in self.client.sessions.open(session_id).transcript(after=after):
            made = entry.body.get("value") if entry.kind == "step.succeeded" else None
            if isinstance(made, str) and made.startswith(f"{ids.SESSION}_"):
                await self.fetch(made)
            self.lines.add(entry)
            self.seqs[session_id] = entry.seq

    def real(self, name: str) -> str:
        """The id of what the model names."""
        return self.lines.ids[name]

    def name(self, real: str | None) -> str | None:
        """The model's name; an unknown id stays as it is."""
        return self.lines.names.get(real, real) if real is not None else None

    def session(self, name: str) -> Any:
        """A handle."""
        return self.client.sessions.open(self.real(name))

    # --- sessions ---------------------------------------------------------------------------------

    async def do_start(
        self,
        *,
        task: str,
        code: Any,
        tokens: list[str],
        external_id: str | None = None,
        key: str | None = None,
        **more: Any,
    ) -> Reply:
        """Start one."""
        started = await self.client.sessions.start(
            task,
            {"code": code, "tokens": [self.real(one) for one in tokens]},
            external_id=f"{self.own}-{external_id}" if external_id is not None else None,
            idempotency_key=f"{self.own}-{key}" if key is not None else None,
            **more,
        )
        await self.fetch(started.id)
        run = self.name(started.started_run.id)
        return {"session": self.name(started.id), "run": run, "created": started.created}

    async def do_send(
        self,
        *,
        session: str,
        stream: str,
        data: Any,
        correlation: str | None = None,
        key: str | None = None,
        public: str | None = None,
        **more: Any,
    ) -> Reply:
        """Send."""
        receipt = (
            await self.session(session)
            .input(stream)
            .send(
                data,
                correlation_id=correlation,
                idempotency_key=key,
                public_access_token=self.secrets[public] if public is not None else None,
                **more,
            )
        )
        return self.sent(receipt)

    def sent(self, receipt: Any) -> Reply:
        """A send's receipt, or a vote's."""
        if isinstance(receipt, VoteReceipt):
            told = {"outcome": receipt.outcome.value, "have": receipt.have, "need": receipt.need}
            return {"wait": self.name(receipt.wait_id), **told}
        return {
            "record": f"{receipt.stream}#{receipt.seq}",
            "outcome": receipt.outcome.value,
            "duplicate": receipt.duplicate,
            "wait": self.name(receipt.wait_id),
            "run": self.name(receipt.run_id),
        }

    async def do_answer(
        self,
        *,
        wait: str,
        data: Any,
        by: str | None = None,
        override: bool = False,
        why: str | None = None,
        operation_id: str | None = None,
    ) -> Reply:
        """Answer."""
        reason = why if why is not None else UNSET
        body = {"data": data, "override_claim": override or UNSET, "override_reason": reason}
        call = calls.call(ANSWER_WAIT, self.real(wait), body=body, operation_id=operation_id)
        return self.answered(await self.call(call, by))

    async def call(self, call: Call[T], by: str | None) -> T:
        """Call on behalf of a person."""
        headers = (("On-Behalf-Of", by),) if by is not None else ()
        return await self.client._transport.call(replace(call, headers=(*call.headers, *headers)))

    def answered(self, receipt: Any) -> Reply:
        """An answer's receipt."""
        if not hasattr(receipt, "token_id"):
            return self.sent(receipt)
        return {
            "token": self.name(receipt.token_id),
            "outcome": receipt.outcome,
            "wait": self.name(receipt.wait_id),
            "run": self.name(receipt.run_id),
        }

    async def do_withdraw(self, *, wait: str) -> Reply:
        """Take the caller's vote back."""
        return self.sent(await self.client.waits.withdraw(self.real(wait)))

    async def do_disable(self, *, person: str) -> Reply:
        """Let somebody act no more."""
        return {"person": (await self.client.people.disable(person)).id}

    async def do_enable(self, *, person: str) -> Reply:
        """Let them act again."""
        return {"person": (await self.client.people.enable(person)).id}

    async def do_link(
        self, *, wait: str, person: str, expires_in: int | None = None, **more: Any
    ) -> Reply:
        """Make a link."""
        lasts = expires_in / 1000 if expires_in is not None else None
        made = await self.client.waits.link(
            self.real(wait), person=person, expires_in=lasts, **more
        )
        self.lines.name(made.id, "l")
        name = self.name(made.id)
        assert name is not None
        self.secrets[name] = made.url.rpartition("/")[2]
        self.linked[name] = made.wait_id
        return {"link": name, "person": made.person}

    async def do_answer_link(
        self, *, link: str, data: Any, operation_id: str | None = None
    ) -> Reply:
        """What a program does that was given the link."""
        secret, body = self.secrets[link], {"data": data}
        call = calls.call(ANSWER_BY_LINK, secret, body=body, operation_id=operation_id)
        return self.answered(await self.call(call, None))

    async def do_unlink(self, *, link: str, **more: Any) -> Reply:
        """Revoke one."""
        found = await self.client.waits.unlink(self.linked[link], link_id=self.real(link), **more)
        return {"link": self.name(found.id), "is_live": found.is_live}

    async def do_claim(
        self,
        *,
        wait: str,
        by: str | None = None,
        override: bool = False,
        expires_in: int | None = None,
    ) -> Reply:
        """Say that somebody is at it."""
        lasts = expires_in / 1000 if expires_in is not None else None
        body = {"override_claim": override or UNSET, "expires_in": lasts or UNSET}
        call = calls.call(CLAIM_WAIT, self.real(wait), body=body)
        return self.claimed(await self.call(call, by))

    async def do_release(self, *, wait: str, by: str | None = None) -> Reply:
        """And that they have left."""
        call = calls.call(RELEASE_WAIT, self.real(wait))
        return self.claimed(await self.call(call, by))

    def claimed(self, receipt: ClaimReceipt) -> Reply:
        """A claim's receipt."""
        found = receipt.claim
        who = principal_of(found.principal) if found is not None else None
        return {"wait": self.name(receipt.wait_id), "claim": who}

    async def do_assign(self, *, wait: str, assignee: str | None, **more: Any) -> Reply:
        """Say whom it concerns."""
        receipt = await self.client.waits.assign(self.real(wait), assignee=assignee, **more)
        return {"wait": self.name(receipt.wait_id), "assignee": receipt.assignee}

    async def do_run(self, *, session: str, code: Any = None, **more: Any) -> Reply:
        """The next run."""
        given = [{"code": code, "tokens": []}] if code is not None else []
        run = await self.session(session).run(*given, **more)
        await self.fetch(self.real(session))
        return {"run": self.name(run.id)}

    async def do_cancel_run(self, *, run: str, **more: Any) -> Reply:
        """Cancel one."""
        found = await self.client.runs.cancel(self.real(run), **more)
        return {"run": self.name(found.id), "status": found.status.value}

    async def do_retry(self, *, run: str, **more: Any) -> Reply:
        """Retry one."""
        return {"run": self.name((await self.client.runs.retry(self.real(run), **more)).id)}

    async def do_preview(
        self, *, batch: str, verb: str, end_input: bool, sessions: list[str] | None = None
    ) -> Reply:
        """Look at many; of a runtime that serves other sequences too, those of this one."""
        named = [self.real(one) for one in sessions] if sessions is not None else None
        plan = await self.client.bulk.preview(
            verb,
            filter="" if named is None else None,
            session_ids=named,
            end_input=end_input,
            batch_id=batch,
        )
        own = [one for one in plan.runs if one.session_id in self.seqs]
        runs = tuple(sorted(own, key=lambda one: self.lines.names[one.session_id]))
        self.plans[batch] = plan.model_copy(update={"runs": runs}).model_dump_json()
        return {"runs": [[self.name(one.run_id), one.attempt] for one in runs]}

    async def do_bulk(self, *, batch: str, runs: list[int]) -> Reply:
        """Do it to these, again until none is left that was not done."""
        plan = BulkPlan.model_validate_json(self.plans[batch])
        left = [plan.runs[place] for place in runs]
        came: dict[str, BulkOutcome] = {}
        ending = asyncio.get_running_loop().time() + self.within_s
        while left:
            async for one in self.client.bulk.do(plan, runs=left):
                came[one.run_id] = one
            if asyncio.get_running_loop().time() > ending:
                break
            left = [
                one
                for one in left
                if one.run_id not in came or came[one.run_id].progress in NOT_DONE
            ]
        outcomes = (came[plan.runs[place].run_id] for place in runs)
        told = [[self.name(one.run_id), one.progress, one.error] for one in outcomes]
        return {"outcomes": told}

    async def do_rewind(self, *, run: str, op: int, keep: bool) -> Reply:
        """Look, and take it back."""
        real = self.real(run)
        seen = await self.client.runs.preview_rewind(real, to_op=op, keep_answers=keep)
        found = await self.client.runs.rewind(real, preview=seen, reason="wrong")
        return {"run": self.name(found.id)}

    async def do_amend(self, *, wait: str, data: Any, keep: bool, why: str | None = None) -> Reply:
        """Look, and answer otherwise."""
        real = self.real(wait)
        seen = await self.client.waits.preview_amend(real, keep_answers=keep)
        found = await self.client.waits.amend(
            real, data, preview=seen, reason="wrong", override_reason=why
        )
        return {"run": self.name(found.id)}

    async def do_fork(
        self,
        *,
        session: str,
        op: int,
        answer: tuple[Any, ...] = (),
        why: str | None = None,
        **more: Any,
    ) -> Reply:
        """What would have been, in a session of its own."""
        if why is not None:
            more["override_reason"] = why
        if answer:
            more["answer"] = answer[0]
        made = await self.session(session).fork(to_op=op, reason="what if", **more)
        await self.fetch(made.id)
        return {"session": self.name(made.id), "run": self.name(made.started_run.id)}

    async def do_note(self, *, session: str, text: str, **more: Any) -> Reply:
        """A note."""
        await self.session(session).note(text, **more)
        return {}

    async def do_close(self, *, session: str, end_input: bool, **more: Any) -> Reply:
        """Close it."""
        found = await self.session(session).close(end_input=end_input, **more)
        return {"status": found.status.value}

    async def do_cancel(self, *, session: str, **more: Any) -> Reply:
        """Cancel it."""
        return {"status": (await self.session(session).cancel(**more)).status.value}

    # --- tokens -----------------------------------------------------------------------------------

    async def do_create_token(self, *, timeout: int, is_integer: bool, **more: Any) -> Reply:
        """Make a token."""
        schema = {"type": "integer"} if is_integer else None
        made = await self.client.tokens.create(timeout=timeout / 1000, schema=schema, **more)
        self.lines.name(made.id, "t")
        return {"token": self.name(made.id)}

    async def do_complete(
        self, *, token: str, data: Any, public: str | None = None, **more: Any
    ) -> Reply:
        """Complete one."""
        secret = self.secrets[public] if public is not None else None
        receipt = await self.client.tokens.complete(
            self.real(token), data, public_access_token=secret, **more
        )
        return {"token": token, "outcome": receipt.outcome}

    async def do_cancel_token(self, *, token: str, **more: Any) -> Reply:
        """Cancel one."""
        found = await self.client.tokens.cancel(self.real(token), **more)
        return {"token": token, "status": found.status.value}

    async def do_create_public(
        self,
        *,
        session: str | None = None,
        stream: str | None = None,
        token: str | None = None,
        correlation: str | None = None,
        max_uses: int | None = None,
        expires_in: int | None = None,
        **more: Any,
    ) -> Reply:
        """Make a public token."""
        if token is not None:
            scope = auth.complete(self.real(token))
        else:
            scope = auth.send_to(
                stream or "", session=self.real(session or ""), correlation_id=correlation
            )
        made = await self.client.auth.create_public_token(
            scope=scope,
            max_uses=max_uses,
            expires_in=expires_in / 1000 if expires_in is not None else None,
            **more,
        )
        self.lines.name(made.id, "p")
        name = self.name(made.id)
        assert name is not None
        self.secrets[name] = made.public_access_token
        return {"public": name}

    async def do_revoke(self, *, public: str, **more: Any) -> Reply:
        """Revoke one."""
        return {"public": self.name((await self.client.auth.revoke(self.real(public), **more)).id)}

    # --- what is old ------------------------------------------------------------------------------

    async def do_prune(self, *, older_than: int) -> Reply:
        """All pages."""
        count, is_last = 0, False
        while not is_last:
            receipt = await self.client.prune(older_than / 1000, archive=False)
            count, is_last = count + receipt.sessions, receipt.is_last
        return {"sessions": count}

    # --- what goes wrong --------------------------------------------------------------------------

    async def do_nothing(self, *, session: str, how: str) -> Reply:
        """Park it, or kill what holds it."""
        await self.nothing(self.real(session), how)
        return {}
