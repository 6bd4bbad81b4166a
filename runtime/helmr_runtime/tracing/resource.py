"""What each span and number that is sent says of the process that it comes from."""

from __future__ import annotations

import os

from opentelemetry.sdk.resources import Resource


def resource_of(process: str) -> Resource:
    """The service, and this process of it; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say more.

    Args:
        process: Its name, which tells the processes of one runtime apart.
    """
    name = os.environ.get("OTEL_SERVICE_NAME", "helmr")
    return Resource.create({"service.name": name, "service.instance.id": process})
