"""Images of a recording: which are built, and what became of them."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from helmr_runtime.ledger.log.files import LOG_SUFFIX, MARK_SUFFIX
from helmr_runtime.ledger.log.folder import Folder
from helmr_runtime.ledger.log.object_log import ObjectLog
from tests.ledger.shared_objects import FakeObjects
from tests.programs.powerloss import images
from tests.programs.powerloss.events import Kind
from tests.programs.powerloss.judge import (
    BACKUP,
    DROPPED,
    REPAIRED,
    WHOLE,
    Verdict,
    Verdicts,
    judge,
)
from tests.programs.powerloss.recording import Moment, Recording
from tests.programs.powerloss.workload import LEDGER

MADE = "while it is made"
"""Images of the moments before anything was acknowledged, in several ways."""

ALL_WAYS = (*images.WAYS, MADE)
THOROUGH_EVERY = 4
TRIES = 6
"""Moments that are tried for an image, since not every one has a torn mark or two records."""


@dataclass(frozen=True, slots=True)
class Planned:
    """An image to be built."""

    moment: Moment
    way: str
    slot: int
    seed: int

    @property
    def recipe(self) -> str:
        """What makes it again of the same recording (`again`)."""
        return f"{self.way}:{self.moment.number}:{self.seed}"


@dataclass(slots=True)
class Found:
    """What became of the images.

    Args:
        verdicts: How many came to what.
        said: Of those that were refused, how often each error.
        broken: The bad ones, each with its recipe.
        refused: The others that did not open at once, each with its recipe.
    """

    verdicts: Verdicts = field(default_factory=Verdicts)
    said: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def shares(count: int, ways: Sequence[str] = ALL_WAYS) -> dict[str, int]:
    """So many images of each way, so many in all."""
    return {way: len(range(number, count, len(ways))) for number, way in enumerate(ways)}


def run(
    recording: Recording,
    wanted: Mapping[str, int],
    folder: Path,
    *,
    seed: int = 1,
    sabotages: bool = False,
    keep: Path | None = None,
) -> Found:
    """Build so many images of each way, and judge each.

    Args:
        recording: Of a ledger's lives.
        wanted: How many, by way.
        folder: For one image at a time.
        seed: Of all that is chosen.
        sabotages: Empty the log of commits and remove the head mark of each image before it is opened.
        keep: Where the recording and bad images go; without it they are not kept.
    """
    plan = _plan(recording, wanted, Random(seed))
    return _all_judged(recording, plan, folder, sabotages=sabotages, keep=keep)


def again(recording: Recording, recipe: str, folder: Path, keep: Path) -> Found:
    """Build one image that an earlier campaign with this recording has said of, judge it thoroughly, and keep it."""
    return _all_judged(recording, [by_recipe(recording, recipe)], folder, keep=keep)


def by_recipe(recording: Recording, recipe: str) -> Planned:
    """The image of that recipe."""
    way, number, seed = recipe.split(":")
    [moment] = [one for one in recording.moments if one.number == int(number)]
    return Planned(moment, way, 0, int(seed))


def _all_judged(
    recording: Recording,
    plan: Sequence[Planned],
    folder: Path,
    *,
    sabotages: bool = False,
    keep: Path | None = None,
) -> Found:
    found = Found()
    if keep is not None:
        recording.keep(keep)
    for planned, image in built(recording, plan):
        target = folder / "image"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o700)
        for file in images.write(image, recording.data, target):
            if sabotages and file.name.endswith(MARK_SUFFIX):
                file.unlink()
            if sabotages and file.name.endswith(LOG_SUFFIX):
                file.write_bytes(b"")
        if keep is not None:
            shutil.rmtree(folder / "before", ignore_errors=True)
            shutil.copytree(target, folder / "before")
        verdict = _judged(target / LEDGER, recording, planned)
        found.verdicts.add(planned.way, verdict)
        if verdict.code:
            said = re.sub(r"\d+", "N", verdict.said.replace(f"{target}/", ""))
            found.said[f"{planned.way}: {verdict.code}: {said}"] += 1
        if keep is not None and verdict.result != WHOLE:
            kept = keep / f"{planned.recipe}-{verdict.result}".replace(" ", "-").replace(":", "-")
            shutil.copytree(folder / "before", kept, dirs_exist_ok=True)
        if verdict.result != WHOLE:
            bad = found.broken if verdict.is_broken else found.refused
            bad.append(f"{planned.recipe} {verdict.result}: {verdict.said}")
    return found


def _judged(path: Path, recording: Recording, planned: Planned) -> Verdict:
    return asyncio.run(
        judge(
            path,
            recording.truth,
            recording.acknowledged(planned.moment),
            recording.now,
            thorough=planned.slot % THOROUGH_EVERY == 0,
            log=_log_of(recording.store) if recording.store is not None else None,
        )
    )


def _log_of(store: Path) -> ObjectLog:
    """A copy of the log in memory: each opening writes to it."""
    objects = FakeObjects()
    folder = Folder(store)
    for key in folder.keys(""):
        found = folder.get(key)
        assert found is not None
        objects.create(key, found[0])
    return ObjectLog(objects)


def built(recording: Recording, plan: Sequence[Planned]) -> Iterator[tuple[Planned, images.Image]]:
    """The images of a plan, in the order of their moments."""
    done = set[tuple[str, int]]()
    by_number: dict[int, list[Planned]] = {}
    for one in plan:
        by_number.setdefault(one.moment.number, []).append(one)
    for number, disk in recording.disks(list(by_number)):
        for one in by_number[number]:
            if (one.way, one.slot) in done:
                continue
            chance = Random(one.seed)
            way = chance.choice(images.CREATION) if one.way == MADE else one.way
            image = images.WAYS[way](disk, chance)
            if image is not None:
                done.add((one.way, one.slot))
                yield one, image


def _plan(recording: Recording, wanted: Mapping[str, int], chance: Random) -> list[Planned]:
    """Half of the moments are right before a sync, when most is at stake."""
    moments = recording.moments
    kinds = [one.kind for one in recording.events]
    before_syncs = [m for m in moments[:-1] if kinds[m.number + 1] is Kind.SYNC]
    making = [m for m in moments if m.acknowledged == 0]
    planned = []
    for way, count in wanted.items():
        for slot in range(count):
            for _ in range(TRIES if way in ("torn mark", "flipped bit") else 1):
                of = making if way == MADE else chance.choice((moments, before_syncs))
                planned.append(Planned(chance.choice(of), way, slot, chance.getrandbits(32)))
    return planned


def table(found: Found) -> str:
    """What is printed: how many came to what, by what was kept."""
    columns = (WHOLE, REPAIRED, DROPPED, BACKUP)
    head = "".join(f"{name:>10}" for name in ("images", *columns, "bad"))
    lines = [f"{'kept of what was not synced':<28}{head}"]
    for way, counts in sorted(found.verdicts.by_way.items()):
        numbers = [counts.total(), *(counts[one] for one in columns)]
        numbers.append(numbers[0] - sum(numbers[1:]))
        lines.append(f"{way:<28}" + "".join(f"{number:>10}" for number in numbers))
    lines += [f"  refused: {count} {said}" for said, count in sorted(found.said.items())]
    lines += [f"  {one}" for one in found.refused]
    lines += [f"  BAD: {one}" for one in found.broken]
    return "\n".join(lines) + "\n"
