"""How temporary folders end: a runtime's own, an embedded one's data, the demo's.

They hold what explains a bad start, Ray's logs above all, and go when their owner ends. `HELMR_KEEP_TEMPORARY` names a
folder to which they are moved instead.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

VARIABLE = "HELMR_KEEP_TEMPORARY"


def remove_folder(folder: Path) -> None:
    """Remove a temporary folder, or move it to where `HELMR_KEEP_TEMPORARY` says; harmless if it is gone.

    One that can't be moved there, because that is another file system, stays where it is.
    """
    kept_in = os.environ.get(VARIABLE)
    if not kept_in:
        shutil.rmtree(folder, ignore_errors=True)
        return
    Path(kept_in).mkdir(mode=0o700, parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=kept_in))
    try:
        folder.rename(place)
    except OSError:
        place.rmdir()
