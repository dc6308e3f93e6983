"""Signs up, uploads a picture, enlarges it to twice its size and saves the result.

python examples/operate.py picture.png enlarged.png
"""

import os
import sys
import time
import uuid
from pathlib import Path

from supabase import create_client


def main(source: Path, target: Path) -> None:
    """Take the picture all the way. Raises what the project refuses, with its message."""
    supabase = create_client(os.environ["SUPABASE_URL"], os.environ["SUPABASE_PUBLISHABLE_KEY"])
    signed_up = supabase.auth.sign_up({"email": f"{uuid.uuid4()}@example.com", "password": str(uuid.uuid4())})
    user_id = signed_up.user.id

    path = f"{user_id}/{uuid.uuid4()}"
    supabase.storage.from_("originals").upload(path, source.read_bytes(), {"content-type": "image/png"})
    row = {"user_id": user_id, "original_filename": source.name, "original_url": f"originals/{path}"}
    image = supabase.table("images").insert(row).execute().data[0]

    operation = (
        supabase.rpc(
            "request_image_operation",
            {
                "p_image_id": image["id"],
                "p_operation_type": "upscale",
                "p_options": {"scale": 2},
                "p_idempotency_key": str(uuid.uuid4()),  # sent again because the answer got lost, it charges nothing
            },
        )
        .execute()
        .data
    )
    while operation["status"] in ("pending", "processing"):
        time.sleep(0.5)
        operation = supabase.table("image_operations").select("*").eq("id", operation["id"]).single().execute().data
    if operation["status"] != "completed":
        sys.exit(operation["error_message"])

    output = operation["output_data"]
    target.write_bytes(supabase.storage.from_("results").download(output["url"].removeprefix("results/")))
    print(f"{target}: {output['width']} x {output['height']} pixels")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
