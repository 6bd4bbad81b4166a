"""What a loss of power leaves of the files, in each of the ways that a disk and its file system may have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random

from helmr_runtime.ledger.log import file_store
from helmr_runtime.ledger.log.files import LOG_SUFFIX, MARK_SUFFIX, WAL_SUFFIX
from tests.programs.powerloss.disk import Change, Disk, File

SECTOR, PAGE = 512, 4_096

Image = Mapping[Path, bytes]
"""The content of each file."""

Kept = Callable[[Disk, Random], Image | None]
"""Builds an image of a disk at one moment; None if that moment has nothing of what is asked for."""


def nothing(disk: Disk, chance: Random) -> Image:
    """Of what was not synced."""
    return {path: bytes(file.durable) for path, file in disk.names.items()}


def everything(disk: Disk, chance: Random) -> Image:
    """As after a kill of the process alone."""
    return {path: bytes(file.content()) for path, file in disk.names.items()}


def prefix(disk: Disk, chance: Random) -> Image:
    """Of each file's writes the first ones, the last of them up to any byte."""
    return {path: _prefix(file, chance) for path, file in disk.names.items()}


def _prefix(file: File, chance: Random) -> bytes:
    kept = file.pending[: chance.randint(0, len(file.pending))]
    if kept and (data := kept[-1].data) is not None:
        kept[-1] = Change(kept[-1].place, data[: chance.randint(0, len(data))])
    return bytes(file.content(kept))


def some_files(disk: Disk, chance: Random) -> Image:
    """Of some files everything, of the others nothing: reordered across files."""
    return {
        path: bytes(file.content() if chance.random() < 0.5 else file.durable)
        for path, file in disk.names.items()
    }


def only_the_log(disk: Disk, chance: Random) -> Image:
    """Of the log of commits everything, of the rest nothing."""
    return _by_name(disk, lambda name: name.endswith(LOG_SUFFIX))


def only_the_database(disk: Disk, chance: Random) -> Image:
    """Of the database's files everything, of the rest nothing."""
    return _by_name(disk, lambda name: name.endswith((".duckdb", WAL_SUFFIX)))


def _by_name(disk: Disk, is_kept: Callable[[str], bool]) -> Image:
    return {
        path: bytes(file.content() if is_kept(path.name) else file.durable)
        for path, file in disk.names.items()
    }


def size_without_data(disk: Disk, chance: Random) -> Image:
    """The new length of each file, and zeros in it."""
    image = {}
    for path, file in disk.names.items():
        size = len(file.content())
        image[path] = bytes(file.durable[:size]).ljust(size, b"\0")
    return image


def sectors(disk: Disk, chance: Random) -> Image:
    """Any of the 512-byte sectors that were written."""
    return {path: _some_blocks(file, chance, SECTOR) for path, file in disk.names.items()}


def pages(disk: Disk, chance: Random) -> Image:
    """Any of the 4 KiB pages."""
    return {path: _some_blocks(file, chance, PAGE) for path, file in disk.names.items()}


def _some_blocks(file: File, chance: Random, size: int) -> bytes:
    new = file.content()
    old = bytes(file.durable).ljust(len(new), b"\0")
    for at in sorted({begin - begin % size for begin, _ in _pieces(file, size)}):
        if chance.random() < 0.5:
            new[at : at + size] = old[at : at + len(new[at : at + size])]
    return bytes(new)


def zeros(disk: Disk, chance: Random) -> Image:
    """Zeros in place of some of what was written, sector by sector."""
    return {path: _spoilt(file, chance, bytes) for path, file in disk.names.items()}


def garbage(disk: Disk, chance: Random) -> Image:
    """Garbage in place of it."""
    return {path: _spoilt(file, chance, chance.randbytes) for path, file in disk.names.items()}


def _spoilt(file: File, chance: Random, otherwise: Callable[[int], bytes]) -> bytes:
    """What shares a sector with it and was on disk before stays: a disk writes a sector as a whole."""
    new = file.content()
    for begin, end in sorted(_pieces(file, SECTOR)):
        if chance.random() < 0.5:
            new[begin:end] = otherwise(len(new[begin:end]))
    return bytes(new)


def _pieces(file: File, size: int) -> set[tuple[int, int]]:
    """What was written and not synced, cut where a block begins."""
    pieces = set()
    for change in file.pending:
        at, end = change.place, change.place + len(change.data or b"")
        while at < end:
            next_at = min(end, at - at % size + size)
            pieces.add((at, next_at))
            at = next_at
    return pieces


def strict_names(disk: Disk, chance: Random) -> Image:
    """Names as they were when their folder was synced last, and of the contents a prefix."""
    return {path: _prefix(file, chance) for path, file in disk.synced_names.items()}


def torn_mark(disk: Disk, chance: Random) -> Image | None:
    """The head mark's last write within its sector, and of the rest everything or nothing."""
    mark = next((f for p, f in disk.names.items() if p.name.endswith(MARK_SUFFIX)), File())
    writes = [one for one in mark.pending if one.data]
    if not writes:
        return None
    torn = bytearray(mark.content())
    last = writes[-1]
    assert last.data is not None
    cut = chance.randrange(1, len(last.data))
    torn[last.place + cut : last.place + len(last.data)] = chance.randbytes(len(last.data) - cut)
    image = dict(chance.choice((nothing, everything))(disk, chance))
    return {p: bytes(torn) if p.name.endswith(MARK_SUFFIX) else data for p, data in image.items()}


def flipped(disk: Disk, chance: Random) -> Image | None:
    """One bit in a record of the log of commits that is not the last one; of the rest nothing, or a prefix."""
    image = dict(chance.choice((nothing, prefix))(disk, chance))
    path = next((one for one in image if one.name.endswith(LOG_SUFFIX)), None)
    if path is None:
        return None
    ends = [end for *_, end in file_store._records(image[path], 0)]
    if len(ends) < 2:
        return None
    data = bytearray(image[path])
    data[chance.randrange(ends[-2])] ^= 1 << chance.randrange(8)
    image[path] = bytes(data)
    return image


WAYS: Mapping[str, Kept] = {
    "nothing": nothing,
    "everything": everything,
    "prefix": prefix,
    "some files": some_files,
    "only the log": only_the_log,
    "only the database": only_the_database,
    "size without data": size_without_data,
    "sectors": sectors,
    "pages": pages,
    "zeros": zeros,
    "garbage": garbage,
    "strict names": strict_names,
    "torn mark": torn_mark,
    "flipped bit": flipped,
}
"""By what is kept of what was not synced."""

CREATION = (
    *("nothing", "everything", "prefix", "some files"),
    *("size without data", "sectors", "zeros", "strict names"),
)
"""The ways that power is lost in while a ledger is made."""


def write(image: Image, below: Path, folder: Path) -> Iterator[Path]:
    """Put those files of an image that were below one folder into another."""
    for path, data in image.items():
        if path.is_relative_to(below):
            target = folder / path.relative_to(below)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(0o600)
            yield target
