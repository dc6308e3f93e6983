"""What there is to do by the clock, and how often.

Each task is a loop around one function of the database, which does a part of the work and says what is left; it may
be killed anywhere, repeated, and run by several services at once. Each returns how many things it dealt with.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from supabase import AsyncClient

from services.project import call, remove_objects

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

# The longest of these functions are given 55 s by the database.
ANSWER_TIMEOUT = 65.0  # seconds
BATCH = 1000


class LedgerViolatedError(Exception):
    """The ledger is not sound: a person has to look at `violations`, the rows of verify_ledger()."""

    def __init__(self, violations: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(violations)} violated invariants of the ledger, see: dtf credits verify")
        self.violations = violations


class RowsSetAsideError(Exception):
    """Tasks could not deal with `count` rows: a person has to mend them."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} rows were set aside, see: dtf operations aside")
        self.count = count


class StuckObjectError(Exception):
    """Storage does not remove an object."""


@dataclass(frozen=True, slots=True)
class Project:
    """What the tasks act on: a project as `service_role`, and how many days it keeps its logs."""

    client: AsyncClient
    keep_days: int

    async def call(self, function: str, **params: Any) -> Any:
        """Call a function of the database."""
        return await call(self.client, function, {f"p_{name}": value for name, value in params.items()}, ANSWER_TIMEOUT)

    async def remove(self, keys: list[str]) -> None:
        """Remove objects, named bucket/key, with their bytes."""
        for start in range(0, len(keys), BATCH):
            await remove_objects(self.client, keys[start : start + BATCH], ANSWER_TIMEOUT)


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do every `interval` seconds."""

    name: str
    interval: float
    run: Callable[[Project], Awaitable[int]]


async def requeue_lost_operations(project: Project) -> int:
    """Take operations back from workers that have died; workers do that too, whenever one claims."""
    requeued = 0
    while (batch := await project.call("requeue_lost_image_operations", limit=BATCH)) == BATCH:
        requeued += batch
    return requeued + int(batch)


async def mark_lost_emails(project: Project) -> int:
    """Mark mails as unknown whose sender has died; senders do that too, whenever one claims."""
    marked = 0
    while batch := await project.call("mark_lost_emails", limit=BATCH):
        marked += int(batch)
    return marked


async def queue_reminders(project: Project) -> int:
    """Queue the mails that tell of credits and images about to go."""
    queued = 0
    for function in ("queue_expiring_credit_emails", "queue_expiring_image_emails"):
        while batch := await project.call(function, limit=BATCH):
            queued += int(batch)
    return queued


async def expire_credits(project: Project) -> int:
    """End the grants whose time has come; returns how many accounts lost credits."""
    accounts = 0
    while batch := await project.call("expire_credits", limit=BATCH):
        accounts += len(batch)
    return accounts


async def end_comped_subscriptions(project: Project) -> int:
    """End the subscriptions that an operator gave for some months."""
    ended = 0
    while batch := await project.call("end_comped_subscriptions", limit=BATCH):
        ended += int(batch)
    return ended


async def delete_expired_images(project: Project) -> int:
    """Delete the images whose time is over: their objects first, and the rows in the next round."""
    deleted, removed = 0, set[str]()
    while batch := await project.call("delete_expired_images", limit=100):
        gone = sum(not row["object_keys"] for row in batch)
        deleted += gone
        keys = [key for row in batch for key in row["object_keys"]]
        await _remove_once(project, keys, removed, is_moving=gone > 0)
    return deleted


async def remove_orphaned_objects(project: Project) -> int:
    """Remove the objects that no row needs any more."""
    removed = set[str]()
    while batch := await project.call("orphaned_storage_objects", limit=BATCH):
        await _remove_once(project, [f"{row['bucket_id']}/{row['name']}" for row in batch], removed)
    return len(removed)


async def refresh_stats(project: Project) -> int:
    """Count the days that are over, so that the figures of the business are fast; counts nothing of its own."""
    while await project.call("refresh_stats"):
        pass
    return 0


async def record_system_metrics(project: Project) -> int:
    """Write the state of the system into system_metrics."""
    return int(await project.call("record_system_metrics"))


async def prune_logs(project: Project) -> int:
    """Delete activity logs, metrics and mails that are too old."""
    before = (datetime.now(UTC) - timedelta(days=project.keep_days)).isoformat()
    pruned = 0
    # Each call reads past what the ones before it have deleted: few large ones.
    while batch := await project.call("prune_logs", before=before, limit=10 * BATCH):
        pruned += int(batch)
    return pruned


async def verify_ledger(project: Project) -> int:
    """Prove the ledger. Raises LedgerViolatedError."""
    if violations := await project.call("verify_ledger"):
        raise LedgerViolatedError(violations)
    return 0


async def watch_set_aside_rows(project: Project) -> int:
    """See whether anything was set aside. Raises RowsSetAsideError."""
    if count := await project.call("count_set_aside_rows"):
        raise RowsSetAsideError(count)
    return 0


async def _remove_once(project: Project, keys: list[str], removed: set[str], *, is_moving: bool = False) -> None:
    """Remove objects that were not removed yet, and remember them.

    One that is still there after its removal would come back for ever: the others go before that is told.
    """
    new = [key for key in keys if key not in removed]
    if keys and not new and not is_moving:
        raise StuckObjectError(f"Storage says that it removed {min(keys)}, but it is still there.")
    await project.remove(new)
    removed.update(new)


TASKS = (
    Task("requeue_lost_operations", MINUTE, requeue_lost_operations),
    Task("mark_lost_emails", MINUTE, mark_lost_emails),
    Task("watch_set_aside_rows", MINUTE, watch_set_aside_rows),
    Task("record_system_metrics", 5 * MINUTE, record_system_metrics),
    Task("expire_credits", 10 * MINUTE, expire_credits),
    Task("end_comped_subscriptions", HOUR, end_comped_subscriptions),
    Task("queue_reminders", HOUR, queue_reminders),
    Task("delete_expired_images", 10 * MINUTE, delete_expired_images),
    Task("refresh_stats", 6 * HOUR, refresh_stats),
    Task("remove_orphaned_objects", DAY, remove_orphaned_objects),
    Task("prune_logs", DAY, prune_logs),
    Task("verify_ledger", DAY, verify_ledger),
)
