"""One module per kind of actor: imports what that kind needs, and no other, inside its process.

Each has `async build(name, spec, calls)`, which returns the actor that answers the calls.
"""
