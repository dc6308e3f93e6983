// Who the user is to the print shop.

import { html } from "../vendor/lit-html/lit-html.js";
import { deleteAccount, exportAccount, updateProfile } from "../supabase.js";
import { confirm, once, save as saveFile } from "../ui.js";

const FIELDS = [
  ["first_name", "First name", "given-name", 100],
  ["last_name", "Last name", "family-name", 100],
  ["company", "Company", "organization", 200],
  ["phone", "Phone", "tel", 50],
];

export function account(app) {
  const save = once(app, async (event) => {
    const entered = new FormData(event.target);
    await updateProfile(
      app.user.id,
      Object.fromEntries(FIELDS.map(([name]) => [name, entered.get(name).trim() || null])),
    );
    app.say("Saved.");
    await app.refresh();
  });

  const download = once(app, async () => {
    const everything = JSON.stringify(await exportAccount(), null, 2);
    saveFile(new Blob([everything], { type: "application/json" }), "dtf-editor-account.json");
  });

  const leave = once(app, async () => {
    const question = "Delete your account with all pictures and credits? Nobody can bring them back.";
    if (!(await confirm(question, "Delete everything"))) return;
    await deleteAccount();
    await app.signOut();
    app.say("Your account is deleted.");
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
              <input
                id=${name}
                name=${name}
                autocomplete=${autocomplete}
                maxlength=${maximum}
                .defaultValue=${app.profile[name] ?? ""}
              />
            </div>
          `,
        )}
        <button class="primary">Save</button>
      </form>
      <section>
        <h2>Your data</h2>
        <div class="actions">
          <button @click=${download}>Download everything as JSON</button>
          <button class="danger" @click=${leave}>Delete this account</button>
        </div>
      </section>
      <section><button @click=${once(app, app.signOut)}>Sign out</button></section>
    `,
  };
}
