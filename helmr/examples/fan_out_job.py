"""A Ray job that has many documents assessed, each by a session of its own, and prints the results as they come.

It calls the hosts of the runtime in its cluster: no HTTP and no key. Sessions are named by collection and
document, so a job that was killed is simply run again: it finds those that there are and collects what is left.

```
python -m helmr.examples.fan_out_job --documents 200 --collection november
```
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable

import ray

from helmr import AsyncClient
from helmr.examples.fan_out import SECTIONS, Assessment, Document

STARTS_AT_ONCE = 16
EVERY_INCOMPLETE = 5
"""One document in so many lacks two sections."""


def documents(count: int) -> list[Document]:
    """Documents to assess; each fifth is incomplete."""
    made = []
    for number in range(1, count + 1):
        sections = SECTIONS[:1] if number % EVERY_INCOMPLETE == 0 else SECTIONS
        text = "\n\n".join(f"{section}: of document {number}." for section in sections)
        made.append(Document(name=f"document-{number}", text=text))
    return made


async def assess_all(
    client: AsyncClient, collection: str, wanted: Iterable[Document]
) -> AsyncIterator[Assessment | str]:
    """Start a session for each document; yields each result as soon as it is there, a failure as its text."""
    starting = asyncio.Semaphore(STARTS_AT_ONCE)

    async def one(document: Document) -> Assessment | str:
        async with starting:
            started = await client.sessions.start(
                "assess-document", document, external_id=f"{collection}:{document.name}"
            )
        run = await client.runs.wait(started.started_run.id)
        if run.result is None:
            return f"{document.name}: {run.status}"
        return Assessment.model_validate(run.result)

    for finished in asyncio.as_completed([one(document) for document in wanted]):
        yield await finished


async def main(count: int, collection: str) -> int:
    """Print a line for each result, then the totals; exit code 1 if a session failed."""
    totals: Counter[str] = Counter()
    async with AsyncClient(url="ray") as client:
        async for result in assess_all(client, collection, documents(count)):
            if isinstance(result, str):
                status, line = "failed", result
            else:
                status, line = result.status, f"{result.name}: {result.status}"
            totals[status] += 1
            sys.stdout.write(f"{sum(totals.values()):>4} of {count}  {line}\n")
            sys.stdout.flush()
    sys.stdout.write(", ".join(f"{n} {status}" for status, n in sorted(totals.items())) + "\n")
    return 1 if totals["failed"] else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--collection", default="documents")
    parser.add_argument("--address", default="auto", help="of the Ray cluster")
    given = parser.parse_args()
    ray.init(address=given.address, log_to_driver=False)
    sys.exit(asyncio.run(main(given.documents, given.collection)))
