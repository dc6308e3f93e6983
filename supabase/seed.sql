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
('surface_key', 'background_removal', 0, '2025-01-01'),
('vtracer', 'vectorize', 0, '2025-01-01'),
('template_lettering', 'generate', 0, '2025-01-01'),
('openai', 'generate', 0.05, '2026-11-01')
on conflict (api_provider, operation_type, effective_date) do nothing;

-- The mails. Each says in its first paragraph what it is about, because inboxes show that beside the subject.
-- Numbers come with their noun ("1 credit"), so no verb depends on them.
insert into public.email_templates (name, type, subject, html_content, text_content)
values
(
    'welcome', 'welcome',
    'Welcome to DTF Editor',
    $html$<h1>Welcome{% if first_name %}, {{ first_name }}{% endif %}</h1>
<p>Your account is ready{% if credits %}, with {{ credits }} to try it{% endif %}. Bring a picture, and take home a file
that prints.</p>
<ul>
<li><strong>Upscale</strong> a small picture to two or four times its size.</li>
<li><strong>Remove the background</strong>, with edges that stay clean on the shirt.</li>
<li><strong>Vectorize</strong> flat art, sharp at any size.</li>
<li><strong>Generate</strong> lettering from a few words.</li>
</ul>
<p><a class="button" href="{{ app_url }}">Open DTF Editor</a></p>
<p class="small">Should an operation fail, its credits come back to you.</p>$html$,
    null
),
(
    'receipt', 'receipt',
    'Your receipt{% if product %}: {{ product }}{% endif %}',
    $html$<h1>Thank you{% if first_name %}, {{ first_name }}{% endif %}</h1>
<p>Your payment of {{ amount }} has arrived{% if credits %}, and with it {{ credits }}{% endif %}. Your balance is
{{ balance }}.</p>
<table>
{% if product %}<tr><th>Bought</th><td>{{ product }}</td></tr>{% endif %}
<tr><th>Paid</th><td>{{ amount }}</td></tr>
<tr><th>Date</th><td>{{ date }}</td></tr>
</table>
{% if receipt_url %}<p><a class="button" href="{{ receipt_url }}">View the receipt</a></p>{% endif %}$html$,
    null
),
(
    'subscription_started', 'subscription_started',
    '{% if is_gift %}A gift: the {{ plan }} plan{% else %}Your {{ plan }} plan has begun{% endif %}',
    $html$<h1>{% if is_gift %}{{ plan }} is yours{% else %}{{ plan }} has begun{% endif %}</h1>
{% if is_gift %}
<p>You have been given the {{ plan }} plan{% if next_date %} until {{ next_date }}{% endif %}.
There is nothing to pay.</p>
{% else %}
{% if is_trial %}
<p>Your trial of the {{ plan }} plan has begun. You pay nothing{% if next_date %} before {{ next_date }}{% endif %}, and
may cancel at any time.</p>
{% else %}
<p>Thank you for choosing the {{ plan }} plan. Your credits are in your account.</p>
{% endif %}
{% endif %}
<table>
<tr><th>Plan</th><td>{{ plan }}</td></tr>
<tr><th>Credits</th><td>{{ credits }}</td></tr>
{% if amount %}<tr><th>Paid</th><td>{{ amount }}</td></tr>{% endif %}
{% if next_date %}
<tr><th>{% if is_gift %}Until{% else %}{% if is_trial %}First payment{% else %}Next payment{% endif %}{% endif %}</th>
<td>{{ next_date }}</td></tr>
{% endif %}
</table>
<p><a class="button" href="{{ app_url }}">Open DTF Editor</a></p>
{% if receipt_url %}<p><a href="{{ receipt_url }}">View the invoice</a></p>{% endif %}$html$,
    null
),
(
    'subscription_renewed', 'subscription_renewed',
    'Your {{ plan }} plan goes on',
    $html$<h1>New credits are in</h1>
<p>Your {{ plan }} plan goes on{% if amount %}: {{ amount }} has been paid{% endif %}.
Your balance is {{ balance }}.</p>
<table>
<tr><th>Plan</th><td>{{ plan }}</td></tr>
<tr><th>Added</th><td>{{ credits }}</td></tr>
{% if amount %}<tr><th>Paid</th><td>{{ amount }}</td></tr>{% endif %}
{% if next_date %}<tr><th>Next payment</th><td>{{ next_date }}</td></tr>{% endif %}
</table>
{% if receipt_url %}<p><a class="button" href="{{ receipt_url }}">View the invoice</a></p>{% endif %}$html$,
    null
),
(
    'subscription_cancelled', 'subscription_cancelled',
    'Your {{ plan }} plan {% if is_over %}has ended{% else %}will end{% endif %}',
    $html$<h1>{% if is_over %}{{ plan }} has ended{% else %}{{ plan }} is cancelled{% endif %}</h1>
{% if is_over %}
<p>Your {{ plan }} plan ended on {{ end_date }}. Nothing more will be charged.</p>
<p>Your pictures and credits stay until they expire.</p>
<p><a class="button" href="{{ app_url }}/#/credits">See the plans</a></p>
{% else %}
<p>Your {{ plan }} plan ends on {{ end_date }}. Until then you keep all of it, and nothing more will be charged.</p>
<p>Changed your mind? You can take the plan up again before it ends.</p>
<p><a class="button" href="{{ app_url }}/#/credits">Keep the plan</a></p>
{% endif %}$html$,
    null
),
(
    'payment_failed', 'payment_failed',
    'Your payment{% if product %} for {{ product }}{% endif %} failed',
    $html$<h1>Your payment failed</h1>
{% if is_subscription %}
<p>We could not collect {% if amount %}{{ amount }}{% else %}the payment{% endif %} for your
{% if product %}{{ product }} {% endif %}plan.
{% if next_date %}We will try again on {{ next_date }}.{% endif %}</p>
<p>Please check your card, so that the plan goes on.</p>
{% else %}
<p>Your payment{% if amount %} of {{ amount }}{% endif %}{% if product %} for {{ product }}{% endif %}
 did not go through. No credits were added.</p>
<p>You can buy again with another way to pay.</p>
{% endif %}
{% if pay_url %}
<p><a class="button" href="{{ pay_url }}">Pay now</a></p>
{% else %}
<p><a class="button" href="{{ app_url }}/#/credits">Go to your payments</a></p>
{% endif %}
<p class="small">If you have paid in the meantime, there is nothing to do.</p>$html$,
    null
),
(
    'credits_low', 'credits_low',
    'You have {{ balance }} left',
    $html$<h1>Running low</h1>
<p>You have {{ balance }} left. With a plan new ones come every month; a package is bought once.</p>
<p><a class="button" href="{{ app_url }}/#/credits">Get credits</a></p>$html$,
    null
),
(
    'credits_expiring', 'credits_expiring',
    'Use {{ credits }} before {{ end_date }}',
    $html$<h1>Use them while you can</h1>
<p>Of your balance of {{ balance }}, {{ credits }} will expire within a week, from {{ end_date }} on.</p>
<p>Whatever you make with them is yours to download.</p>
<p><a class="button" href="{{ app_url }}">Use your credits</a></p>$html$,
    null
),
(
    'operation_failed', 'operation_failed',
    '{{ operation }} did not work{% if file %}: {{ file }}{% endif %}',
    $html$<h1>{{ operation }} did not work</h1>
<p>We could not finish {% if file %}your picture <strong>{{ file }}</strong>{% else %}what you asked for{% endif %}.
{% if is_refunded %}You have {{ credits }} back.{% endif %}</p>
{% if error %}<blockquote>{{ error }}</blockquote>{% endif %}
<p><a class="button" href="{{ app_url }}">Try again</a></p>$html$,
    null
),
(
    'images_expiring', 'images_expiring',
    '{{ images }} will be deleted soon',
    $html$<h1>Download what you need</h1>
<p>{{ images }} in your gallery will be deleted within three days, from {{ end_date }} on. Deleted pictures cannot be
brought back.</p>
<p><a class="button" href="{{ app_url }}">Go to your pictures</a></p>$html$,
    null
),
(
    'newsletter', 'campaign',
    'Print sharper: three tips for your next transfer',
    $html$<h1>Three tips for your next transfer</h1>
<p>{% if first_name %}{{ first_name }}, a{% else %}A{% endif %} good print begins with a good file. Three things that
help, none of which takes longer than a minute.</p>
<h2>1. Start larger than you print</h2>
<p>Film shows every pixel. Upscale small pictures before you size them for the shirt.</p>
<h2>2. Take the background away</h2>
<p>A white box around the art prints as a white box. Remove it, and look at the edges on a dark ground.</p>
<h2>3. Vectorize flat art</h2>
<p>Logos and lettering stay sharp at any size, from the chest to the back.</p>
<p><a class="button" href="{{ app_url }}">Try it with a picture</a></p>
<p class="small">You have {{ credits }} left.</p>$html$,
    $text$Three tips for your next transfer

{% if first_name %}{{ first_name }}, a{% else %}A{% endif %} good print begins with a good file.

1. Start larger than you print
   Film shows every pixel. Upscale small pictures before you size them for the shirt.

2. Take the background away
   A white box around the art prints as a white box. Remove it, and look at the edges on a dark ground.

3. Vectorize flat art
   Logos and lettering stay sharp at any size, from the chest to the back.

Try it with a picture: {{ app_url }}

You have {{ credits }} left.$text$
)
on conflict (name) do nothing;
