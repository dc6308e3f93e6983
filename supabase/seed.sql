-- What an operator would otherwise type in first. The CLI runs it once for each database; later rows belong into a
-- migration. Running it again by hand changes nothing that was edited since.

insert into public.subscription_plans (name, description, monthly_price, credits_per_month, features, sort_order)
values
('free', 'Try every operation.', 0, 2, '["2 credits at sign-up", "All operations"]', 0),
('basic', 'For a few designs a week.', 9.99, 20, '["20 credits a month", "All operations", "Starts before free"]', 1),
('starter', 'For a small print shop.', 24.99, 60, '["60 credits a month", "All operations", "Starts before free"]', 2)
on conflict (name) do nothing;

-- The name is no key, so the ids are fixed.
insert into public.pay_as_you_go_packages (id, name, credits, price, description, sort_order)
values
('a0000000-0000-4000-8000-000000000010', '10 credits', 10, 7.99, 'Ten credits, bought once.', 1),
('a0000000-0000-4000-8000-000000000020', '20 credits', 20, 14.99, 'Twenty credits, bought once.', 2),
('a0000000-0000-4000-8000-000000000050', '50 credits', 50, 29.99, 'Fifty credits, bought once.', 3)
on conflict (id) do nothing;

-- USD per operation. The built-in engines run on the worker itself. OpenAI bills tokens, and the worker works each
-- call's cost out from the tokens that the reply reports; its row only stands in when a reply reports none.
-- It is a round estimate for one picture: check it against your model and quality on
-- https://openai.com/api/pricing, and add a row with a newer date when prices change.
insert into public.api_costs (api_provider, operation_type, cost_per_operation, effective_date)
values
('waifu2x', 'upscale', 0, '2025-01-01'),
('border_key', 'background_removal', 0, '2025-01-01'),
('vtracer', 'vectorize', 0, '2025-01-01'),
('template_lettering', 'generate', 0, '2025-01-01'),
('openai', 'generate', 0.05, '2026-11-01')
on conflict (api_provider, operation_type, effective_date) do nothing;

insert into public.email_templates (name, type, subject, html_content, text_content)
values
(
    'welcome', 'welcome',
    'Welcome to DTF Editor',
    '<p>Hello {{ first_name }},</p><p>your account is ready and holds {{ credits }}.</p>',
    null
),
(
    'receipt', 'receipt',
    'Your receipt: {{ product }}',
    '<p>Hello {{ first_name }},</p>'
    '<p>thank you: {{ product }} for {{ amount }} on {{ date }}. Your balance is {{ balance }}.</p>',
    null
),
(
    'subscription_started', 'subscription_started',
    'Your plan {{ plan }} has begun',
    '<p>Hello {{ first_name }},</p>'
    '<p>your plan {{ plan }} has begun: {{ credits }} a month, the next time on {{ next_date }}.</p>',
    null
),
(
    'subscription_renewed', 'subscription_renewed',
    'Your plan {{ plan }} goes on',
    '<p>Hello {{ first_name }},</p>'
    '<p>we received {{ amount }} for your plan {{ plan }} and added {{ credits }}. Your balance is {{ '
    'balance }}.</p>',
    null
),
(
    'subscription_cancelled', 'subscription_cancelled',
    '{% if is_over %}Your plan has ended{% else %}Your plan will end{% endif %}',
    '<p>Hello {{ first_name }},</p>'
    '<p>your plan {{ plan }} {% if is_over %}ended{% else %}ends{% endif %} on {{ end_date }}. What you '
    'have stays until it expires.</p>',
    null
),
(
    'payment_failed', 'payment_failed',
    'Your payment failed',
    '<p>Hello {{ first_name }},</p>'
    '<p>your payment{% if amount %} of {{ amount }}{% endif %} for {{ product }} failed. Please check '
    'how you pay.</p>',
    null
),
(
    'credits_low', 'credits_low',
    'You have {{ balance }} left',
    '<p>Hello {{ first_name }},</p><p>you have {{ balance }} left.</p>',
    null
),
(
    'credits_expiring', 'credits_expiring',
    '{{ credits }} end on {{ end_date }}',
    '<p>Hello {{ first_name }},</p><p>{{ credits }} of your {{ balance }} end on {{ end_date }}.</p>',
    null
),
(
    'operation_failed', 'operation_failed',
    '{{ operation }} failed',
    '<p>Hello {{ first_name }},</p>'
    '<p>{{ operation }} of {{ file }} failed: {{ error }}</p><p>{% if is_refunded %}You have {{ credits '
    '}} back.{% endif %}</p>',
    null
),
(
    'images_expiring', 'images_expiring',
    '{{ images }} will be deleted',
    '<p>Hello {{ first_name }},</p>'
    '<p>{{ images }} will be deleted, the first on {{ end_date }}. Download what you need.</p>',
    null
)
on conflict (name) do nothing;
