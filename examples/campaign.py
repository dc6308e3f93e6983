"""Writes a mail to everybody who used up his credits: a template, a campaign, a look at its audience, and off it goes.

python examples/campaign.py

`dtf run email` sends it. Who unsubscribed, or never confirmed the address, gets nothing.
"""

import os
from datetime import UTC, datetime

from supabase import create_client

TEMPLATE = {
    "name": "come back",
    "type": "campaign",
    "subject": "{{ first_name }}, print something new",
    "html_content": "<h1>Welcome back</h1><p>Twenty credits cost less than one shirt.</p>"
    '<p><a class="button" href="{{ app_url }}">Have a look</a></p>',
}


def main() -> None:
    """Schedule the campaign for now. Raises what the project refuses, with its message."""
    supabase = create_client(os.environ["SUPABASE_URL"], os.environ["SUPABASE_SECRET_KEY"])
    template = supabase.table("email_templates").upsert(TEMPLATE, on_conflict="name").execute().data[0]
    draft = {
        "name": f"Come back, {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
        "template_id": template["id"],
        "target_audience": {"credits": {"max": 0}},
    }
    campaign = supabase.table("email_campaigns").insert(draft).execute().data[0]
    audience = supabase.rpc("preview_email_campaign", {"p_campaign_id": campaign["id"]}).execute().data
    print(f"{campaign['name']}: {audience}")
    scheduled = supabase.rpc("schedule_email_campaign", {"p_campaign_id": campaign["id"]}).execute().data
    print(f"{scheduled['status']} for {scheduled['scheduled_at']}")


if __name__ == "__main__":
    main()
