"""Notices on their way out: targets as configured, what they are told, and how it gets there (S-84).

What is to be told, and when again, is decided in `helmr_runtime.core.notices`; `helmr_runtime.service.notices` does it.
"""
