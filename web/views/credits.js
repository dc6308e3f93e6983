// The balance, what can be bought, and every entry of the ledger.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import {
  canBuy,
  canManage,
  listExpiring,
  listPackages,
  readCatalogue,
  listPlans,
  listTransactions,
  listUnpaid,
  openPortal,
  startCheckout,
} from "../supabase.js";
import { nameOf } from "../operations.js";
import { credits, dateTime, once } from "../ui.js";

const PAGE = 20;

export function buying(app, outcome) {
  let limit = PAGE;
  let transactions = [];
  let expiring = [];
  let packages = [];
  let plans = [];
  let unpaid = [];
  let catalogue = null;

  async function load() {
    [transactions, expiring, packages, plans, unpaid, catalogue] = await Promise.all([
      listTransactions(app.user.id, limit),
      listExpiring(app.user.id),
      listPackages(),
      listPlans(),
      listUnpaid(app.user.id),
      readCatalogue(),
    ]);
  }

  const leaveFor = (address) => once(app, async () => location.assign(await address()));

  const buyButton = (name, product) => html`
    <button class="primary" aria-label="Buy ${name}" @click=${leaveFor(() => startCheckout(product))}>Buy</button>
  `;

  const isSubscribed = () => Boolean(app.profile.stripe_subscription_id);

  // What an ended subscription left unpaid is no longer asked for.
  const isDue = (invoice) => isSubscribed() && invoice.stripe_subscription_id === app.profile.stripe_subscription_id;

  // A subscription that is not paid any more leaves its user on the plan "free" until it ends or is paid.
  const subscription = () => html`
    <p class="subscription">
      <span
        >${
          app.profile.subscription_plan === "free"
            ? "Your subscription is paused, because it is not paid."
            : html`You have the plan <strong>${app.profile.subscription_plan}</strong>.`
        }</span
      >
      ${canManage ? html`<button @click=${leaveFor(openPortal)}>Manage subscription</button>` : nothing}
    </p>
  `;

  const offer = ({ name, product, price, period, button }) => html`
    <li class="card offer">
      <strong>${name}</strong>
      <span class="figure">${money(price, catalogue.currency)}<small>${period}</small></span>
      <span class="facts">${product.description}</span>
      ${button}
    </li>
  `;

  const packageOffer = (product) =>
    offer({
      name: product.name,
      product,
      price: product.price,
      period: "",
      button: canBuy(product) ? buyButton(product.name, { package: product.id }) : nothing,
    });

  const planOffer = (plan) =>
    offer({
      name: `Plan ${plan.name}`,
      product: plan,
      price: plan.monthly_price,
      period: " a month",
      // Another plan is chosen in the portal: a second subscription would be paid beside the first.
      button: canBuy(plan) && !isSubscribed() ? buyButton(`Plan ${plan.name}`, { plan: plan.name }) : nothing,
    });

  const expiry = (grant) => html`
    <p class="facts">${credits(grant.remaining)} of them until ${dateTime(grant.expires_at)}</p>
  `;

  const unpaidInvoice = ({ amount_due, currency, hosted_url, next_attempt_at }) => html`
    <p class="notice low" role="alert">
      <span>A payment of ${money(amount_due, currency)} failed.</span>
      ${hosted_url ? html`<a href=${hosted_url}>Pay it now</a>` : nothing}
      ${next_attempt_at ? html`<span>It is tried again on ${dateTime(next_attempt_at)}.</span>` : nothing}
    </p>
  `;

  const entry = (row) => {
    const change = row.balance_after - row.balance_before;
    return html`
      <tr>
        <td>${dateTime(row.created_at)}</td>
        <td>${words(row, app.kinds)}</td>
        <td class="amount ${change > 0 ? "gain" : ""}">${change > 0 ? "+" : "−"}${Math.abs(change)}</td>
        <td class="amount">${row.balance_after}</td>
      </tr>
    `;
  };

  return {
    title: "Credits",
    load,
    body: () => html`
      <h1 tabindex="-1">Credits</h1>
      <p class="big-balance">
        <strong>${app.profile.credits_remaining}</strong> credit${app.profile.credits_remaining === 1 ? "" : "s"} left
      </p>
      ${
        outcome === "paid"
          ? html`<p class="notice">
              Thank you. What you paid for appears here when the money has come: in a moment with a card.
            </p>`
          : nothing
      }
      ${unpaid.filter(isDue).map(unpaidInvoice)} ${expiring.map(expiry)}
      ${
        app.profile.credit_debt
          ? html`<p class="notice low">
              ${credits(app.profile.credit_debt)} that were paid back had been spent already; the next ones make up for
              it.
            </p>`
          : nothing
      }
      <section>
        <h2>Get credits</h2>
        ${isSubscribed() ? subscription() : nothing}
        ${
          [...packages, ...plans].some(canBuy)
            ? nothing
            : html`<p class="notice">Buying is not set up on this server yet. Its operator can give you credits.</p>`
        }
        <ul class="offers-to-buy">
          ${packages.map(packageOffer)} ${plans.map(planOffer)}
        </ul>
      </section>
      <section>
        <h2 id="history">History</h2>
        <div class="table" role="region" aria-labelledby="history" tabindex="0">
          <table>
            <thead>
              <tr>
                <th scope="col">When</th>
                <th scope="col">What</th>
                <th scope="col" class="amount">Change</th>
                <th scope="col" class="amount">Balance</th>
              </tr>
            </thead>
            <tbody>
              ${repeat(transactions, ({ id }) => id, entry)}
            </tbody>
          </table>
        </div>
        ${
          transactions.length === limit
            ? html`<p class="more">
                <button
                  @click=${() => {
                    limit += PAGE;
                    app.refresh();
                  }}
                >
                  Show older ones
                </button>
              </p>`
            : nothing
        }
      </section>
    `,
  };
}

const money = (amount, currency) => Number(amount).toLocaleString(undefined, { style: "currency", currency });

/** What an entry was for. The ledger names operations by their type. */
function words(row, kinds) {
  const type = row.metadata?.operation_type;
  if (!type) return row.description ?? row.transaction_type;
  const operation = nameOf(kinds, type);
  return row.transaction_type === "refund" ? `Returned: ${operation}` : operation;
}
