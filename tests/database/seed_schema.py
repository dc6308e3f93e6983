"""The schema document that the project started from: nothing of it may be renamed, dropped or narrowed in type."""

TABLES = {
    "profiles": """
        id uuid, email text, first_name text, last_name text, company text, phone text, avatar_url text,
        is_active boolean, is_admin boolean, subscription_status text, subscription_plan text,
        stripe_customer_id text, stripe_subscription_id text, credits_remaining integer,
        total_credits_purchased integer, total_credits_used integer, last_activity_at timestamptz,
        created_at timestamptz, updated_at timestamptz
    """,
    "subscription_plans": """
        id uuid, name text, stripe_price_id text, description text, monthly_price numeric(10,2),
        credits_per_month integer, features jsonb, is_active boolean, sort_order integer,
        created_at timestamptz, updated_at timestamptz
    """,
    "pay_as_you_go_packages": """
        id uuid, name text, stripe_price_id text, credits integer, price numeric(10,2), description text,
        is_active boolean, sort_order integer, created_at timestamptz, updated_at timestamptz
    """,
    "credit_transactions": """
        id uuid, user_id uuid, transaction_type text, amount integer, balance_before integer,
        balance_after integer, description text, metadata jsonb, stripe_payment_intent_id text,
        subscription_plan_id uuid, pay_as_you_go_package_id uuid, expires_at timestamptz,
        created_at timestamptz
    """,
    "subscription_history": """
        id uuid, user_id uuid, subscription_plan_id uuid, stripe_subscription_id text, status text,
        started_at timestamptz, ended_at timestamptz, cancelled_at timestamptz, created_at timestamptz
    """,
    "images": """
        id uuid, user_id uuid, original_filename text, original_file_size integer, original_file_type text,
        original_url text, processed_url text, thumbnail_url text, final_url text, processing_status text,
        processing_error text, is_favorite boolean, download_count integer, metadata jsonb,
        expires_at timestamptz, created_at timestamptz, updated_at timestamptz
    """,
    "image_operations": """
        id uuid, image_id uuid, operation_type text, api_provider text, status text, input_data jsonb,
        output_data jsonb, error_message text, processing_time numeric(10,2), credits_used integer,
        api_cost numeric(10,4), created_at timestamptz, completed_at timestamptz
    """,
    "image_collections": """
        id uuid, user_id uuid, name text, description text, is_public boolean, created_at timestamptz,
        updated_at timestamptz
    """,
    "image_collection_items": """
        id uuid, collection_id uuid, image_id uuid, added_at timestamptz
    """,
    "api_costs": """
        id uuid, api_provider text, operation_type text, cost_per_operation numeric(10,4), currency text,
        effective_date date, is_active boolean, created_at timestamptz
    """,
    "api_usage_logs": """
        id uuid, user_id uuid, api_provider text, operation_type text, request_data jsonb,
        response_data jsonb, status_code integer, response_time numeric(10,2), cost numeric(10,4),
        error_message text, created_at timestamptz
    """,
    "admin_logs": """
        id uuid, admin_user_id uuid, action text, target_type text, target_id uuid, details jsonb,
        ip_address inet, user_agent text, created_at timestamptz
    """,
    "system_metrics": """
        id uuid, metric_name text, metric_value numeric(15,4), metric_unit text, tags jsonb,
        recorded_at timestamptz
    """,
    "user_activity_logs": """
        id uuid, user_id uuid, activity_type text, activity_data jsonb, ip_address inet, user_agent text,
        created_at timestamptz
    """,
    "email_templates": """
        id uuid, name text, subject text, html_content text, text_content text, sendgrid_template_id text,
        is_active boolean, created_at timestamptz, updated_at timestamptz
    """,
    "email_campaigns": """
        id uuid, name text, template_id uuid, target_audience jsonb, status text, scheduled_at timestamptz,
        sent_at timestamptz, created_at timestamptz
    """,
    "email_logs": """
        id uuid, user_id uuid, template_id uuid, campaign_id uuid, sendgrid_message_id text, status text,
        sent_at timestamptz, delivered_at timestamptz, opened_at timestamptz, clicked_at timestamptz
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
