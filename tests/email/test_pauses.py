"""When several refusals are the provider's and not the mails': what pauses the sending, and what ends the pause."""

import time

import pytest

from services.email.health import Metrics
from services.email.outbox import Outcome
from services.email.sender import SEVERAL, Pauses
from services.email.senders import Answer, Trouble

SENT = Answer(Outcome.SENT)
DOUBTFUL = Answer(Outcome.RETRY, error="554 5.7.1 no", doubt=Trouble.REFUSED)
GONE = Answer(Outcome.FAILED, error="550 5.1.1 no", is_bounce=True)
OURS = Answer(Outcome.RETRY, error="550 5.4.5 no", trouble=Trouble.REFUSED, is_counted=False)
OUTAGE = Answer(Outcome.RETRY, error="no", trouble=Trouble.UNAVAILABLE, is_counted=False)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses(Metrics())


def hear(pauses: Pauses, answer: Answer, recipient: str = "a", *, ago: float = 0) -> Answer:
    return pauses.heard(answer, recipient, time.monotonic() - ago)


def test_refusals_to_several_addresses_in_a_row_are_none_of_theirs(pauses: Pauses) -> None:
    meant = [hear(pauses, DOUBTFUL, recipient) for recipient in ("a", "b", "b", "a")]
    assert meant == [DOUBTFUL] * 4
    assert not pauses.lasts
    third = hear(pauses, DOUBTFUL, "c")
    assert (third.outcome, third.trouble, third.is_counted) == (Outcome.RETRY, Trouble.REFUSED, False)
    assert pauses.seconds_left > 0
    assert hear(pauses, DOUBTFUL, "a").is_counted is False


def test_a_mail_that_is_taken_ends_the_row(pauses: Pauses) -> None:
    for recipient in ("a", "b"):
        hear(pauses, DOUBTFUL, recipient)
    hear(pauses, SENT)
    for recipient in ("c", "d"):
        assert hear(pauses, DOUBTFUL, recipient) == DOUBTFUL


def test_what_is_surely_a_recipients_fault_neither_adds_nor_ends(pauses: Pauses) -> None:
    for recipient in ("a", "b"):
        hear(pauses, DOUBTFUL, recipient)
        assert hear(pauses, GONE, "x") == GONE
    assert not pauses.lasts
    assert hear(pauses, DOUBTFUL, "c").trouble is Trouble.REFUSED


def test_only_a_mail_that_is_taken_proves_that_the_relay_takes_mails_again(pauses: Pauses) -> None:
    hear(pauses, OURS)
    hear(pauses, SENT, ago=60)
    assert pauses.lasts, "it was taken before"
    for answer in (GONE, DOUBTFUL):
        hear(pauses, answer)
        assert pauses.lasts
    hear(pauses, SENT)
    assert not pauses.lasts


def test_any_answer_proves_that_an_outage_is_over(pauses: Pauses) -> None:
    hear(pauses, OUTAGE)
    hear(pauses, Answer(Outcome.UNKNOWN))
    assert pauses.lasts
    hear(pauses, GONE)
    assert not pauses.lasts


def test_a_row_of_refusals_from_before_the_pause_is_not_ended_by_an_older_success(pauses: Pauses) -> None:
    for recipient in range(SEVERAL):
        hear(pauses, DOUBTFUL, str(recipient))
    hear(pauses, SENT, ago=60)
    assert hear(pauses, DOUBTFUL, "z").trouble is Trouble.REFUSED
