"""The schema document that the project started from: nothing of it may be renamed, dropped or narrowed in type.

What differs from it is listed, with the reasons, in docs/seed.md.
"""

import re

TABLES = {
    "profiles": """
        id uuid not null, email text not null, first_name text, last_name text, company text, phone text, avatar_url
        text, is_active boolean default true, is_admin boolean default false, subscription_status text default
        'free', subscription_plan text default 'free', stripe_customer_id text, stripe_subscription_id text,
        credits_remaining integer default 2, total_credits_purchased integer default 0, total_credits_used integer
        default 0, last_activity_at timestamptz default now(), created_at timestamptz default now(), updated_at
        timestamptz default now()
    """,
    "subscription_plans": """
        id uuid not null default gen_random_uuid(), name text not null, stripe_price_id text, description text,
        monthly_price numeric(10,2), credits_per_month integer, features jsonb, is_active boolean default true,
        sort_order integer default 0, created_at timestamptz default now(), updated_at timestamptz default now()
    """,
    "pay_as_you_go_packages": """
        id uuid not null default gen_random_uuid(), name text not null, stripe_price_id text, credits integer not
        null, price numeric(10,2) not null, description text, is_active boolean default true, sort_order integer
        default 0, created_at timestamptz default now(), updated_at timestamptz default now()
    """,
    "credit_transactions": """
        id uuid not null default gen_random_uuid(), user_id uuid, transaction_type text not null, amount integer not
        null, balance_before integer not null, balance_after integer not null, description text, metadata jsonb,
        stripe_payment_intent_id text, subscription_plan_id uuid, pay_as_you_go_package_id uuid, expires_at
        timestamptz, created_at timestamptz default now()
    """,
    "subscription_history": """
        id uuid not null default gen_random_uuid(), user_id uuid, subscription_plan_id uuid, stripe_subscription_id
        text, status text not null, started_at timestamptz not null, ended_at timestamptz, cancelled_at timestamptz,
        created_at timestamptz default now()
    """,
    "images": """
        id uuid not null default gen_random_uuid(), user_id uuid, original_filename text not null,
        original_file_size integer, original_file_type text, original_url text, processed_url text, thumbnail_url
        text, final_url text, processing_status text default 'pending', processing_error text, is_favorite boolean
        default false, download_count integer default 0, metadata jsonb, expires_at timestamptz, created_at
        timestamptz default now(), updated_at timestamptz default now()
    """,
    "image_operations": """
        id uuid not null default gen_random_uuid(), image_id uuid, operation_type text not null, api_provider text
        not null, status text default 'pending', input_data jsonb, output_data jsonb, error_message text,
        processing_time numeric(10,2), credits_used integer, api_cost numeric(10,4), created_at timestamptz default
        now(), completed_at timestamptz
    """,
    "image_collections": """
        id uuid not null default gen_random_uuid(), user_id uuid, name text not null, description text, is_public
        boolean default false, created_at timestamptz default now(), updated_at timestamptz default now()
    """,
    "image_collection_items": """
        id uuid not null default gen_random_uuid(), collection_id uuid, image_id uuid, added_at timestamptz default
        now()
    """,
    "api_costs": """
        id uuid not null default gen_random_uuid(), api_provider text not null, operation_type text not null,
        cost_per_operation numeric(10,4) not null, currency text default 'USD', effective_date date not null,
        is_active boolean default true, created_at timestamptz default now()
    """,
    "api_usage_logs": """
        id uuid not null default gen_random_uuid(), user_id uuid, api_provider text not null, operation_type text
        not null, request_data jsonb, response_data jsonb, status_code integer, response_time numeric(10,2), cost
        numeric(10,4), error_message text, created_at timestamptz default now()
    """,
    "admin_logs": """
        id uuid not null default gen_random_uuid(), admin_user_id uuid, action text not null, target_type text,
        target_id uuid, details jsonb, ip_address inet, user_agent text, created_at timestamptz default now()
    """,
    "system_metrics": """
        id uuid not null default gen_random_uuid(), metric_name text not null, metric_value numeric(15,4),
        metric_unit text, tags jsonb, recorded_at timestamptz default now()
    """,
    "user_activity_logs": """
        id uuid not null default gen_random_uuid(), user_id uuid, activity_type text not null, activity_data jsonb,
        ip_address inet, user_agent text, created_at timestamptz default now()
    """,
    "email_templates": """
        id uuid not null default gen_random_uuid(), name text not null, subject text not null, html_content text not
        null, text_content text, sendgrid_template_id text, is_active boolean default true, created_at timestamptz
        default now(), updated_at timestamptz default now()
    """,
    "email_campaigns": """
        id uuid not null default gen_random_uuid(), name text not null, template_id uuid, target_audience jsonb,
        status text default 'draft', scheduled_at timestamptz, sent_at timestamptz, created_at timestamptz default
        now()
    """,
    "email_logs": """
        id uuid not null default gen_random_uuid(), user_id uuid, template_id uuid, campaign_id uuid,
        sendgrid_message_id text, status text not null, sent_at timestamptz default now(), delivered_at timestamptz,
        opened_at timestamptz, clicked_at timestamptz
    """,
}

ALLOWED_VALUES = {
    "profiles.subscription_status": "free basic starter cancelled",
    "credit_transactions.transaction_type": "purchase usage refund bonus expiration",
    "subscription_history.status": "active cancelled past_due unpaid",
    "images.processing_status": "pending processing completed failed",
    "image_operations.operation_type": "upscale background_removal vectorize generate",
    "image_operations.status": "pending processing completed failed",
    "email_campaigns.status": "draft scheduled sending completed cancelled",
    "email_logs.status": "sent delivered opened clicked bounced failed",
}

# What says so where it is no constraint on the column alone.
CHECKING_FUNCTIONS = {
    "credit_transactions.transaction_type": "private.is_sound_entry",
    "images.processing_status": "private.is_processing_status",
    "image_operations.status": "private.is_sound_operation",
}

INDEXES = {
    "idx_profiles_email": "profiles(email)",
    "idx_profiles_subscription_status": "profiles(subscription_status)",
    "idx_profiles_created_at": "profiles(created_at)",
    "idx_images_user_id": "images(user_id)",
    "idx_images_processing_status": "images(processing_status)",
    "idx_images_created_at": "images(created_at)",
    "idx_images_expires_at": "images(expires_at)",
    "idx_credit_transactions_user_id": "credit_transactions(user_id)",
    "idx_credit_transactions_created_at": "credit_transactions(created_at)",
    "idx_credit_transactions_transaction_type": "credit_transactions(transaction_type)",
    "idx_image_operations_image_id": "image_operations(image_id)",
    "idx_image_operations_status": "image_operations(status)",
    "idx_image_operations_created_at": "image_operations(created_at)",
    "idx_api_usage_logs_user_id": "api_usage_logs(user_id)",
    "idx_api_usage_logs_created_at": "api_usage_logs(created_at)",
    "idx_api_usage_logs_api_provider": "api_usage_logs(api_provider)",
}

UPDATED_AT_TRIGGERS = {
    "update_profiles_updated_at": "profiles",
    "update_images_updated_at": "images",
    "update_subscription_plans_updated_at": "subscription_plans",
    "update_pay_as_you_go_packages_updated_at": "pay_as_you_go_packages",
    "update_email_templates_updated_at": "email_templates",
}

VIEWS = {
    "user_analytics": (
        "id email subscription_status credits_remaining total_credits_purchased total_credits_used total_images"
        " completed_images failed_images last_image_created user_created_at"
    ),
    "revenue_analytics": "month transaction_type transaction_count total_credits paid_transactions",
}

# Primary, unique and foreign keys.
KEYS = [
    "admin_logs FOREIGN KEY (admin_user_id) REFERENCES profiles(id)",
    "admin_logs PRIMARY KEY (id)",
    "api_costs PRIMARY KEY (id)",
    "api_usage_logs FOREIGN KEY (user_id) REFERENCES profiles(id) ON DELETE CASCADE",
    "api_usage_logs PRIMARY KEY (id)",
    "credit_transactions FOREIGN KEY (pay_as_you_go_package_id) REFERENCES pay_as_you_go_packages(id)",
    "credit_transactions FOREIGN KEY (subscription_plan_id) REFERENCES subscription_plans(id)",
    "credit_transactions FOREIGN KEY (user_id) REFERENCES profiles(id) ON DELETE CASCADE",
    "credit_transactions PRIMARY KEY (id)",
    "email_campaigns FOREIGN KEY (template_id) REFERENCES email_templates(id)",
    "email_campaigns PRIMARY KEY (id)",
    "email_logs FOREIGN KEY (campaign_id) REFERENCES email_campaigns(id)",
    "email_logs FOREIGN KEY (template_id) REFERENCES email_templates(id)",
    "email_logs FOREIGN KEY (user_id) REFERENCES profiles(id) ON DELETE CASCADE",
    "email_logs PRIMARY KEY (id)",
    "email_templates PRIMARY KEY (id)",
    "email_templates UNIQUE (name)",
    "image_collection_items FOREIGN KEY (collection_id) REFERENCES image_collections(id) ON DELETE CASCADE",
    "image_collection_items FOREIGN KEY (image_id) REFERENCES images(id) ON DELETE CASCADE",
    "image_collection_items PRIMARY KEY (id)",
    "image_collection_items UNIQUE (collection_id, image_id)",
    "image_collections FOREIGN KEY (user_id) REFERENCES profiles(id) ON DELETE CASCADE",
    "image_collections PRIMARY KEY (id)",
    "image_operations FOREIGN KEY (image_id) REFERENCES images(id) ON DELETE CASCADE",
    "image_operations PRIMARY KEY (id)",
    "images FOREIGN KEY (user_id) REFERENCES profiles(id) ON DELETE CASCADE",
    "images PRIMARY KEY (id)",
    "pay_as_you_go_packages PRIMARY KEY (id)",
    "pay_as_you_go_packages UNIQUE (stripe_price_id)",
    "profiles FOREIGN KEY (id) REFERENCES auth.users(id) ON DELETE CASCADE",
    "profiles PRIMARY KEY (id)",
    "profiles UNIQUE (email)",
    "subscription_history FOREIGN KEY (subscription_plan_id) REFERENCES subscription_plans(id)",
    "subscription_history FOREIGN KEY (user_id) REFERENCES profiles(id) ON DELETE CASCADE",
    "subscription_history PRIMARY KEY (id)",
    "subscription_plans PRIMARY KEY (id)",
    "subscription_plans UNIQUE (name)",
    "subscription_plans UNIQUE (stripe_price_id)",
    "system_metrics PRIMARY KEY (id)",
    "user_activity_logs FOREIGN KEY (user_id) REFERENCES profiles(id) ON DELETE CASCADE",
    "user_activity_logs PRIMARY KEY (id)",
]

POLICIES = {
    "profiles": ["Admins can view all profiles", "Users can update own profile", "Users can view own profile"],
    "credit_transactions": [
        "Admins can view all transactions",
        "System can insert transactions",
        "Users can view own transactions",
    ],
    "images": [
        "Admins can view all images",
        "Users can delete own images",
        "Users can insert own images",
        "Users can update own images",
        "Users can view own images",
    ],
}

CREDIT_FUNCTIONS = ("add_user_credits", "deduct_user_credits")
ARGUMENTS = (
    "p_user_id uuid, p_amount integer, p_transaction_type text, p_description text DEFAULT NULL::text,"
    " p_metadata jsonb DEFAULT NULL::jsonb"
)


def columns_of(table: str) -> dict[str, tuple[str, bool, str | None]]:
    """The columns of a table: type, whether it is not null, and the default."""
    text = " ".join(TABLES[table].split())
    found = re.findall(r"(\w+) (\w+(?:\([\d,]+\))?)( not null)?(?: default (.*?))?(?:, |$)", text)
    return {name: (kind, bool(not_null), default or None) for name, kind, not_null, default in found}
