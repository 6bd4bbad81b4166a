"""Spans of OpenTelemetry, and what tracing costs while it is off."""
