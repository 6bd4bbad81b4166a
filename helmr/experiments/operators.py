"""Simulated operators: they answer waits by a policy, after a delay, in their working hours.

Chance is the same every time: a draw depends on the seed and on its name (operator, session, wait) alone, never on the
order in which things happen, so a second run, another event loop or one more operator change nothing about it. Two
settings of a sweep that share a seed meet the same people (common random numbers): their difference is the setting's.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from random import Random  # noqa: TID251 - seeded by name
from statistics import NormalDist
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from helmr.errors import UsageError
from helmr.wire.durations import Duration, seconds, spell
from helmr.wire.people import GROUP, group_key, person_key

_NORMAL = NormalDist()
_EDGE = 1e-12
"""Keeps draws off 0 and 1, where the inverses end."""


def draws(seed: int, *name: str | int) -> Random:
    """The random numbers of one name under a seed."""
    text = "\x1f".join((str(seed), *map(str, name)))
    return Random(hashlib.sha256(text.encode()).digest())


@dataclass(frozen=True)
class Delay:
    """A distribution of durations; each use draws a new one.

    Args:
        quantile: Seconds for a number between 0 and 1: the inverse of the distribution function.
        name: Name in messages.
    """

    quantile: Callable[[float], float]
    name: str = "delay"

    def sample_s(self, random: Random) -> float:
        """Draw one, in seconds, ≥ 0. Takes exactly one number from `random`.

        Raises:
            UsageError: The quantile function returned something that is not a time.
        """
        value: Any = self.quantile(min(max(random.random(), _EDGE), 1 - _EDGE))
        if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
            raise UsageError(f"{self.name} drew {value!r}, which is not a number of seconds >= 0")
        return float(value)

    @classmethod
    def fixed(cls, duration: Duration) -> Delay:
        """Always the same; 0 is at once."""
        value_s = seconds(duration, allow_zero=True)
        return cls(lambda u: value_s, f"fixed {spell(value_s)}")

    @classmethod
    def uniform(cls, shortest: Duration, longest: Duration) -> Delay:
        """Delays between the two, equally likely."""
        low_s, high_s = seconds(shortest, allow_zero=True), seconds(longest)
        if low_s > high_s:
            raise UsageError(f"shortest {spell(low_s)} is longer than longest {spell(high_s)}")
        return cls(
            lambda u: low_s + u * (high_s - low_s), f"uniform {spell(low_s)} to {spell(high_s)}"
        )

    @classmethod
    def exponential(cls, mean: Duration) -> Delay:
        """Delays without memory: mostly short, sometimes long. Also the gaps of arrivals at random times."""
        mean_s = seconds(mean)
        return cls(lambda u: -mean_s * math.log1p(-u), f"exponential, mean {spell(mean_s)}")

    @classmethod
    def lognormal(cls, median: Duration, *, spread: float = 2.0) -> Delay:
        """Delays like people's reaction times: a long tail to the right.

        Args:
            median: Half are shorter.
            spread: Two thirds lie within `median / spread` and `median * spread`; ≥ 1.
        """
        median_s = seconds(median)
        if not (math.isfinite(spread) and spread >= 1):
            raise UsageError(f"spread must be a number >= 1, not {spread!r}")
        sigma = math.log(spread)
        return cls(
            lambda u: median_s * math.exp(sigma * _NORMAL.inv_cdf(u)),
            f"lognormal, median {spell(median_s)}",
        )

    @classmethod
    def like(cls, measured: Sequence[Duration]) -> Delay:
        """Delays drawn from measured ones, equally likely, such as wait times that a query over the ledger returned."""
        values_s = sorted(seconds(one, allow_zero=True) for one in measured)
        if not values_s:
            raise UsageError("there is no measured delay to draw from")
        return cls(
            lambda u: values_s[min(int(u * len(values_s)), len(values_s) - 1)],
            f"one of {len(values_s)} measured",
        )


NO_DELAY = Delay.fixed(0)


DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAYS_MAX = 40_000
"""Days that are looked through for a delay's end: a century."""


@dataclass(frozen=True)
class WorkingHours:
    """Hours of work on the clock of a place; time changes count as they do on the wall there.

    Args:
        start: Start of work, `HH:MM`.
        end: End of work, `HH:MM`, later than `start`; `24:00` is midnight.
        days: Days of the week, of `mon tue wed thu fri sat sun`.
        zone: IANA name of the time zone.

    Raises:
        UsageError: One of them is no such thing.
    """

    start: str = "09:00"
    end: str = "17:00"
    days: tuple[str, ...] = DAYS[:5]
    zone: str = "UTC"
    _start: timedelta = field(init=False, repr=False)
    _end: timedelta = field(init=False, repr=False)
    _zone: ZoneInfo = field(init=False, repr=False)
    _weekdays: frozenset[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        begins, ends = _of_day(self.start, "start"), _of_day(self.end, "end")
        if begins >= ends:
            raise UsageError(
                f"working hours end at {self.end}, not after they begin at {self.start}",
                hint="For a night shift give two operators one part each.",
            )
        unknown = [day for day in self.days if day not in DAYS]
        if unknown or not self.days:
            raise UsageError(
                f"working days {unknown or 'are missing'}", hint=f"Days are: {' '.join(DAYS)}."
            )
        try:
            zone = ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise UsageError(
                f"no time zone {self.zone!r}", hint='Write it like "Europe/Berlin" or "UTC".'
            ) from error
        object.__setattr__(self, "_start", begins)
        object.__setattr__(self, "_end", ends)
        object.__setattr__(self, "_zone", zone)
        object.__setattr__(self, "_weekdays", frozenset(DAYS.index(day) for day in self.days))

    def is_open(self, moment: datetime) -> bool:
        """True if someone is at work at this moment."""
        return self.next_open(moment) <= moment

    def next_open(self, moment: datetime) -> datetime:
        """Return `moment` if someone is at work then, else the next start of work; UTC."""
        return max(moment, next(self._shifts(moment))[0])

    def after(self, moment: datetime, worked_s: float) -> datetime:
        """Return the UTC time at which `worked_s` seconds of working time have passed since `moment`.

        Raises:
            UsageError: Not within a century.
        """
        left = timedelta(seconds=worked_s)
        for begins, ends in self._shifts(moment):
            begins = max(begins, moment)
            if begins + left <= ends:
                return begins + left
            left -= ends - begins
        raise UsageError(f"{worked_s:.0f} s of working time do not end within a century")

    def _shifts(self, moment: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Shifts that end after `moment`, in order; UTC."""
        day = moment.astimezone(self._zone).date() - timedelta(days=1)
        for _ in range(_DAYS_MAX):
            if day.weekday() in self._weekdays:
                begins, ends = self._at(day, self._start), self._at(day, self._end)
                if moment < ends and begins < ends:
                    yield begins, ends
            day += timedelta(days=1)

    def _at(self, day: date, of_day: timedelta) -> datetime:
        # Added to the naive date: 09:00 on the wall stays 09:00 when the clocks change.
        wall = datetime.combine(day, time()) + of_day
        return wall.replace(tzinfo=self._zone).astimezone(UTC)


def _of_day(text: str, name: str) -> timedelta:
    hours, colon, minutes = text.partition(":")
    if colon and hours.isdecimal() and minutes.isdecimal() and len(minutes) == 2:
        found = timedelta(hours=int(hours), minutes=int(minutes))
        if int(minutes) < 60 and found <= timedelta(days=1):
            return found
    raise UsageError(f"{name} of working hours: {text!r} is not a time of day like 09:00")


@dataclass(frozen=True)
class Asked:
    """A wait as a policy sees it.

    Attributes:
        session: Number of the session in the experiment, from 0.
        number: Number of the wait in its session, from 1.
        payload: Payload of the session, as JSON.
        deadline_at: None if it waits for ever.
        random: This operator's chance for this wait; draw from nothing else, or runs differ.
        assignee: Whom it concerns.
        reminders: Number of reminders so far; each asks all operators again.
    """

    session: int
    number: int
    payload: Any
    task: str
    kind: str
    stream: str | None
    correlation_id: str | None
    subject: str | None
    body: str | None
    opened_at: datetime
    deadline_at: datetime | None
    random: Random = field(compare=False)
    assignee: str | None = None
    reminders: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer to be given as it is: how a policy answers `null`."""

    data: Any


Policy = Callable[[Asked], Any]
"""The answer of an operator: JSON data or a model; None leaves the wait to others."""


def always(data: Any) -> Policy:
    """Answer everything the same."""
    return lambda asked: Answer(data)


def ignore(asked: Asked) -> None:
    """Answer nothing."""


def choose(weights: Mapping[str, float], *, field_name: str = "decision") -> Policy:
    """Choose a decision by chance: `choose({"approve": 0.8, "reject": 0.2})` answers `{"decision": …}`.

    Args:
        weights: Weight of each decision, relative to the others; > 0.
        field_name: The field that the decision is put in.

    Raises:
        UsageError: No decision, or a weight that is not positive.
    """
    if not weights or not all(_is_weight(weight) for weight in weights.values()):
        raise UsageError(f"choose needs decisions with weights > 0, not {dict(weights)!r}")
    decisions, total = list(weights.items()), sum(weights.values())

    def policy(asked: Asked) -> Any:
        drawn = asked.random.random() * total
        for decision, weight in decisions:
            drawn -= weight
            if drawn < 0:
                return {field_name: decision}
        return {field_name: decisions[-1][0]}

    return policy


@dataclass(frozen=True)
class Operator:
    """A simulated person who answers.

    Args:
        name: Unique in the experiment; a live runtime records it as the person on whose behalf the answer came.
        person: The person who answers a restricted wait; None: the name.
        groups: Those that they are in, as such waits name them. A wait that does not admit them is left to others.
        policy: Returns their answer to a wait.
        delay: From taking a wait up to answering it, in their working time.
        hours: Their working hours; None is always.
        at_once: Waits that they work on at a time; None has no limit, 1 makes a queue.
        takes: `any` wait, or only those that are `assigned` to them by this name.

    Raises:
        UsageError: One of them can't be.
    """

    name: str
    policy: Policy
    delay: Delay = NO_DELAY
    hours: WorkingHours | None = None
    at_once: int | None = None
    takes: Literal["any", "assigned"] = "any"
    person: str | None = None
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", _groups(self.name, self.groups))
        if not self.name or not self.name.isprintable() or len(self.name) > 100:
            raise UsageError(f"an operator needs a name of 1 to 100 characters, not {self.name!r}")
        if not callable(self.policy):
            raise UsageError(f"the policy of {self.name} is not a function: {self.policy!r}")
        if inspect.iscoroutinefunction(self.policy):
            raise UsageError(f"the policy of {self.name} is an `async def`, not a plain function")
        if not isinstance(self.delay, Delay):
            raise UsageError(
                f"the delay of {self.name} is not a Delay: {self.delay!r}",
                hint='Delay.fixed("5m"), Delay.lognormal("20m"), …',
            )
        if self.at_once is not None and (type(self.at_once) is not int or self.at_once < 1):
            raise UsageError(f"at_once of {self.name} must be an int >= 1 or None")
        if self.takes not in ("any", "assigned"):
            raise UsageError(f"takes of {self.name} must be 'any' or 'assigned'")

    def is_asked(self, assignee: str | None) -> bool:
        """True if a wait assigned to `assignee` is offered to this operator."""
        return self.takes == "any" or assignee == self.name

    @property
    def known_as(self) -> str:
        """The operator's key in lists of people."""
        return person_key(self.person or self.name)

    def may_answer(self, opened: Mapping[str, Any]) -> bool:
        """True if this operator may answer a wait, by the body of its `wait.opened`."""
        own = {self.known_as, *map(group_key, self.groups)}
        named = opened.get("answerers", ())
        return not own.intersection(opened.get("not_by", ())) and (
            not named or bool(own.intersection(named))
        )

    def is_at_work(self, moment: datetime) -> bool:
        """True within the operator's hours."""
        return self.hours is None or self.hours.is_open(moment)


def is_restricted(opened: Mapping[str, Any]) -> bool:
    """True if a wait names who may answer: then only a person may."""
    said = (opened.get(name) for name in ("answerers", "not_by", "refusals", "signed"))
    return any(said) or opened.get("approvals", 1) > 1


def _groups(name: str, groups: Any) -> tuple[str, ...]:
    if isinstance(groups, str) or not all(isinstance(one, str) for one in groups):
        raise UsageError(
            f"groups of {name} are a list of texts, not {groups!r}", hint='groups=["finance"]'
        )
    return tuple(one.removeprefix(GROUP) for one in groups)


def _is_weight(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf
