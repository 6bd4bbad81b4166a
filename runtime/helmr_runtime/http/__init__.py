"""The HTTP face: routes that authenticate, call the service and shape the answer."""
