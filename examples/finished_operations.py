"""A web service that a database webhook calls, and that saves the result of each finished operation.

uvicorn examples.finished_operations:app --port 9000

In the project's dashboard, under Database, Webhooks: table image_operations, event Update, this service's address, and
a header `Authorization: Bearer <WEBHOOK_TOKEN>`. A webhook is called at most once, and in no order: what it says is a
reason to read the row, and never the truth itself.
"""

import hmac
import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from supabase import create_client

FOLDER = Path(os.environ.get("RESULTS_FOLDER", "results"))


async def hear(request: Request) -> Response:
    """Answer 204 to what is no news, 200 with the file's name to a result, 401 to strangers."""
    expected = f"Bearer {os.environ['WEBHOOK_TOKEN']}"
    if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected.encode()):
        return JSONResponse({"error": "Not for you."}, 401)
    told = await request.json()
    if told["table"] != "image_operations" or told["record"]["status"] != "completed":
        return Response(status_code=204)
    saved = await run_in_threadpool(save, told["record"]["id"])
    return JSONResponse({"saved": saved}) if saved else Response(status_code=204)


def save(operation_id: str) -> str | None:
    """Save an operation's result under its id; None where there is none any more."""
    supabase = create_client(os.environ["SUPABASE_URL"], os.environ["SUPABASE_SECRET_KEY"])
    rows = supabase.table("image_operations").select("*").eq("id", operation_id).execute().data
    if not rows or rows[0]["status"] != "completed":
        return None
    bucket, _, key = rows[0]["output_data"]["url"].partition("/")
    FOLDER.mkdir(parents=True, exist_ok=True)
    target = FOLDER / f"{operation_id}{Path(key).suffix}"
    target.write_bytes(supabase.storage.from_(bucket).download(key))
    return target.name


app = Starlette(routes=[Route("/", hear, methods=["POST"])])
