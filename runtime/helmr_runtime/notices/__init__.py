"""Notices on their way out: targets as configured, what they get, and how it gets there (S-84).

`helmr_runtime.core.notices` decides what is sent and when again; `helmr_runtime.service.notices` sends it.
"""
