"""Tasks to copy from: a review that waits for approval, a chat, a release. The demo, the tests and the docs use them.

They pretend the outside world (no network, the same every time) where a real task calls Slack, a model or a
deployment tool; each such place is a `@step`.
"""
