// Who the user is to the print shop.

import { html } from "../vendor/lit-html/lit-html.js";
import { updateProfile } from "../supabase.js";
import { once } from "../ui.js";

const FIELDS = [
  ["first_name", "First name", "given-name", 100],
  ["last_name", "Last name", "family-name", 100],
  ["company", "Company", "organization", 200],
  ["phone", "Phone", "tel", 50],
];

export function account(app) {
  const save = once(app, async (event) => {
    const entered = new FormData(event.target);
    await updateProfile(app.user.id, Object.fromEntries(FIELDS.map(([name]) => [name, entered.get(name).trim() || null])));
    app.say("Saved.");
    await app.refresh();
  });

  return {
    title: "Account",
    className: "narrow",
    load: async () => {},
    body: () => html`
      <h1 tabindex="-1">Account</h1>
      <p class="lead">${app.profile.email}</p>
      <form class="card" @submit=${save}>
        ${FIELDS.map(
          ([name, label, autocomplete, maximum]) => html`
            <div class="field">
              <label for=${name}>${label}</label>
              <input id=${name} name=${name} autocomplete=${autocomplete} maxlength=${maximum} .defaultValue=${app.profile[name] ?? ""} />
            </div>
          `,
        )}
        <button class="primary">Save</button>
      </form>
      <section>
        <button @click=${once(app, app.signOut)}>Sign out</button>
      </section>
    `,
  };
}
