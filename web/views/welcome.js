// What a visitor sees: what this is, what it costs, and the form that lets him in.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { listOperationTypes, signIn, signUp } from "../supabase.js";
import { credits, once } from "../ui.js";

export function welcome(app) {
  let isNew = !location.hash.slice(2); // whoever follows a deep link has an account
  let mailSent = null;
  let refusal = null;
  let kinds = [];

  const enter = once(app, async (event) => {
    const { email, password } = event.target.elements;
    refusal = null;
    try {
      const session = await (isNew ? signUp : signIn)(email.value.trim(), password.value);
      if (!session) mailSent = email.value.trim();
    } catch (error) {
      refusal = error.message;
    }
    app.update();
  });

  function choose(newcomer) {
    isNew = newcomer;
    refusal = null;
    app.update();
  }

  const form = () => html`
    <section class="card entrance" aria-labelledby="entrance">
      <div class="tabs">
        <button aria-pressed=${isNew} @click=${() => choose(true)}>New here</button>
        <button aria-pressed=${!isNew} @click=${() => choose(false)}>I have an account</button>
      </div>
      <h2 id="entrance">${isNew ? "Create an account" : "Sign in"}</h2>
      <form @submit=${enter}>
        <div class="field">
          <label for="email">E-mail</label>
          <input id="email" name="email" type="email" autocomplete="email" required />
        </div>
        <div class="field">
          <label for="password">Password</label>
          <input
            id="password"
            name="password"
            type="password"
            autocomplete=${isNew ? "new-password" : "current-password"}
            minlength=${isNew ? 8 : nothing}
            aria-describedby="password-hint"
            required
          />
          <small id="password-hint">${isNew ? "At least 8 characters." : nothing}</small>
        </div>
        <p class="refusal" role="alert">${refusal}</p>
        <button class="primary wide">${isNew ? "Sign up, with 2 free credits" : "Sign in"}</button>
      </form>
    </section>
  `;

  const mail = () => html`
    <section class="card entrance" role="status">
      <h2>Look into your mail</h2>
      <p>We sent a link to ${mailSent}. Follow it, then sign in here.</p>
      <button
        @click=${() => {
          mailSent = null;
          choose(false);
        }}
      >
        Sign in
      </button>
    </section>
  `;

  return {
    title: "Artwork for DTF printing",
    className: "welcome",
    showsEarly: true,
    load: async () => {
      kinds = await listOperationTypes();
    },
    body: () => html`
      <div class="pitch">
        <h1 tabindex="-1">Artwork, ready <em>for print.</em></h1>
        <p class="lead">Drop a picture. Get it back larger, cut out, as vectors or with your words, at 300 DPI.</p>
      </div>
      ${mailSent ? mail() : form()}
      <ul class="offers">
        ${kinds.map(
          ({ title, description, credits: price }) => html`
            <li>
              <strong>${title}</strong><span class="price">${credits(price)}</span><span>${description}</span>
            </li>
          `,
        )}
      </ul>
    `,
  };
}
