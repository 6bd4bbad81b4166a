"""Random schemas of answers, by a seed: what Slack's form can ask, and some that it can't."""

from __future__ import annotations

import random
from typing import Any

WORDS = ("amount", "reason", "country", "note", "line_2", "a.b", "x/y", "date<!channel>")


def schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """A schema; at the top an object in most cases."""
    if depth == 0 and rng.random() < 0.85:
        return group(rng, depth)
    makers = [leaf, leaf, leaf, choice, several, group, union, lines]
    made = rng.choice(makers)(rng, depth) if depth < 3 else leaf(rng, depth)
    return {"anyOf": [made, {"type": "null"}]} if rng.random() < 0.15 else made


def group(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(WORDS, rng.randint(1, 4))
    properties = {name: schema(rng, depth + 1) for name in names}
    if depth == 0 and rng.random() < 0.5:
        properties["decision"] = {"enum": ["approve", "reject"]}
    needed = [name for name in properties if rng.random() < 0.6]
    made = {"type": "object", "properties": properties, "required": needed}
    return {**made, "title": "A < group"} if rng.random() < 0.3 else made


def leaf(rng: random.Random, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = rng.choice(
        [
            {"type": "string"},
            {"type": "string", "maxLength": 20},
            {"type": "string", "minLength": 2},
            {"type": "string", "pattern": "^[a-z ]+$"},
            {"type": "string", "format": "email"},
            {"type": "string", "format": "date"},
            {"type": "string", "format": "time"},
            {"type": "string", "format": "date-time"},
            {"type": "string", "format": "duration"},
            {"type": "integer"},
            {"type": "integer", "minimum": 0, "maximum": 10},
            {"type": "number", "exclusiveMinimum": 0},
            {"anyOf": [{"type": "number"}, {"type": "string"}]},
            {"type": "boolean"},
            {"type": "boolean", "default": True},
            {"const": "only"},
            {"type": "object"},
            {},
        ]
    )
    return {**made, "description": "What <@U1> & others pay"} if rng.random() < 0.2 else dict(made)


def choice(rng: random.Random, depth: int) -> dict[str, Any]:
    count = rng.choice([2, 3, 9, 11, 130])
    return {"enum": [f"{'long ' * rng.choice([1, 20])}choice {n}" for n in range(count)]}


def several(rng: random.Random, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "array", "items": choice(rng, depth)}
    return {**made, "minItems": 1} if rng.random() < 0.3 else made


def lines(rng: random.Random, depth: int) -> dict[str, Any]:
    item = rng.choice([{"type": "string"}, {"type": "integer"}, group(rng, 3)])
    return {"type": "array", "items": item}


def union(rng: random.Random, depth: int) -> dict[str, Any]:
    if rng.random() < 0.4:
        return {"oneOf": [{"type": "integer"}, {"type": "boolean"}, group(rng, depth + 1)]}
    parts = []
    for name in ("card", "transfer"):
        part = group(rng, depth + 1)
        tag = {"kind": {"const": name}}
        parts.append({**part, "properties": {**tag, **part["properties"]}, "required": ["kind"]})
    return {"oneOf": parts}
