"""The figures of docs/reliability.md: what the tests that look for broken promises have done, as they wrote it down."""
