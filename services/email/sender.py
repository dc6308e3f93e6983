"""The sender's loop: claims mails while slots are free, sends each once, and tells the outbox what became of it.

Only what is about to be sent is claimed, so that a sender that dies leaves few mails in doubt: those on their way, and
those of which the outbox was just being told. Nothing more is sent while a database does not hear.
"""

import asyncio
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import structlog

from services.claims import Claims
from services.email.health import FOR_A_PERSON, Metrics
from services.email.mails import compose
from services.email.outbox import Claim, ClaimedEmail, Outbox, Outcome, Result
from services.email.rendering import RenderingError
from services.email.senders import Answer, Sender, Trouble, exhausted
from services.email.settings import EmailSettings
from services.project import RefusedError, UnavailableError
from services.shortage import is_shortage
from services.waiting import Backoff, Breaker, jittered, wait_for

SEVERAL = 3  # addresses in a row whose mails are refused: it is none of theirs
UNRECORDED_PER_SLOT = 2  # mails that are on their way or not recorded yet
SEND_DEADLINE = 45.0  # seconds, after which the fate of a mail is unknown; late news are told
THREADS_SECONDS = 30.0  # until all threads have started
FIRST_WAIT = 0.1  # seconds, after a look that found something; doubled while nothing is found
REFUSED_WAIT = 15.0  # seconds
UNREACHABLE_WAIT = (0.1, 5.0)  # seconds, first and longest
EXPAND_BATCH = 1000
EXPAND_SECONDS = 5.0
SETTLE_GRACE = 15.0  # seconds, for telling the outbox after the signal to stop

PAUSES = {  # seconds, first and longest; doubled with each failure
    Trouble.EXHAUSTED: (1.0, 60.0),
    Trouble.RATE_LIMITED: (1.0, 60.0),
    Trouble.UNAVAILABLE: (1.0, 60.0),
    Trouble.REFUSED: (5.0, 120.0),
}
NEXT_STEPS = {
    Trouble.EXHAUSTED: "see what uses up the open files (ulimit -n), the memory or the disk of this service",
    Trouble.RATE_LIMITED: "none; a smaller EMAIL_CONCURRENCY or emails_per_minute of the campaign keeps within limits",
    Trouble.UNAVAILABLE: "none, if it passes",
    Trouble.REFUSED: "check SENDGRID_API_KEY (it needs the scope Mail Send) or the password in EMAIL_SMTP_URL, "
    "EMAIL_FROM (a verified sender), and the state and the quota of the account",
}

log = structlog.get_logger(__name__)


class Pauses(Breaker):
    """Whether mails may be sent now. After a pause one mail tries whether the trouble is over."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics
        self._trouble: Trouble | None = None
        self._refused: set[str] = set()  # addresses whose mails were refused, for whatever reason, since one was taken

    def heard(self, answer: Answer, recipient: str, began_at: float) -> Answer:
        """Draw the conclusion from an answer to a call that was begun at `began_at` (monotonic).

        Returns what the answer means in the light of those before it.
        """
        is_news = self.is_news(began_at)
        if answer.doubt and len(self._refused) < SEVERAL:
            self._refused.add(recipient)
        elif answer.outcome is Outcome.SENT and is_news:
            self._refused.clear()
        if answer.doubt and len(self._refused) >= SEVERAL:
            answer = replace(answer, trouble=answer.doubt, is_counted=False)
        if answer.trouble:
            self._pause(answer, answer.trouble, began_at)
        elif self.lasts and is_news and self._is_over(answer):
            log.info("sending_goes_on", after=self._trouble)
            self._trouble = None
            self.recovered()
            self._metrics.goes_on()
        return answer

    def _is_over(self, answer: Answer) -> bool:
        # A relay that takes no mail of ours may still know that there is no such recipient.
        is_sent = answer.outcome is Outcome.SENT
        return is_sent if self._trouble is Trouble.REFUSED else answer.outcome is not Outcome.UNKNOWN

    def _pause(self, answer: Answer, trouble: Trouble, began_at: float) -> None:
        pause = self.fell(began_at, PAUSES[trouble], asked=answer.pause)
        if trouble is not self._trouble:
            self._trouble = trouble
            self._metrics.pauses(trouble, answer.error or "")
            tell = log.error if trouble in FOR_A_PERSON else log.warning
            tell(
                "sending_paused",
                reason=trouble,
                seconds=round(pause, 1),
                error=answer.error,
                next_step=NEXT_STEPS[trouble],
            )


class Batch:
    """What became of the mails of one claim, told to the outbox as it comes: what waits goes together."""

    def __init__(self, claim: Claim, outbox: Outbox, metrics: Metrics) -> None:
        self._token = claim.token
        self._outbox = outbox
        self._metrics = metrics
        self._waiting: list[Result] = []
        self._lock = asyncio.Lock()

    async def tell(self, result: Result) -> bool:
        """Tell one result until the outbox has heard it; False where it refuses to hear."""
        self._waiting.append(result)
        async with self._lock:
            if result not in self._waiting:  # it went with those of another call
                return True
            told, self._waiting = self._waiting, []
            try:
                await self._outbox.settle(self._token, told)
            except RefusedError as error:
                self._metrics.unrecorded(str(error))
                outcomes = {str(result.email_id): result.outcome for result in told}
                log.error("results_refused", error=str(error), outcomes=outcomes)
                return False
        self._metrics.unrecorded(None)
        return True


class EmailSender:
    """Sends up to `settings.concurrency` mails at a time."""

    def __init__(self, settings: EmailSettings, outbox: Outbox, sender: Sender, metrics: Metrics) -> None:
        self._settings = settings
        self._outbox = outbox
        self._sender = sender
        self._metrics = metrics
        self._pauses = Pauses(metrics)
        self._threads = ThreadPoolExecutor(settings.concurrency, "send")
        self._wake = asyncio.Event()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = 0
        self._held_until = 0.0
        self._claims = Claims(*UNREACHABLE_WAIT)
        self._idle = Backoff(FIRST_WAIT, settings.poll_seconds)

    def stop(self) -> None:
        """Claim nothing more, and end when what is on its way has its answer."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Send until stopped. Raises RefusedError when the first claim is refused."""
        await self._start_threads()
        campaigns = asyncio.create_task(self._expand_campaigns())
        # It ends by a fault only, which must not pass for an outbox without campaigns.
        campaigns.add_done_callback(lambda _: self.stop())
        try:
            while not self._stopping:
                self._wake.clear()
                await wait_for(self._wake, await self._look())
            await self._drain()
            if campaigns.done():
                await campaigns
        finally:
            campaigns.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(campaigns, *self._tasks, return_exceptions=True)
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _start_threads(self) -> None:
        """Start all threads now: a mail whose thread cannot be started, for want of memory, would be in doubt."""
        met = threading.Barrier(self._settings.concurrency, timeout=THREADS_SECONDS)
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._threads, met.wait) for _ in range(met.parties)))

    async def _look(self) -> float:
        """Claim for the free slots and return the seconds until the next look."""
        if (pause := max(self._pauses.seconds_left, self._held_until - time.monotonic())) > 0:
            self._metrics.looked()
            return pause
        free = self._free_slots()
        if free <= 0:
            return self._settings.poll_seconds
        try:
            claim = await self._outbox.claim(free)
        except UnavailableError as error:
            return jittered(self._claims.unanswered(error))
        except RefusedError as error:
            self._claims.refused(error)
            return REFUSED_WAIT
        self._claims.answered()
        self._metrics.looked()
        self._start(claim)
        if claim.emails:
            self._idle.reset()
        return jittered(self._idle.next())

    def _free_slots(self) -> int:
        if self._pauses.lasts:
            return 1 - len(self._tasks)
        slots = self._settings.concurrency
        return min(slots - self._sending, UNRECORDED_PER_SLOT * slots - len(self._tasks))

    def _start(self, claim: Claim) -> None:
        self._sending += len(claim.emails)
        batch = Batch(claim, self._outbox, self._metrics)
        for email in claim.emails:
            task = asyncio.create_task(self._process(email, claim.deadline, batch))
            self._tasks.add(task)
            task.add_done_callback(self._finished)
        self._metrics.in_flight.set(len(self._tasks))

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._metrics.in_flight.set(len(self._tasks))
        self._wake.set()

    async def _process(self, email: ClaimedEmail, deadline: float, batch: Batch) -> None:
        try:
            result = await self._send(email, deadline, batch)
        finally:
            self._sending -= 1
            self._wake.set()
        if not await batch.tell(result):
            self._held_until = time.monotonic() + REFUSED_WAIT

    async def _send(self, email: ClaimedEmail, deadline: float, batch: Batch) -> Result:
        """Try a mail, unless it may not be tried now; returns what is left to be told."""
        if self._stopping or self._pauses.seconds_left or time.monotonic() + SEND_DEADLINE > deadline:
            self._metrics.handed_back(email.type)
            wait = self._pauses.seconds_left
            return Result(email.id, Outcome.RETRY, retry_seconds=wait, is_counted=False)
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._try, email)
        began_at = time.monotonic()
        if not (await asyncio.wait({call}, timeout=SEND_DEADLINE))[0]:
            # No trouble of all: a pause would wait for this call to end before the next mail.
            silence = Answer(Outcome.UNKNOWN, error=f"No answer within {SEND_DEADLINE:g} s")
            await batch.tell(self._conclude(email, silence, began_at))
        # The thread keeps its slot until it ends; what it then says is news.
        return self._conclude(email, await call, began_at)

    def _try(self, email: ClaimedEmail) -> Answer:
        """Make the mail and send it; blocks."""
        try:
            hand_over = self._sender.pack(compose(email, self._settings))
        except Exception as error:  # noqa: BLE001 - told apart, and logged where nobody knows it
            return _not_made(email, error)
        try:
            return hand_over()
        except Exception as error:
            log.exception("send_crashed", email_id=str(email.id))
            text = f"{type(error).__name__} while the mail was sent"
            return Answer(Outcome.UNKNOWN, error=text, trouble=Trouble.UNAVAILABLE)

    def _conclude(self, email: ClaimedEmail, answer: Answer, began_at: float) -> Result:
        """Log and count an answer, and let it pause the sending where it should."""
        seconds = time.monotonic() - began_at
        # Mail servers name the address, which is for nobody but its owner.
        said = answer.error and re.sub(re.escape(email.recipient), "(recipient)", answer.error, flags=re.IGNORECASE)
        meant = self._pauses.heard(replace(answer, error=said), email.recipient.lower(), began_at)
        self._metrics.tried(email.type, meant.outcome, seconds)
        log.info(
            "email_tried",
            email_id=str(email.id),
            type=email.type,
            outcome=meant.outcome,
            seconds=round(seconds, 3),
            error=said,
        )
        return Result(
            email.id,
            meant.outcome,
            message_id=meant.message_id,
            error=answer.error,
            retry_seconds=self._pauses.seconds_left if meant.trouble else None,
            is_counted=meant.is_counted,
            is_bounce=meant.is_bounce,
        )

    async def _drain(self) -> None:
        """Wait until what is on its way has its answer, and the outbox knows."""
        log.info("sender_stopping", mails=len(self._tasks))
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=SEND_DEADLINE + SETTLE_GRACE)
        if self._tasks:
            log.error("mails_left_to_their_leases", mails=len(self._tasks))
        log.info("sender_stopped")

    async def _expand_campaigns(self) -> None:
        """Queue the mails of campaigns that are due, part by part."""
        refused = False
        while True:
            moved = 0
            try:
                moved = await self._outbox.expand_campaigns(EXPAND_BATCH)
                refused = False
            except UnavailableError:
                pass  # the look into the outbox tells of it
            except RefusedError as error:
                if not refused:
                    log.error("campaigns_refused", error=str(error))
                refused = True
            if moved:
                self._wake.set()
            else:
                await asyncio.sleep(jittered(EXPAND_SECONDS))


def _not_made(email: ClaimedEmail, error: Exception) -> Answer:
    """Nothing has gone out: it is this mail's failure, or this machine's, and leaves nobody in doubt."""
    cause: BaseException | None = error
    # A mail names no file, but programs load parts of themselves late, and Jinja calls what fails there a fault of the
    # template.
    while cause and not (is_shortage(cause) or (cause is error and isinstance(error, OSError))):
        cause = cause.__cause__ or cause.__context__
    if cause:
        return exhausted(cause)
    if isinstance(error, RenderingError):
        return Answer(Outcome.FAILED, error=f"The template cannot be rendered: {error}")
    if isinstance(error, ValueError):
        return Answer(Outcome.FAILED, error=f"The mail cannot be carried: {error}")
    log.error("packing_crashed", email_id=str(email.id), exc_info=error)
    return Answer(Outcome.FAILED, error=f"{type(error).__name__} while the mail was made")
