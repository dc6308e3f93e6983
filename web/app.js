// The page: who is signed in, which view the address asks for, and keeping what is shown fresh.
//
// A view is a function (app, …parts of the address) that returns { title, load(), body(), isPublic }: load() reads
// what it shows, body() draws it. The profile and the kinds of operations are read beside load(), so only body() may ask for them.
// Everything is drawn again after each change; lit-html touches only what differs.

import { html, nothing, render } from "./vendor/lit-html/lit-html.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { keepFresh } from "./fresh.js";
import * as api from "./supabase.js";
import { icon } from "./icons.js";
import { credits, once } from "./ui.js";
import { keepUploadsOf } from "./uploads.js";
import { account } from "./views/account.js";
import { collection } from "./views/collection.js";
import { collections } from "./views/collections.js";
import { buying } from "./views/credits.js";
import { gallery } from "./views/gallery.js";
import { lettering } from "./views/lettering.js";
import { picture } from "./views/picture.js";
import { welcome } from "./views/welcome.js";

export const ROUTES = [
  [/^$/, gallery],
  [/^pictures\/([\da-f-]{36})$/, picture],
  [/^lettering$/, lettering],
  [/^collections$/, collections],
  [/^collections\/([\da-f-]{36})$/, collection],
  [/^credits(?:\/(paid))?$/, buying],
  [/^account$/, account],
];

const NAVIGATION = [
  ["", "pictures", "Pictures"],
  ["lettering", "lettering", "Lettering"],
  ["collections", "collections", "Collections"],
  ["credits", "credits", "Credits"],
  ["account", "account", "Account"],
];

const NEWS_SECONDS = 6;

export const app = {
  user: null,
  profile: null,
  kinds: [],
  unfinished: 0,
  freshness: "starting", // live, polling or offline

  /** Draw again, once, after whatever is going on now. */
  update() {
    if (drawing) return;
    drawing = true;
    queueMicrotask(() => {
      drawing = false;
      render(page(), frame);
    });
  },

  /** Read everything that is shown again. Calls that come meanwhile are answered by one more reading. */
  refresh() {
    wanted = true;
    reading ??= readAll().finally(() => (reading = null));
    return reading;
  },

  /** Say something, which screen readers speak too. News make room for newer ones; trouble stays until it is closed. */
  say(text, kind = "news", link = null) {
    const message = { id: crypto.randomUUID(), text, kind, link };
    messages = [...messages.filter((older) => older.kind !== "news"), message];
    if (kind === "news") setTimeout(() => dismiss(message), NEWS_SECONDS * 1000);
    app.update();
  },

  /** Say what went wrong. */
  report(error) {
    if (error.name === "AbortError") return;
    if (!("status" in error)) console.error(error);
    const link = error.status === 402 ? ["#/credits", "Get credits"] : null;
    app.say(error.message, "trouble", link);
    if (error.status === 401) endSession();
  },

  go(path) {
    location.hash = `#/${path}`;
  },

  async signOut() {
    endedByChoice = true;
    await api.signOut().finally(() => (endedByChoice = false));
    app.go("");
  },
};

const frame = document.getElementById("app");
let drawing = false;
let reading = null;
let wanted = false;
let view = null;
let failure = null; // why the view could not be read at first
let stopFreshening = () => {};
let messages = [];

function dismiss(message) {
  messages = messages.filter((other) => other !== message);
  app.update();
}

// ---- Session

let isKnown = false; // whether the first answer about the user has come
let endedByChoice = false;

function setUser(user) {
  if (isKnown && app.user?.id === user?.id) return;
  if (app.user && !user && !endedByChoice) {
    app.say("Your session has ended. Sign in again to go on.", "trouble");
  }
  if (!isKnown) frame.replaceChildren(); // the word that the page is loading
  isKnown = true;
  app.user = user;
  app.profile = null;
  if (user) keepUploadsOf(user.id);
  stopFreshening();
  stopFreshening = user ? keepFresh(app) : () => {};
  openView();
}

async function endSession() {
  if (app.user) await api.signOut();
}

// ---- Views

function openView({ focus = false } = {}) {
  const path = location.hash.replace(/^#\/?/, "");
  const asked = viewAt(path);
  view = app.user || asked.isPublic ? asked : welcome(app);
  view.path = path;
  view.focus = focus;
  failure = null;
  app.update();
  app.refresh();
}

function viewAt(path) {
  for (const [pattern, make] of ROUTES) {
    const found = pattern.exec(path);
    if (found) return make(app, ...found.slice(1));
  }
  return missing();
}

function missing() {
  const body = () =>
    html`<h1 tabindex="-1">There is nothing here</h1>
      <p><a href="#/">To your pictures</a></p>`;
  return { title: "Nothing here", isPublic: true, load: async () => {}, body };
}

async function readAll() {
  while (wanted) {
    wanted = false;
    const shown = view;
    try {
      await Promise.all([readAccount(), shown.load()]);
      shown.isLoaded = true;
      failure = null;
      app.isBehind = false;
    } catch (error) {
      if (shown === view) failed(error, shown);
    }
    app.update();
    if (shown === view && shown.isLoaded && shown.focus) {
      shown.focus = false;
      await null; // the drawing that was just asked for
      scrollTo(0, 0);
      document.querySelector("h1")?.focus({ preventScroll: true });
    }
  }
}

function failed(error, shown) {
  if (error.status === 401) return void endSession();
  if (!("status" in error)) console.error(error);
  app.isBehind = true;
  if (!shown.isLoaded) failure = error;
}

async function readAccount() {
  if (!app.user) return;
  const { id } = app.user;
  const [profile, unfinished, kinds] = await Promise.all([
    api.readProfile(id),
    api.countUnfinished(id),
    api.listOperationTypes(),
  ]);
  if (app.user?.id === id) Object.assign(app, { profile, unfinished, kinds });
}

// ---- The frame around every view

function page() {
  document.title = `${view.title} · DTF Editor`;
  document.documentElement.dataset.updates = app.freshness;
  return html`
    <a class="skip" href="#main" @click=${skipToMain}>Skip to the content</a>
    ${header()}
    <main id="main" class=${view.className ?? nothing} aria-busy=${!view.isLoaded}>
      ${notices()}
      ${failure ? trouble() : view.isLoaded || view.showsEarly ? view.body() : html`<p class="boot">Loading …</p>`}
    </main>
    ${app.user ? navigation() : nothing} ${messageList()}
  `;
}

function skipToMain(event) {
  event.preventDefault(); // the address says which view is open
  document.querySelector("h1")?.focus();
}

const header = () => html`
  <header class="top">
    <a class="brand" href="#/"><img src="icon.svg" alt="" width="28" height="28" />DTF Editor</a>
    ${
      app.user
        ? html`
            ${
              app.unfinished
                ? html`<span class="in-work"
                    ><span class="spinner" aria-hidden="true"></span>${app.unfinished} in work</span
                  >`
                : nothing
            }
            <a class="balance" href="#/credits"
              >${icon("credits")}${app.profile ? credits(app.profile.credits_remaining) : "…"}</a
            >
            <button class="quiet" @click=${once(app, app.signOut)}>Sign out</button>
          `
        : view.isPublic
          ? html`<a class="button" href="#/">Sign in</a>`
          : nothing
    }
  </header>
`;

const navigation = () => html`
  <nav class="main-menu" aria-label="Main">
    ${NAVIGATION.map(([path, symbol, name]) => {
      const isHere =
        view.path === path ||
        (path && view.path.startsWith(`${path}/`)) ||
        (!path && view.path.startsWith("pictures/"));
      return html`<a href="#/${path}" aria-current=${isHere ? "page" : "false"}
        >${icon(symbol)}<span>${name}</span></a
      >`;
    })}
  </nav>
`;

const FRESHNESS = {
  live: null,
  polling: "Live updates are paused. This page looks for news every few seconds instead.",
  offline: "You are offline. What you see may be old; it catches up by itself.",
};

function notices() {
  const stale =
    app.isBehind && view.isLoaded && app.freshness !== "offline"
      ? "The server cannot be reached. Trying again …"
      : null;
  const note = app.user && (stale ?? FRESHNESS[app.freshness]);
  const balance = app.profile?.credits_remaining;
  const dearest = Math.max(0, ...app.kinds.map((kind) => (kind.is_active ? kind.credits : 0)));
  const isLow = app.user && balance < dearest && !view.path.startsWith("credits");
  return html`
    <div role="status" class="notices">
      ${note ? html`<p class="notice">${note}</p>` : nothing}
      ${
        isLow
          ? html`<p class="notice low">
              You have ${balance ? `only ${credits(balance)}` : "no credits"} left. <a href="#/credits">Get credits</a>
            </p>`
          : nothing
      }
    </div>
  `;
}

const trouble = () => html`
  <h1 tabindex="-1">This did not work</h1>
  <p>${failure.message}</p>
  <p><button @click=${() => openView({ focus: true })}>Try again</button></p>
`;

const messageList = () => html`
  <div class="messages" role="status" aria-live="polite">
    ${repeat(
      messages,
      (message) => message.id,
      (message) => html`
        <div class="message ${message.kind}">
          <p>${message.text} ${message.link ? html`<a href=${message.link[0]}>${message.link[1]}</a>` : nothing}</p>
          <button class="icon-only" aria-label="Close the message" @click=${() => dismiss(message)}>
            ${icon("close")}
          </button>
        </div>
      `,
    )}
  </div>
`;

/** Menus close when one clicks elsewhere or presses Escape. */
function closeMenus(event) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (event.type === "click" && menu.contains(event.target)) continue;
    menu.open = false;
    if (event.type === "keydown" && menu.contains(document.activeElement)) menu.querySelector("summary").focus();
  }
}

addEventListener("click", closeMenus);
addEventListener("keydown", (event) => event.key === "Escape" && closeMenus(event));
addEventListener("hashchange", () => isKnown && openView({ focus: true }));
api.onUser(setUser);
