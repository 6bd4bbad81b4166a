"""How far each feature is spread: the rooms and the files whose code names it.

A file *names* a feature if a name of its code (`names.names`: identifiers, and texts that are paths) holds one of the
feature's words, as whole words: `GatedCall`, `grants_of` and `"grant.created"` name the gate, `aggregate` does not. An
import of a feature's module names it too, whatever is imported, since its folder bears its name. So another spelling
does not lower a count; only code that is gone, or that stands in the feature's folders, does. The words of each feature
are its `Named`: a feature that gets a new word gets it there.

A *room* is a package folder: the one that the module stands in, `helmr/cli` or `runtime/helmr_runtime/ledger/log`. The
feature's *folders* are `features/NAME` of each package, and those that it had to itself before there were such; they
are rooms too. Templates, docs and tests are not counted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tests.of_features import of_features
from tests.programs.gauges.named import Named
from tests.programs.gauges.shape import Source, kernel, sources

FEATURES = (
    *(one.NAMED for one in of_features("named")),
    Named(
        "sign_in",
        (
            *("sign_in", "signed_in", "sign_out", "oidc", "issuers?", "id_tokens?"),
            *("browsers?", "cookies?", "jwks?", "personal_keys?"),
        ),
        besides=("cookie_conflict",),
    ),
    Named(
        "notices",
        ("notices?",),
        folders=("runtime/helmr_runtime/notices/",),
        besides=("notice_end",),
    ),
    Named(
        "rules",
        ("rules?", "experiments?", "what_if"),
        folders=("helmr/experiments/",),
        besides=("get_rules", "add_render_rule"),
    ),
    Named(
        "integrations",
        ("integrations?", "langgraph", "langchain", "openai", "pydantic_ai", "fastapi"),
        folders=("helmr/integrations/",),
    ),
    Named(
        "sql",
        (
            *("sql", "run_query", "bad_query", "interrupt_query", "register_query"),
            *("helmr_query", "cli_query", "ledger_query", "public_views"),
            "query_(?:answer|busy|bytes|column|connection|lock|memory|request|result|rows|runner)",
            "query_(?:text|timeout|too_large)",
        ),
    ),
    Named("bulk", ("bulk",)),
)
"""Those that have folders, each by its `tests/features/NAME/named.py`, and parts of the kernel that came late."""


def room(path: str) -> str:
    """The package folder that a module stands in."""
    return path.rpartition("/")[0]


def named_in(feature: Named, modules: Sequence[Source]) -> list[str]:
    """The files whose code names it."""
    return [one.name for one in modules if any(map(feature.is_in, one.names))]


@dataclass(frozen=True)
class Spread:
    """Where one feature is named: file paths from the checkout."""

    feature: Named
    files: Sequence[str]

    @property
    def rooms(self) -> list[str]:
        """All rooms with such a file, its own too."""
        return sorted(set(map(room, self.files)))

    @property
    def outside(self) -> list[str]:
        """Files that are not in its folders."""
        return [file for file in self.files if not self.feature.owns(file)]

    @property
    def named_for_it(self) -> list[str]:
        """Those outside that bear its name: they are of the feature, and not in its folder yet."""
        return [file for file in self.outside if self.feature.is_in(file.removesuffix(".py"))]


def spreads(modules: Sequence[Source]) -> list[Spread]:
    """Each feature's, in the order of `FEATURES`."""
    return [Spread(feature, named_in(feature, modules)) for feature in FEATURES]


def report(*, with_files: bool = False) -> str:
    """The table, and with `with_files` the rooms and the files outside of each feature's folders."""
    lines = [
        f"{'feature':<14}{'rooms':>6}{'files':>6}{'own':>6}{'outside':>9}  of these named for it"
    ]
    modules = sources()
    found = spreads(modules)
    for one in found:
        own = len(one.files) - len(one.outside)
        lines.append(
            f"{one.feature.name:<14}{len(one.rooms):>6}{len(one.files):>6}{own:>6}"
            f"{len(one.outside):>9}  {len(one.named_for_it)}"
        )
        if with_files:
            lines += [f"    {place}/" for place in one.rooms]
            lines += [f"    {file}" for file in one.outside]
    leaving = {file for one in found for file in one.named_for_it}
    count = sum(one.line_count for one in kernel(modules) if one.name in leaving)
    lines.append(f"lines of the kernel in files that are named for a feature: {count}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(f"{report(with_files='--files' in sys.argv)}\n")
