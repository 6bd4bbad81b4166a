"""`make sbom`: what an installation of Helmr consists of, as a CycloneDX document.

Walks the metadata of what is installed here, from the extras that are asked for: with `make sbom` from `all`, in the
versions of `constraints.txt`. What markers leave out on this platform is not in it. Nothing in it says when or where it
was made: the same packages give the same text.

Source: CycloneDX 1.6; the package URLs of ECMA-427.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PRODUCT = "helmr"
Needs = dict[str, set[str]]
"""By package: the packages that it needs, as far as somebody asks for its extras."""


def needed(extras: set[str]) -> Needs:
    """Everything that is installed with the product.

    Raises:
        PackageNotFoundError: Something of it is not installed here.
    """
    needs: Needs = {}
    asked: dict[str, set[str]] = {}
    todo = [(PRODUCT, extras)]
    while todo:
        name, more = todo.pop()
        known = asked.setdefault(name, set())
        if name in needs and more <= known:
            continue
        known |= more
        needs.setdefault(name, set())
        for requirement in _requirements(name, known):
            other = canonicalize_name(requirement.name)
            needs[name] |= {other} - {name}
            todo.append((other, set(requirement.extras)))
    return needs


def _requirements(name: str, extras: set[str]) -> list[Requirement]:
    every = map(Requirement, distribution(name).requires or ())
    return [one for one in every if _applies(one, extras)]


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def document(extras: set[str]) -> dict[str, Any]:
    """The bill of materials."""
    needs = needed(extras)
    product = _component(PRODUCT, "application")
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": product},
        "components": [_component(name, "library") for name in sorted(needs) if name != PRODUCT],
        "dependencies": [
            {"ref": _url(name), "dependsOn": sorted(map(_url, others))}
            for name, others in sorted(needs.items())
        ],
    }


def _component(name: str, kind: str) -> dict[str, Any]:
    found = distribution(name)
    made = {
        "type": kind,
        "bom-ref": _url(name),
        "name": name,
        "version": found.version,
        "purl": _url(name),
    }
    if summary := _said(found, "Summary"):
        made["description"] = summary
    return made | _licenses(found)


def _licenses(found: Distribution) -> dict[str, Any]:
    """As its metadata says: an SPDX expression, else the names of its classifiers."""
    if expression := _said(found, "License-Expression"):
        return {"licenses": [{"expression": expression}]}
    names = [
        one.rpartition(" :: ")[2]
        for one in found.metadata.get_all("Classifier") or ()
        if one.startswith("License :: ")
    ]
    return {"licenses": [{"license": {"name": name}} for name in names]} if names else {}


def _said(found: Distribution, field: str) -> str | None:
    lines = found.metadata.get_all(field)
    return lines[0] if lines else None


def _url(name: str) -> str:
    return f"pkg:pypi/{name}@{distribution(name).version}"


def main() -> int:
    """Write the document; 1 if something of it is not installed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sbom", description=__doc__)
    parser.add_argument("extras", nargs="*", default=["all"], help="of Helmr; all if none is named")
    options = parser.parse_args()
    try:
        text = json.dumps(document(set(options.extras)), indent=1, ensure_ascii=False)
    except PackageNotFoundError as error:
        sys.stderr.write(f"{error.name} is not installed: `make venv` first\n")
        return 1
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
