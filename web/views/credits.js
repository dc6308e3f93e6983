// The balance, what can be bought, and every entry of the ledger.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { canBuy, listExpiring, listPackages, listPlans, listTransactions, startCheckout } from "../supabase.js";
import { OPERATIONS } from "../operations.js";
import { credits, dateTime, once } from "../ui.js";

const PAGE = 20;

export function buying(app) {
  let limit = PAGE;
  let transactions = [];
  let expiring = [];
  let packages = [];
  let plans = [];

  async function load() {
    [transactions, expiring, packages, plans] = await Promise.all([
      listTransactions(app.user.id, limit),
      listExpiring(app.user.id),
      listPackages(),
      listPlans(),
    ]);
  }

  const buy = (product) => once(app, async () => location.assign(await startCheckout(product)));

  const buyButton = (product) => html`
    <button class="primary" aria-label="Buy ${product.name}" @click=${buy(product)}>Buy</button>
  `;

  const offer = (product, price, period) => html`
    <li class="card offer">
      <strong>${product.name}</strong>
      <span class="figure"
        >${Number(price).toLocaleString(undefined, { style: "currency", currency: "USD" })}<small
          >${period}</small
        ></span
      >
      <span class="facts">${product.description}</span>
      ${canBuy(product) ? buyButton(product) : nothing}
    </li>
  `;

  const expiry = (grant) => html`
    <p class="facts">${credits(grant.remaining)} of them until ${dateTime(grant.expires_at)}</p>
  `;

  const entry = (row) => {
    const change = row.balance_after - row.balance_before;
    return html`
      <tr>
        <td>${dateTime(row.created_at)}</td>
        <td>${words(row)}</td>
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
      ${expiring.map(expiry)}
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
        ${
          [...packages, ...plans].some(canBuy)
            ? nothing
            : html`<p class="notice">Buying is not set up on this server yet. Its operator can give you credits.</p>`
        }
        <ul class="offers-to-buy">
          ${packages.map((product) => offer(product, product.price, ""))}
          ${plans.map((plan) => offer({ ...plan, name: `Plan ${plan.name}` }, plan.monthly_price, " a month"))}
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

/** What an entry was for. The ledger names operations by their type. */
function words(row) {
  const operation = OPERATIONS[row.metadata?.operation_type]?.name;
  if (!operation) return row.description ?? row.transaction_type;
  return row.transaction_type === "refund" ? `Returned: ${operation}` : operation;
}
