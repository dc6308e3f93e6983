"""The e-mail service on a real stack: every mail is sent once, or it is known that nobody knows."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from local.stack import StackStatus
from tests.database.personas import People
from tests.e2e.proxy import Proxy
from tests.e2e.worker_process import until
from tests.email.conftest import Post
from tests.email.email_process import APP_URL, EmailProcess
from tests.email.sendgrid_double import KEY, SILENT, SLOW, UNANSWERED, Fault, SendGridDouble

Run = Callable[..., EmailProcess]


def test_a_queued_mail_is_rendered_sent_and_recorded(
    people: People, post: Post, sendgrid: SendGridDouble, run: Run
) -> None:
    person = people.new()
    email_id = post.welcome(person)
    run()
    until(lambda: post.row(email_id)["status"] == "sent")
    (body,) = sendgrid.sent_to(person.email)
    row = post.row(email_id)
    assert row["sendgrid_message_id"] == body["message_id"]
    assert (row["attempts"], row["error"]) == (1, None)
    assert row["sent_at"] is not None
    assert body["custom_args"] == {"email_id": str(email_id)}
    text, html = (part["value"] for part in body["content"])
    assert "2 credits" in text
    assert "2 credits" in html
    assert APP_URL in html


def test_a_mail_that_is_refused_fails_with_the_reason(post: Post, sendgrid: SendGridDouble, run: Run) -> None:
    (too_large,) = post.mails(1)
    # Half of a character, as JSON can say it.
    sendgrid.faulty(Fault(413, ("The request is too large: \ud83d",)))
    run()
    until(lambda: post.row(too_large)["status"] == "failed")
    assert post.row(too_large)["error"] == "SendGrid answered 413: The request is too large: ?"
    assert len(sendgrid.asked_for(too_large)) == 1


def test_too_many_requests_pause_all_sending_and_count_for_no_mail(
    post: Post, sendgrid: SendGridDouble, run: Run
) -> None:
    first = post.mails(5)
    sendgrid.faulty(Fault(429, ("too many requests",), {"Retry-After": "2"}), 5)
    service = run()
    until(lambda: post.statuses(*first) == {"queued"} and sendgrid.requests)
    asked = len(sendgrid.requests)
    later = post.mails(5)
    assert service.health().json()["status"] == "rate_limited"
    assert service.health().status_code == 200
    until(lambda: post.statuses(*first, *later) == {"sent"})
    assert {post.row(email_id)["attempts"] for email_id in first} == {1}
    # Nothing was asked for between the last refusal and the end of the pause.
    times = [at for at, _ in sendgrid.requests]
    assert times[asked] - times[asked - 1] >= 1.9
    assert set(sendgrid.times_sent().values()) == {1}


def test_a_wrong_key_pauses_all_sending_until_it_is_right(post: Post, sendgrid: SendGridDouble, run: Run) -> None:
    mails = post.mails(3)
    sendgrid.key = "SG.another"
    service = run()
    until(lambda: service.said("sending_paused"))
    (said,) = service.said("sending_paused")
    assert said["level"] == "error"
    assert "authorization grant is invalid" in said["error"]
    assert "SENDGRID_API_KEY" in said["next_step"]
    assert service.health().status_code == 503
    assert service.health().json()["status"] == "refused"
    until(lambda: post.statuses(*mails) == {"queued"})
    sendgrid.key = KEY
    until(lambda: post.statuses(*mails) == {"sent"})
    assert {post.row(email_id)["attempts"] for email_id in mails} == {1}
    assert service.health().status_code == 200


def test_an_outage_of_sendgrid_is_waited_for(post: Post, sendgrid: SendGridDouble, run: Run) -> None:
    mails = post.mails(3)
    sendgrid.faulty(Fault(503, ("The service is unavailable.",)), 3)
    run()
    until(lambda: post.statuses(*mails) == {"sent"})
    assert {post.row(email_id)["attempts"] for email_id in mails} == {1}


def test_a_mail_that_breaks_sendgrid_is_given_up(post: Post, sendgrid: SendGridDouble, run: Run) -> None:
    (poison,) = post.mails(1)
    sendgrid.fault = lambda body: (
        Fault(500, ("Internal error.",)) if body["custom_args"]["email_id"] == str(poison) else None
    )
    run()
    until(lambda: post.row(poison)["attempts"] == 1)
    row = post.row(poison)
    assert row["status"] == "queued"
    assert row["next_attempt_at"] > datetime.now(UTC)


def test_refused_connections_are_waited_for(post: Post, sendgrid: SendGridDouble, run: Run) -> None:
    mails = post.mails(3)
    sendgrid.stop()
    service = run()
    until(lambda: service.said("sending_paused"))
    sendgrid.start()
    until(lambda: post.statuses(*mails) == {"sent"})
    assert {post.row(email_id)["attempts"] for email_id in mails} == {1}
    assert set(sendgrid.times_sent().values()) == {1}


def test_a_connection_cut_after_the_mail_leaves_it_unknown_until_an_event_tells(
    people: People, post: Post, sendgrid: SendGridDouble, run: Run
) -> None:
    mails = post.mails(2)
    sendgrid.faulty(UNANSWERED, 2)
    run()
    until(lambda: post.statuses(*mails) == {"unknown"})
    (later,) = post.mails(1)
    until(lambda: post.row(later)["status"] == "sent")
    assert set(sendgrid.times_sent().values()) == {1}
    assert "No answer after the mail was sent" in post.row(mails[0])["error"]
    event = {"sg_event_id": uuid4().hex, "email_id": str(mails[0]), "event_type": "delivered"}
    people.service.call("record_email_events", p_events=[event | {"occurred_at": datetime.now(UTC).isoformat()}])
    assert post.row(mails[0])["status"] == "delivered"
    assert post.row(mails[1])["status"] == "unknown"


@pytest.mark.parametrize("fault", [UNANSWERED, Fault(502)])
def test_an_outage_without_answers_leaves_few_mails_in_doubt(
    post: Post, sendgrid: SendGridDouble, run: Run, fault: Fault
) -> None:
    mails = post.mails(60)
    sendgrid.faulty(fault)
    run()
    until(lambda: len(sendgrid.requests) >= 11)
    waiting = [email_id for email_id in mails if post.row(email_id)["status"] == "queued"]
    assert len(waiting) >= 60 - 12, "the first ten, and then one for each longer pause"
    sendgrid.faulty(fault, 0)
    until(lambda: post.statuses(*waiting) == {"sent"})


def test_no_more_mails_are_on_their_way_than_there_are_slots(post: Post, sendgrid: SendGridDouble, run: Run) -> None:
    mails = post.mails(12)
    sendgrid.delay = 0.2
    run(EMAIL_CONCURRENCY=3)
    until(lambda: post.statuses(*mails) == {"sent"})
    assert sendgrid.most_at_once == 3


def test_a_sender_that_is_asked_to_end_waits_for_what_is_on_its_way(
    post: Post, sendgrid: SendGridDouble, run: Run
) -> None:
    sendgrid.faulty(SLOW)
    mails = post.mails(4)
    service = run(EMAIL_CONCURRENCY=2)
    until(lambda: len(sendgrid.accepted) == 2)
    assert service.end() == 0
    assert sorted(post.row(email_id)["status"] for email_id in mails) == ["queued", "queued", "sent", "sent"]
    assert not service.said("mails_left_to_their_leases")


def test_a_sender_killed_before_it_recorded_leaves_a_mail_unknown_and_never_sent_again(
    stack: StackStatus, post: Post, sendgrid: SendGridDouble, run: Run
) -> None:
    with Proxy(stack.api_url) as proxy:
        proxy.swallows = b"/rpc/settle_emails"
        service = run(url=proxy.url)
        (email_id,) = post.mails(1)
        until(lambda: sendgrid.times_sent()[str(email_id)] == 1)
        service.kill()
    assert post.row(email_id)["status"] == "sending"
    service = run()
    time.sleep(1)
    assert post.row(email_id)["status"] == "sending", "the lease is not over"
    post.hurry(email_id)
    until(lambda: post.row(email_id)["status"] == "unknown")
    time.sleep(1)
    assert sendgrid.times_sent()[str(email_id)] == 1
    assert post.row(email_id)["status"] == "unknown"


def test_a_sender_killed_while_sendgrid_thinks_sends_nothing_twice(
    post: Post, sendgrid: SendGridDouble, run: Run
) -> None:
    mails = post.mails(4)
    sendgrid.faulty(SILENT, 2)
    service = run(EMAIL_CONCURRENCY=2)
    until(lambda: len(sendgrid.accepted) == 2)
    service.kill()
    run()
    until(lambda: len(sendgrid.accepted) == 4)
    post.hurry(*mails)
    until(lambda: post.statuses(*mails) == {"sent", "unknown"})
    assert set(sendgrid.times_sent().values()) == {1}


@pytest.mark.parametrize("function", ["claim_emails", "settle_emails"])
def test_a_lost_answer_of_the_database_sends_nothing_twice(
    stack: StackStatus, post: Post, sendgrid: SendGridDouble, run: Run, function: str
) -> None:
    mails = post.mails(3)
    with Proxy(stack.api_url) as proxy:
        proxy.loses = f"/rpc/{function}".encode()
        run(url=proxy.url)
        until(lambda: post.statuses(*mails) in ({"sending"}, {"sent"}))
        time.sleep(0.5)
        proxy.loses = None
        until(lambda: post.statuses(*mails) == {"sent"})
    assert {str(email_id) for email_id in mails} <= set(sendgrid.times_sent())
    assert set(sendgrid.times_sent().values()) == {1}


def test_a_key_that_may_not_send_ends_the_service_with_the_next_step(run: Run) -> None:
    service = run(SUPABASE_SECRET_KEY="sb_secret_of_another_project")
    assert service.process.wait(20) == 1
    (said,) = service.said("project_refused")
    assert "SUPABASE_SECRET_KEY" in said["next_step"]
