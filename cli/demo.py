"""`dtf demo`: the whole path of a picture, as a browser and an operator would drive it.

A new user signs up, uploads two pictures, asks for an operation of every kind and for one that cannot work, and then
has the cut-out made ready for print; a worker process does them, another sends the welcome mail to the stack's mailbox;
the results and a page that shows them are written to a folder; the ledger is printed and checked.
"""

import html
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, cast

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from supabase import Client, create_client

from cli.errors import CommandError
from cli.pictures import DARK, LIGHT, camera
from cli.project import email_settings
from local.errors import StackError
from local.processes import last_line
from local.stack import StackStatus, default_directory
from local.state import free_port

SAMPLES = Path(__file__).with_name("samples")
WAIT_SECONDS = 180
POLL_SECONDS = 0.25
STOP_SECONDS = 30
GIFT = 10
"""Credits the operator gives the demo user, besides the two that every new user gets."""


@dataclass
class Step:
    """One operation of the demonstration and, once requested, its row."""

    title: str
    operation_type: str
    picture: str | None
    options: dict[str, Any]
    output_name: str
    fails: bool = False
    row: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether the operation has reached its last status."""
        return self.row["status"] in ("completed", "failed", "cancelled")


def steps() -> list[Step]:
    """What the demonstration asks for: every operation once, and one that has to be refused and refunded."""
    return [
        Step("Upscale a photo ×4", "upscale", "photo.jpg", {"scale": 4}, "1-upscaled-photo"),
        Step("Remove a background", "background_removal", "flat-art.png", {}, "2-background-removed"),
        Step("Vectorize flat art", "vectorize", "flat-art.png", {}, "3-vectorized"),
        Step("Set a text", "generate", None, {"prompt": "Print what you love"}, "4-lettering"),
        Step("Remove a photo's background", "background_removal", "photo.jpg", {}, "", fails=True),
    ]


def print_step(done: list[Step]) -> Step:
    """The last operation: the cut-out as a file that prints, 8 cm wide, for a red shirt."""
    cut_out = next(step for step in done if step.output_name == "2-background-removed")
    options = {"input": cut_out.row["id"], "size": 8, "unit": "cm", "garment": "#8c2f39"}
    return Step("Make the print file, 8 cm", "print_ready", cut_out.picture, options, "6-print-file")


def run(stack: StackStatus, output: Path, console: Console) -> None:
    """Play the demonstration on a running stack; raises CommandError where anything is not as it should be."""
    started = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    with worker(stack) as process, sender(stack) as post, ThreadPoolExecutor(1) as aside:
        user = sign_up(stack, console)
        # Beside the operations: the browser that takes the pictures is unpacked first, which takes seconds.
        mail = aside.submit(receive, stack, user, post, output)
        images = upload(user, console)
        todo = steps()
        for step in todo:
            request(user, step, images)
        watch(user, todo, process, console)
        last = print_step(todo)
        request(user, last, images)
        watch(user, [last], process, console)
        todo.append(last)
        welcome = mail.result()
    console.print(f"[green]✓[/green] Received by mail: {welcome.subject}", highlight=False)
    if welcome.trouble:
        console.print(f"[yellow]![/yellow] There is no picture of it. {welcome.trouble}", highlight=False)
    files = download(user, todo, output)
    entries = print_ledger(stack, user, console)
    write_page(output, todo, files, welcome, entries)
    seconds = time.monotonic() - started
    console.print(
        f"\n[green]✓[/green] Done in {seconds:.0f} s. Look at the results: [bold]{output / 'index.html'}[/bold]",
        soft_wrap=True,
    )
    for file in (*chain.from_iterable(files.values()), *welcome.files):
        console.print(f"  {file}", highlight=False, soft_wrap=True)
    console.print(
        "The stack is still running: .venv/bin/dtf status tells where, .venv/bin/dtf down stops it.", soft_wrap=True
    )
    if stack.web_url:
        console.print(
            f"Try it yourself, with .venv/bin/dtf run images beside it: [bold]{stack.web_url}[/bold]", soft_wrap=True
        )
    console.print(
        f"The mailbox, for mails that .venv/bin/dtf run email sends: [bold]{stack.mail_url}[/bold]", soft_wrap=True
    )


def worker_log() -> Path:
    """Where the demonstration's worker writes its log."""
    return default_directory() / "demo-worker.log"


def sender_log() -> Path:
    """Where the demonstration's e-mail service writes its log."""
    return default_directory() / "demo-email.log"


def worker(stack: StackStatus) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A worker process of its own while the block runs."""
    return service("services.images", stack, worker_log(), {})


def sender(stack: StackStatus) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A process that sends mails to the stack's mailbox while the block runs."""
    port = str(free_port())
    # What the environment says of real mails stays out of it.
    settings = email_settings(stack, port) | {"EMAIL_HTTP_PORT": port, "SENDGRID_API_KEY": ""}
    return service("services.email", stack, sender_log(), settings)


@contextmanager
def service(
    module: str, stack: StackStatus, log: Path, settings: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A service as a process of its own while the block runs."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "SUPABASE_URL": stack.api_url, "SUPABASE_SECRET_KEY": stack.secret_key, **settings}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", module], stdout=sink, stderr=subprocess.STDOUT, env=environment
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


@dataclass
class User:
    """A signed-in user, with nothing but the publishable key and his own token."""

    id: str
    email: str
    client: Client


def sign_up(stack: StackStatus, console: Console) -> User:
    """Make a new user; the operator then gives him credits for the demonstration."""
    client = create_client(stack.api_url, stack.publishable_key)
    email = f"demo-{uuid.uuid4().hex[:8]}@example.com"
    reply = client.auth.sign_up({"email": email, "password": uuid.uuid4().hex})
    if reply.user is None or reply.session is None:
        raise CommandError("The sign-up gave no session. Is e-mail confirmation switched on? See supabase/config.toml.")
    console.print(f"[green]✓[/green] Signed up {email}, with 2 free credits", highlight=False)
    operator = create_client(stack.api_url, stack.secret_key)
    gift = {
        "p_user_id": reply.user.id,
        "p_amount": GIFT,
        "p_transaction_type": "bonus",
        "p_description": "Demo credits",
    }
    balance = operator.rpc("add_user_credits", gift).execute().data
    console.print(f"[green]✓[/green] The operator added {GIFT}: {balance} credits", highlight=False)
    return User(reply.user.id, email, client)


@dataclass(frozen=True)
class Received:
    """A mail in the mailbox: its HTML and pictures of it, in files; `trouble` tells why there is no picture."""

    subject: str
    files: list[Path]
    trouble: str = ""


def receive(stack: StackStatus, user: User, process: subprocess.Popen[bytes], output: Path) -> Received:
    """Wait for the welcome mail in the mailbox, and take pictures of it."""
    if not stack.mail_url:
        raise CommandError("This stack has no mailbox. Switch [local_smtp] on in supabase/config.toml and restart it.")
    api = f"{stack.mail_url}/api/v1"
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := httpx.get(f"{api}/search", params={"query": f"to:{user.email}"}).json()["messages"]):
        if process.poll() is not None or time.monotonic() > deadline:
            raise CommandError(f"No mail came: {last_line(sender_log())} The sender's log is {sender_log()}.")
        time.sleep(POLL_SECONDS)
    mail = httpx.get(f"{api}/message/{found[0]['ID']}").json()
    page = output / "5-welcome-mail.html"
    page.write_text(mail["HTML"], "utf-8")
    pictures = {view: output / f"5-welcome-mail-{view.name}.png" for view in (LIGHT, DARK)}
    try:
        with camera() as one:
            for view, path in pictures.items():
                one.take(mail["HTML"], view, path)
    except (CommandError, StackError) as error:
        return Received(mail["Subject"], [page], str(error))
    return Received(mail["Subject"], [page, *pictures.values()])


def upload(user: User, console: Console) -> dict[str, str]:
    """Upload the sample pictures as a browser does; returns the id of the `images` row by file name."""
    images = {}
    for name, media_type in (("photo.jpg", "image/jpeg"), ("flat-art.png", "image/png")):
        data = (SAMPLES / name).read_bytes()
        key = f"{user.id}/{uuid.uuid4()}-{name}"
        user.client.storage.from_("originals").upload(key, data, {"content-type": media_type})
        row = {
            "user_id": user.id,
            "original_filename": name,
            "original_file_size": len(data),
            "original_file_type": media_type,
            "original_url": f"originals/{key}",
        }
        inserted = cast(list[dict[str, Any]], user.client.table("images").insert(row).execute().data)
        images[name] = inserted[0]["id"]
        console.print(f"[green]✓[/green] Uploaded {name} ({len(data) / 1024:.0f} KiB)", highlight=False)
    return images


def request(user: User, step: Step, images: dict[str, str]) -> None:
    """Ask for the operation; the database takes the credits in the same transaction."""
    arguments = {
        "p_image_id": images[step.picture] if step.picture else None,
        "p_operation_type": step.operation_type,
        "p_options": step.options,
        "p_idempotency_key": str(uuid.uuid4()),
    }
    step.row = cast(dict[str, Any], user.client.rpc("request_image_operation", arguments).execute().data)


def watch(user: User, todo: list[Step], process: subprocess.Popen[bytes], console: Console) -> None:
    """Show a bar for each operation until all have ended."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(16), TextColumn("{task.fields[status]}"))
    deadline = time.monotonic() + WAIT_SECONDS
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bars = {
            step.row["id"]: progress.add_task(f"{step.title:<27}", total=None, start=False, status="waiting")
            for step in todo
        }
        while not all(step.ended for step in todo):
            if process.poll() is not None:
                raise CommandError(f"The worker stopped: {last_line(worker_log())} Its log is {worker_log()}.")
            if time.monotonic() > deadline:
                raise CommandError(f"The worker did not finish within {WAIT_SECONDS} s. Its log is {worker_log()}.")
            time.sleep(POLL_SECONDS)
            rows = user.client.table("image_operations").select("*").in_("id", list(bars)).execute().data
            by_id = {row["id"]: row for row in cast(list[dict[str, Any]], rows)}
            for step in todo:
                step.row = by_id[step.row["id"]]
                show(progress, bars[step.row["id"]], step)
    for step in todo:
        if step.row["status"] != ("failed" if step.fails else "completed"):
            raise CommandError(
                f"{step.title} ended as {step.row['status']}: {step.row['error_message']} See {worker_log()}."
            )
        if step.fails:
            told = f"{step.title}: refused on purpose, to show the refund. {step.row['error_message']}"
            console.print(f"[green]✓[/green] {told}", highlight=False, soft_wrap=True)


def show(progress: Progress, bar: Any, step: Step) -> None:
    """Bring one bar up to date."""
    if step.row["status"] == "processing":
        progress.start_task(bar)
        progress.update(bar, status="processing")
    elif step.ended and not progress.tasks[bar].finished:
        words = "[green]completed[/green]"
        if step.row["status"] != "completed":
            words = "[yellow]refunded[/yellow]"
        progress.start_task(bar)
        progress.update(bar, total=1, completed=1, status=words)


def download(user: User, todo: list[Step], output: Path) -> dict[str, list[Path]]:
    """Fetch each result, and what comes with it, through signed URLs, as a browser does; by operation id."""
    files: dict[str, list[Path]] = {}
    for step in todo:
        if step.row["status"] != "completed":
            continue
        result = step.row["output_data"]
        named = [(step.output_name, result["url"])]
        named += [(f"{step.output_name}-{file['name']}", file["url"]) for file in result.get("files", ())]
        for name, url in named:
            bucket, _, key = url.partition("/")
            signed = user.client.storage.from_(bucket).create_signed_url(key, 60)
            response = httpx.get(str(signed["signedURL"])).raise_for_status()
            path = output / f"{name}{Path(key).suffix}"
            path.write_bytes(response.content)
            files.setdefault(step.row["id"], []).append(path)
    return files


def write_page(
    output: Path, todo: list[Step], files: dict[str, list[Path]], welcome: Received, entries: list[dict[str, Any]]
) -> None:
    """A page with each picture before and after, on a checkerboard for transparency, with the mail and the ledger."""
    sections = [operation_section(step, files.get(step.row["id"], [])) for step in todo]
    for name in {step.picture for step in todo if step.picture}:
        (output / name).write_bytes((SAMPLES / name).read_bytes())
    template = Path(__file__).with_name("demo.html").read_text("utf-8")
    page = template.replace("<!-- results -->", "\n".join([*sections, mail_section(welcome), ledger_section(entries)]))
    (output / "index.html").write_text(page, "utf-8")


def operation_section(step: Step, files: list[Path]) -> str:
    """The part of the page for an operation: the pictures before and after, or why there is none after."""
    before = ""
    if step.picture:
        before = f'<figure><img src="{step.picture}" alt="Before"><figcaption>Before</figcaption></figure>'
    if files:
        details = step.row["output_data"]
        caption = f"{details['width']} × {details['height']} px, {float(step.row['processing_time']):.1f} s"
        after = f'<figure><img src="{files[0].name}" alt="After"><figcaption>After: {caption}</figcaption></figure>'
        after += "".join(
            f'<figure><img src="{file.name}" alt="{described["title"]}">'
            f"<figcaption>{described['title']}</figcaption></figure>"
            for file, described in zip(files[1:], details.get("files", ()), strict=True)
        )
    else:
        after = f"<p>Refused on purpose, to show the refund: {html.escape(step.row['error_message'])}</p>"
    title = f"{step.title}: {step.options['prompt']}" if "prompt" in step.options else step.title
    return f"<section><h2>{html.escape(title)}</h2><div>{before}{after}</div></section>"


def mail_section(welcome: Received) -> str:
    """The part of the page for the mail: a link to it, and its pictures."""
    page, *pictures = (file.name for file in welcome.files)
    shown = "".join(f'<figure><img src="{name}" alt="The mail"></figure>' for name in pictures)
    link = f'<p><a href="{page}">{html.escape(welcome.subject)}</a></p>'
    return f"<section><h2>The welcome mail</h2>{link}<div>{shown}</div></section>"


def ledger_section(entries: list[dict[str, Any]]) -> str:
    """The part of the page for the ledger."""
    heads = "<tr><th>What</th><th class=number>Change</th><th class=number>Balance</th></tr>"
    rows = "".join(
        f"<tr><td>{html.escape(entry['description'])}</td><td class=number>{change_of(entry):+d}</td>"
        f"<td class=number>{entry['balance_after']}</td></tr>"
        for entry in entries
    )
    return f"<section><h2>The ledger</h2><table>{heads}{rows}</table></section>"


def change_of(entry: dict[str, Any]) -> int:
    """The credits that an entry of the ledger added, negative where it took some."""
    return int(entry["balance_after"] - entry["balance_before"])


def print_ledger(stack: StackStatus, user: User, console: Console) -> list[dict[str, Any]]:
    """Print the user's transactions as he may read them, let the database check its own books; returns the entries."""
    rows = cast(
        list[dict[str, Any]],
        user.client.table("credit_transactions").select("*").order("seq").execute().data,
    )
    table = Table(title="\nThe ledger", title_style="bold")
    for heading, justify in (("Type", "left"), ("Description", "left"), ("Change", "right"), ("Balance", "right")):
        table.add_column(heading, justify=cast(Any, justify))
    for row in rows:
        table.add_row(row["transaction_type"], row["description"], f"{change_of(row):+d}", str(row["balance_after"]))
    console.print(table)
    profile = cast(dict[str, Any], user.client.table("profiles").select("*").eq("id", user.id).single().execute().data)
    total = sum(change_of(row) for row in rows)
    if profile["credits_remaining"] != total:
        raise CommandError(f"The ledger sums to {total}, but the balance is {profile['credits_remaining']}.")
    violations = create_client(stack.api_url, stack.secret_key).rpc("verify_ledger", {}).execute().data
    if violations:
        raise CommandError(f"The ledger is not sound: {violations}")
    console.print(f"[green]✓[/green] The ledger adds up to the balance of {total} credits.", highlight=False)
    return rows
