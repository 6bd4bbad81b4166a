"""Every value on the wire: what gateway, client, console and CLI say to each other.

Requests refuse unknown fields; answers ignore fields that a newer runtime adds. Times are aware UTC datetimes
and end in `_at`; durations end in `_s` (seconds) or are duration texts (`"30m"`).
"""

from helmr.models.answer_links import *
from helmr.models.attachments import *
from helmr.models.bulk import *
from helmr.models.catalog import *
from helmr.models.common import *
from helmr.models.evidence import *
from helmr.models.gate import *
from helmr.models.keys import *
from helmr.models.people import *
from helmr.models.problems import *
from helmr.models.public_tokens import *
from helmr.models.queries import *
from helmr.models.requests import *
from helmr.models.runs import *
from helmr.models.sessions import *
from helmr.models.sql import *
from helmr.models.streams import *
from helmr.models.system import *
from helmr.models.tokens import *
from helmr.models.waits import *
