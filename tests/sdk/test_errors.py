"""The error tree: one code each, facts as data, the same on both sides of every boundary."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr import errors
from helmr.errors import HelmrError, HelmrSignal, all_codes, base, error_from_code


def tree(base: type[Any]) -> list[type[Any]]:
    """The class and all below it that `helmr.errors` holds."""
    below = [cls for sub in base.__subclasses__() for cls in tree(sub)]
    return [cls for cls in (base, *below) if getattr(errors, cls.__name__, None) is cls]


CLASSES: list[type[HelmrError]] = tree(HelmrError)
SIGNALS: list[type[HelmrSignal]] = tree(HelmrSignal)
BRANCHES = {
    errors.UsageError: (2, {400, 409, 413, 415, 422}),
    errors.NotFound: (3, {404}),
    errors.NotAllowed: (4, {401, 403}),
    errors.Conflict: (5, {409, 410}),
    errors.Unavailable: (6, {429, 503}),
    errors.DataError: (7, {500}),
}

facts = st.dictionaries(
    st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True).filter(
        lambda name: name not in ("message", "hint", "errors", "self", "retry_after_s")
    ),
    st.none() | st.integers() | st.text() | st.lists(st.integers(), max_size=3),
    max_size=3,
)


def test_every_class_has_a_code_of_its_own_in_snake_case():
    codes = [cls.code for cls in CLASSES]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)
    assert all("code" in vars(cls) for cls in CLASSES)


def test_codes_lead_back_to_their_classes():
    here = {cls.code: cls for cls in CLASSES}
    assert {code: all_codes()[code] for code in here} == here


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_has_its_branchs_exit_code_a_fitting_status_and_a_docstring(
    cls: type[HelmrError],
):
    assert (cls.__doc__ or "").strip()
    branch = next((b for b in BRANCHES if issubclass(cls, b)), None)
    if branch is None:
        assert issubclass(cls, errors.OutcomeError) or cls is HelmrError
        return
    exit_code, statuses = BRANCHES[branch]
    assert cls.exit_code == exit_code
    # Of a runtime that was superseded: whatever repeats a call is to come again, to the other one.
    assert cls.status in ({503} if cls is errors.LedgerSuperseded else statuses)


def test_only_what_may_be_tried_again_says_so():
    retryable = {cls for cls in CLASSES if cls.retryable}
    allowed: set[type[HelmrError]] = {cls for cls in CLASSES if issubclass(cls, errors.Unavailable)}
    allowed |= {errors.Moved, errors.LedgerSuperseded}
    assert retryable == allowed - {errors.GroupsUnknown}, "only a sign-in helps there"


@given(
    st.sampled_from(CLASSES),
    st.text(),
    st.none() | st.text(),
    facts,
    st.none() | st.floats(0, 100),
)
def test_pickling_and_copying_keep_everything(
    cls: type[HelmrError],
    message: str,
    hint: str | None,
    found: dict[str, object],
    retry_after_s: float | None,
):
    paths = [{"path": "a.b", "message": "no"}]
    error = cls(message, hint=hint, errors=paths, retry_after_s=retry_after_s, **found)
    error.op = 7
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is cls
        assert str(other) == message
        assert (other.message, other.hint, other.errors) == (error.message, error.hint, paths)
        assert (other.retry_after_s, other.facts, other.op) == (retry_after_s, found, 7)


def test_an_error_without_a_hint_has_its_classs():
    assert errors.SessionTerminal("x").hint == "Start a new session."
    assert errors.SessionTerminal("x", hint="Other.").hint == "Other."


def test_an_error_whose_class_has_a_hint_can_have_none_after_a_round_trip():
    error = errors.SessionTerminal("x", hint="")
    assert pickle.loads(pickle.dumps(error)).hint == ""


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, errors.UsageError),
        (418, errors.UsageError),
        (404, errors.NotFound),
        (401, errors.Unauthenticated),
        (403, errors.NotAllowed),
        (409, errors.Conflict),
        (410, errors.Conflict),
        (429, errors.Overloaded),
        (502, errors.Unavailable),
        (503, errors.Unavailable),
        (504, errors.Unavailable),
        (500, HelmrError),
        (None, HelmrError),
    ],
)
def test_an_unknown_code_falls_back_to_its_status(status: int | None, cls: type[HelmrError]):
    error = error_from_code("from_a_newer_runtime", "message", status=status, facts={"a": 1})
    assert type(error) is cls
    assert error.facts == {"a": 1}


def test_a_known_code_wins_over_its_status():
    assert type(error_from_code("wait_resolved", "m", status=503)) is errors.WaitResolved


@pytest.mark.parametrize("name", ["message", "hint", "errors", "retry_after_s", "self"])
def test_facts_of_a_newer_runtime_never_break_an_error(name: str):
    error = error_from_code("wait_resolved", "m", facts={name: "x", "who": "alice"})
    assert error.message == "m"
    assert error.facts["who"] == "alice"


def test_step_failed_tells_type_and_text():
    failed = errors.StepFailed("m", step="s", type="ValueError", text="boom")
    assert (failed.type, failed.text) == ("ValueError", "boom")
    assert (errors.StepFailed("m").type, errors.StepFailed("m").text) == ("", "")


@pytest.mark.parametrize("cls", SIGNALS, ids=lambda cls: cls.__name__)
def test_signals_are_no_exceptions_and_survive_a_boundary(cls: type[HelmrSignal]):
    assert not issubclass(cls, Exception)
    signal = (
        cls(op=3, recorded="step a", met="step b")
        if cls is errors.NondeterminismError
        else cls("message")
    )
    other = pickle.loads(pickle.dumps(signal))
    assert type(other) is cls
    assert str(other) == str(signal)
    assert vars(other) == vars(signal)


def test_a_mismatch_names_op_recorded_and_met_and_teaches():
    error = errors.NondeterminismError(op=3, recorded="step a", met="step b")
    assert all(part in str(error) for part in ("op 3", "step a", "step b", "@step"))


@pytest.mark.parametrize(
    ("module", "code"),
    [("helmr.features.marbles.errors", "marble_lost"), ("app.errors", "not_found")],
)
def test_a_class_of_a_feature_has_a_code_and_one_of_an_app_has_that_of_its_base(
    monkeypatch: pytest.MonkeyPatch, module: str, code: str
):
    monkeypatch.setattr(base, "_BY_CODE", dict(base._BY_CODE))
    parts = {"__module__": module, "__doc__": "Lost."}
    made: type[errors.NotFound] = type("MarbleLost", (errors.NotFound,), parts)
    assert made.code == code
    assert (all_codes()[code] is made) is (code == "marble_lost")
