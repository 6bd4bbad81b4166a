"""What a remote function of Ray raised, as it stands in the transcript: itself, not what Ray wraps it in (S-5)."""

from __future__ import annotations

import traceback

import pytest
from ray.exceptions import RayTaskError, WorkerCrashedError

from helmr.errors import SchemaMismatch
from helmr_runtime.replay.ends import error_of, raised_by


class TwoParts(Exception):
    """Can't be made from its message alone."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(f"{what} {number}")


def remote(number: int) -> None:
    secret = f"value-{number}"
    raise ValueError(f"bad {secret}")


def as_ray_raises(cause: Exception, text: str) -> BaseException:
    """What awaiting the ref raises."""
    made = RayTaskError("remote", text, cause, proctitle="ray::remote", pid=1, ip="127.0.0.1")
    found = made.as_instanceof_cause()
    assert isinstance(found, BaseException)
    return found


def wrapped(cause: Exception) -> BaseException:
    try:
        raise cause
    except Exception:
        return as_ray_raises(cause, traceback.format_exc())


def test_type_and_message_are_the_remote_ones() -> None:
    told = error_of(wrapped(TwoParts("left", 3)))
    assert (told["code"], told["type"], told["message"]) == ("exception", "TwoParts", "left 3")


def test_the_traceback_names_the_remote_code_and_no_value() -> None:
    with pytest.raises(ValueError, match="bad") as caught:
        remote(7)
    text = "".join(traceback.format_exception(caught.value))
    told = error_of(as_ray_raises(caught.value, text))
    assert told["message"] == "bad value-7"
    assert "in remote" in told["traceback"]
    assert 'raise ValueError(f"bad {secret}")' in told["traceback"]
    assert "value-7" not in told["traceback"]
    assert "\x1b" not in told["traceback"]


def test_an_error_of_helmr_keeps_its_code() -> None:
    assert error_of(wrapped(SchemaMismatch("does not fit")))["code"] == "schema_mismatch"


@pytest.mark.parametrize("error", [KeyError("x"), WorkerCrashedError()], ids=["own", "of-ray"])
def test_any_other_error_is_itself(error: Exception) -> None:
    assert raised_by(error) is error
    assert error_of(error)["type"] == type(error).__name__
