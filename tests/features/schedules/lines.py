"""How the commands of schedules are tried."""

from __future__ import annotations

from tests.cli.lines import FeatureLines, Line, Post
from tests.hostile import HOSTILE
from tests.service.stack import Stack


async def fill(stack: Stack, post: Post) -> dict[str, str]:
    """A schedule whose sessions say hostile words."""
    asked = {"subject": HOSTILE[:190], "body": f"# {HOSTILE}"}
    nightly = {"name": "nightly", "task": "publish", "cron": "0 3 * * *", "payload": asked}
    await post("/v1/schedules", nightly)
    return {}


LINES = FeatureLines(
    run=(
        Line(
            """schedule create nightly-$ROUND chat --cron '0 3 * * *' --zone Europe/Berlin --missed skip
            --overlap allow --payload null""",
            "nightly",
        ),
        Line("schedule create often-$ROUND chat --every 1h", "often"),
        Line("schedule list --all", "nightly"),
        Line("schedule list --output name", "nightly", has_form=True),
        Line("schedule list --limit 1 --cursor $SCHEDULES_CURSOR", "often|nightly"),
        Line("schedule get nightly-$ROUND", "Berlin"),
        Line("schedule pause nightly-$ROUND", "nightly"),
        Line("schedule resume nightly-$ROUND", "nightly"),
        Line("schedule run nightly-$ROUND", "ses_"),
        Line("schedule delete often-$ROUND", "."),
    ),
    names={"SCHEDULES_CURSOR": lambda world: world.cursor(world.client.schedules.page(limit=1))},
    walked={
        "schedule list": ("schedule list",),
        "schedule get": ("schedule get nightly", "schedule get HOSTILE"),
        "schedule create": (
            "schedule create evil publish --every 1h --payload HOSTILE_JSON",
            "schedule create HOSTILE HOSTILE --cron HOSTILE --zone HOSTILE",
        ),
        "schedule pause": ("schedule pause nightly", "schedule pause HOSTILE"),
        "schedule resume": ("schedule resume nightly", "schedule resume HOSTILE"),
        "schedule run": ("schedule run nightly", "schedule run HOSTILE"),
        "schedule delete": ("schedule delete evil", "schedule delete HOSTILE"),
    },
    silent=frozenset({"schedule list"}),
    fill=fill,
)
