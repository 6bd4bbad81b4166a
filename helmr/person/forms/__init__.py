"""A JSON Schema as a form. Pure, and light: the console and the answer page draw the same model.

`model` says what a form is, `reader` makes one of a schema, `values` turns what was entered into JSON and back.

Every schema gives a form: what can't be asked as fields is one field for JSON, so no wait is unanswerable.
Texts out of a schema are session data; the code that shows them makes them safe.
"""

from helmr.person.forms.model import (
    FIELDS_MAX,
    MISSING,
    ROWS_MAX,
    Choice,
    Field,
    Form,
    Kind,
    Missing,
    Schema,
    Variant,
    plain,
)
from helmr.person.forms.reader import form_of, schema_hash
from helmr.person.forms.tool_call import Argument, ToolCall, tool_call
from helmr.person.forms.values import (
    Blank,
    Built,
    Cell,
    Cells,
    alone,
    build,
    carry,
    example,
    fill,
    first_cell,
    first_cells,
    places,
    present,
    pretty,
    problem,
    redacted,
    revived,
    room,
    row_ids,
    takes_empty,
    with_rows,
)

__all__ = [
    "FIELDS_MAX",
    "MISSING",
    "ROWS_MAX",
    "Argument",
    "Blank",
    "Built",
    "Cell",
    "Cells",
    "Choice",
    "Field",
    "Form",
    "Kind",
    "Missing",
    "Schema",
    "ToolCall",
    "Variant",
    "alone",
    "build",
    "carry",
    "example",
    "fill",
    "first_cell",
    "first_cells",
    "form_of",
    "places",
    "plain",
    "present",
    "pretty",
    "problem",
    "redacted",
    "revived",
    "room",
    "row_ids",
    "schema_hash",
    "takes_empty",
    "tool_call",
    "with_rows",
]
