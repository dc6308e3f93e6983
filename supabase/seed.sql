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

insert into public.email_templates (name, subject, html_content, text_content)
values
(
    'welcome',
    'Welcome to DTF Editor',
    '<p>Hello {{first_name}},</p><p>your account is ready and holds {{credits}} free credits.</p>',
    E'Hello {{first_name}},\n\nyour account is ready and holds {{credits}} free credits.\n'
),
(
    'receipt',
    'Your receipt',
    '<p>Hello {{first_name}},</p><p>thank you: {{credits}} credits for {{amount}}. Your balance is {{balance}}.</p>',
    E'Hello {{first_name}},\n\nthank you: {{credits}} credits for {{amount}}. Your balance is {{balance}}.\n'
),
(
    'low_credits',
    'You have {{balance}} credits left',
    '<p>Hello {{first_name}},</p><p>you have {{balance}} credits left.</p>',
    E'Hello {{first_name}},\n\nyou have {{balance}} credits left.\n'
),
(
    'operation_failed',
    'An operation failed',
    '<p>Hello {{first_name}},</p><p>{{operation}} of {{filename}} failed: {{error}} '
    || 'Its credits are back on your balance.</p>',
    E'Hello {{first_name}},\n\n{{operation}} of {{filename}} failed: {{error}} '
    || E'Its credits are back on your balance.\n'
),
(
    'payment_failed',
    'Your payment failed',
    '<p>Hello {{first_name}},</p><p>your payment of {{amount}} failed. Please check your card.</p>',
    E'Hello {{first_name}},\n\nyour payment of {{amount}} failed. Please check your card.\n'
)
on conflict (name) do nothing;
