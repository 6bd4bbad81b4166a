"""The pure heart: functions from (state, command, now) to entries. No clock, no I/O, no asyncio."""
