"""What of a batch is unlike the others, and in what."""

from __future__ import annotations

from typing import Any

import pytest

from helmr.person.review.batches import outliers, plan
from tests.review.test_drafts_and_batches import wait


def refund(name: str, eur: float, *, initial: Any = None, text: str = "") -> Any:
    body = text or f"Customer {name} asks for {eur} EUR. Order 12 was late."
    return wait(name, minutes=30, subject=f"Refund {name}?", body=body, initial=initial)


NAMES = ("ada", "bea", "cem", "dan", "eva", "fin")


SAYS = "Customer gus asks for 21 EUR."
USUAL = {"eur": 20, "currency": "EUR"}


def usual() -> list[Any]:
    return [refund(name, 18 + n, initial=USUAL) for n, name in enumerate(NAMES)]


def test_waits_that_differ_only_in_names_and_usual_amounts_are_alike() -> None:
    assert outliers(usual()) == {}


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (
            refund("gus", 21, initial={"eur": 20, "currency": "USD"}),
            'currency begins with "USD", most with "EUR"',
        ),
        (refund("gus", 21, initial={"eur": 20}), 'currency begins with nothing, most with "EUR"'),
        (refund("gus", 21), 'begins with null, most with {"currency": "EUR", "eur": 20}'),
        (
            refund(
                "gus",
                21,
                initial=USUAL,
                text=f"{SAYS} Order 12 was lost.",
            ),
            "lacks the word “late”, which 6 of 7 have",
        ),
        (
            refund(
                "gus",
                21,
                initial=USUAL,
                text=f"{SAYS} Order 12 was late. " + "And so on. " * 40,
            ),
            "its text has 489 characters, usual are 48",
        ),
        (refund("gus", 9000, initial=USUAL), "holds 9,000, usual is 21"),
    ],
)
def test_one_that_differs_is_found_with_its_reason(odd: Any, why: str) -> None:
    assert outliers([*usual(), odd]) == {"gus": why}


@pytest.mark.parametrize("orders", [600, 481_000, 7])
def test_an_amount_is_found_beside_numbers_that_name_something(orders: int) -> None:
    def order(n: int, eur: float) -> Any:
        return wait(
            f"w{n}",
            minutes=30,
            subject=f"Refund order #{orders + n}?",
            body=f"Ticket {orders * 3 + n}: {eur} EUR.",
        )

    usual = [order(n, 20 + n) for n in range(12)]
    assert outliers(usual) == {}
    found = outliers([*usual, order(12, 9_000)])
    assert found == {"w12": "holds 9,000, usual is 26"}


def test_numbers_without_a_usual_one_are_no_reason() -> None:
    orders = (3, 71, 950, 12_000, 481_223, 7_000_000)
    texts = [wait(f"w{n}", minutes=5, subject=f"Order {one}?") for n, one in enumerate(orders)]
    assert outliers(texts) == {}


def test_of_two_none_is_the_odd_one_and_without_a_majority_nobody_is() -> None:
    assert outliers([refund("ada", 1), refund("bea", 9000)]) == {}
    halves = [wait(str(n), minutes=5, initial=n % 2, body="same text") for n in range(6)]
    assert outliers(halves) == {}
    assert outliers([]) == {}


def test_hostile_texts_are_only_compared() -> None:
    texts = ["\x1b[2J same", "\u202e same", "[@click=x]same[/] 9e999", "same " + "9" * 400]
    found = outliers([wait(str(n), minutes=5, body=text) for n, text in enumerate(texts)])
    assert set(found) <= {"0", "1", "2", "3"}


def test_the_unlike_come_first_and_what_is_taken_out_is_told() -> None:
    waits = [*usual(), wait("gus", minutes=90, subject="Refund gus?", body="Close the account.")]
    found = plan(waits, "ada")
    assert [item.wait.id for item in found.items] == ["gus", *NAMES]
    assert found.items[0].unlike
    assert not any(item.unlike for item in found.items[1:])
    without = found.without(0)
    assert [item.wait.id for item in without.items] == list(NAMES)
    assert [(out.wait.id, out.why) for out in without.left_out] == [("gus", "left out by you")]
