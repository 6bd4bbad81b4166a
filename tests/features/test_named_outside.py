"""A feature is named by code in its folders: outside stands what users write themselves, and the wire's vocabulary."""

from __future__ import annotations

import pytest

from helmr.features.names import NAMES
from tests.programs.gauges.features import FEATURES, Spread, named_in
from tests.programs.gauges.named import Named
from tests.programs.gauges.shape import sources

SHARED = ("helmr/errors/", "helmr/models/", "helmr/features/__init__.py")
"""Errors and models are the wire's; the last lists features for type checkers."""


@pytest.mark.parametrize(
    "feature", [one for one in FEATURES if one.name in NAMES], ids=lambda one: one.name
)
def test_few_files_outside_its_folders_name_it(feature: Named) -> None:
    spread = Spread(feature, named_in(feature, sources()))
    outside = [one for one in spread.outside if not one.startswith(SHARED)]
    assert spread.files
    assert len(outside) <= feature.outside_max, outside


def test_each_feature_with_folders_has_a_gauge() -> None:
    assert set(NAMES) <= {one.name for one in FEATURES}
