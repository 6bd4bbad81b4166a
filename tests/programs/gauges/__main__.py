"""`make gauges`: the shape of the sources, and how far calls walk through them."""

from __future__ import annotations

import sys

from tests.programs.gauges import shape, walk

sys.stdout.write(f"{shape.report()}\n")
walk.main()
