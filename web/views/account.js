// Who the user is to the print shop.

import { html } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";
import { deleteAccount, exportAccount, readUploadUsage, updateProfile } from "../supabase.js";
import { confirm, fileSize, once, save as saveFile } from "../ui.js";

const FIELDS = [
  ["first_name", "First name", "given-name", 100],
  ["last_name", "Last name", "family-name", 100],
  ["company", "Company", "organization", 200],
  ["phone", "Phone", "tel", 50],
];

const MAILS = [
  ["notification_emails", "About your work", "Credits that run low or end, pictures that expire, failed operations"],
  ["marketing_emails", "News and offers", "Now and then"],
];

export function account(app) {
  let uploads;

  const change = async (changes) => {
    await updateProfile(app.user.id, changes);
    await app.refresh();
    app.say("Saved.");
  };

  const save = once(app, (event) => {
    const entered = new FormData(event.target);
    return change(Object.fromEntries(FIELDS.map(([name]) => [name, entered.get(name).trim() || null])));
  });

  const choose = once(app, ({ target }) => change({ [target.name]: target.checked }));

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
    load: async () => {
      uploads = await readUploadUsage();
    },
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
        <h2>E-mails</h2>
        <div class="card stack">
          ${MAILS.map(
            ([name, label, what]) => html`
              <label class="check">
                <input
                  type="checkbox"
                  role="switch"
                  name=${name}
                  .checked=${live(app.profile[name])}
                  @change=${choose}
                />
                <span>${label}<br /><small>${what}</small></span>
              </label>
            `,
          )}
          <p><small>Receipts and the like always come.</small></p>
        </div>
      </section>
      <section>
        <h2>Your data</h2>
        <p>
          Your uploads take ${uploads.used_bytes ? fileSize(uploads.used_bytes) : "nothing"} of
          ${fileSize(uploads.limit_bytes)}.
        </p>
        <div class="actions">
          <button @click=${download}>Download everything as JSON</button>
          <button class="danger" @click=${leave}>Delete this account</button>
        </div>
      </section>
      <section><button @click=${once(app, app.signOut)}>Sign out</button></section>
    `,
  };
}
