"""`make gauges`: the shape of the sources, the spread of features, docstrings, names, walks and commits of calls."""

from __future__ import annotations

import sys

from tests.programs.gauges import banned, commits, features, sentences, shape, walk

for title, report in {
    "shape": shape.report,
    "features, and where code names them": features.report,
    "docstrings that begin with a word that asks": sentences.report,
    "names that hold a word we do not use": banned.report,
}.items():
    sys.stdout.write(f"\n{title}\n\n{report()}\n")
sys.stdout.write("\nwalks\n\n")
walk.main()
sys.stdout.write("\ncommits of a gated call\n\n")
commits.main()
