// The kinds of operations as people see them. Their names, words, options and prices are rows of the database
// (operation_types), so that a kind that is new there is offered here; what a row does not say has a plain form.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { keyed } from "./vendor/lit-html/directives/keyed.js";
import { quoteOperation } from "./supabase.js";
import { credits, startButton } from "./ui.js";

/** The kinds that are offered for pictures ("image"), collections ("collection") or out of nothing ("nothing"). */
export const offered = (kinds, worksOn) => kinds.filter((kind) => kind.is_active && kind.works_on === worksOn);

/** The name of a kind: also of one that is no longer offered, or that this page is too old to know. */
export const nameOf = (kinds, type) => kinds.find(({ name }) => name === type)?.title ?? plainly(type);

const plainly = (type) => type.charAt(0).toUpperCase() + type.slice(1).replaceAll("_", " ");

/** The name of a result, such as "Enlarged ×4". */
export function resultName(kinds, { operation_type: type, options }) {
  const kind = kinds.find(({ name }) => name === type);
  if (!kind) return plainly(type);
  return kind.result_title.replace(/\{(\w+)\}/g, (_, name) => {
    const option = kind.options.find((other) => other.name === name);
    const value = options?.[name] ?? option?.default ?? "";
    return option?.words?.[option.choices.indexOf(value)] ?? String(value);
  });
}

// What is chosen elsewhere on the page than in the form.
const ELSEWHERE = ["operation", "collection"];

/** Whether the page can ask for everything that the kind needs. */
const isKnown = (kind) =>
  kind.options.every((option) => "default" in option || ELSEWHERE.includes(option.type) || option.type in FIELDS);

/**
 * The card with the kinds that are offered, the form of the chosen one, and the button that starts it.
 * `choose` gets the name of a kind, `start` the submitted form's event, the kind and its price; `touch` hears of every
 * change; `more` stands below the fields.
 */
export function operationCard(app, { kinds, chosen, heading, choose, start, touch = () => {}, more = nothing }) {
  if (kinds.length === 0) return html`<section class="card"><p>Nothing is offered at the moment.</p></section>`;
  const kind = kinds.find(({ name }) => name === chosen) ?? kinds[0];
  return html`
    <section class="card" aria-labelledby="operation-heading">
      <h2 id="operation-heading">${heading}</h2>
      ${
        kinds.length > 1
          ? html`
              <div class="kinds" role="group" aria-labelledby="operation-heading">
                ${kinds.map(
                  ({ name, title, credits: price }) => html`
                    <button aria-pressed=${name === kind.name} @click=${() => choose(name)}>
                      ${title}<small>${credits(price)}</small>
                    </button>
                  `,
                )}
              </div>
            `
          : nothing
      }
      <p class="facts">${kind.description}</p>
      ${keyed(
        kind.name,
        isKnown(kind)
          ? html`
              <form
                @submit=${(event) => start(event, kind, priceOf(app, kind))}
                @input=${(event) => {
                  touch();
                  quote(app, kind, event.currentTarget).catch(app.report);
                }}
              >
                ${optionFields(kind)} ${more} ${startButton(app, priceOf(app, kind))}
              </form>
            `
          : html`<p class="notice">This page is older than what it offers. Load it again to go on.</p>`,
      )}
    </section>
  `;
}

// Some choices cost more: what, the database says.
const quotes = new Map();

const priceOf = (app, kind) => quotes.get(kind.name) ?? kind.credits;

async function quote(app, kind, form) {
  if (Object.keys(kind.surcharges).length === 0) return;
  const options = readOptions(kind, form);
  try {
    const price = await quoteOperation(kind.name, { ...elsewhere(kind), ...options });
    if (form.isConnected && same(options, readOptions(kind, form))) quotes.set(kind.name, price);
  } catch (error) {
    if (error.status !== 400) throw error; // something is still to be filled in
    quotes.delete(kind.name);
  }
  app.update();
}

const NOBODY = "00000000-0000-0000-0000-000000000000";

/** What a quote needs in place of the options that are chosen elsewhere: whose they are does not change the price. */
const elsewhere = (kind) =>
  Object.fromEntries(
    kind.options
      .filter((option) => ELSEWHERE.includes(option.type) && !("default" in option))
      .map(({ name }) => [name, NOBODY]),
  );

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** The fields of a kind's form. */
const optionFields = (kind) =>
  kind.options
    .filter((option) => option.type in FIELDS)
    .map((option) => FIELDS[option.type](option, `${kind.name}-${option.name}`));

/** The options of a submitted form: what was left empty, or at its default, is left out. */
export function readOptions(kind, form) {
  const entered = new FormData(form);
  const options = {};
  for (const option of kind.options) {
    const value = VALUES[option.type]?.(option, entered);
    if (value !== undefined && value !== option.default) options[option.name] = value;
  }
  return options;
}

const number = ({ name }, entered) => (entered.get(name) ? Number(entered.get(name)) : undefined);

const VALUES = {
  choice: ({ name, choices }, entered) => choices.find((choice) => String(choice) === entered.get(name)),
  integer: number,
  number,
  text: ({ name }, entered) => entered.get(name) || undefined,
  boolean: ({ name }, entered) => entered.has(name),
  color: ({ name }, entered) => (entered.has(`own-${name}`) ? entered.get(name) : undefined),
};

/** Whoever picks a colour wants it, and whoever opens the choice may want the one that is there. */
function takeColor(event) {
  event.target.form.elements[`own-${event.target.name}`].checked = true;
}

// A few short words stand side by side.
const SIDE_BY_SIDE = 4;
const SHORT = 8; // characters
const isShort = ({ words }) => words.length <= SIDE_BY_SIDE && words.every((word) => word.length < SHORT);

const sideBySide = (option) => html`
  <fieldset class="segmented">
    <legend>${option.label}</legend>
    <div>
      ${option.choices.map(
        (value, n) => html`
          <label
            ><input type="radio" name=${option.name} value=${value} ?checked=${value === option.default} /><span
              >${option.words[n]}</span
            ></label
          >
        `,
      )}
    </div>
  </fieldset>
`;

const list = (option, id) => html`
  <div class="field">
    <label for=${id}>${option.label}</label>
    <select id=${id} name=${option.name} aria-describedby=${option.hint ? `${id}-hint` : nothing}>
      ${option.choices.map(
        (value, n) => html`
          <option value=${value} ?selected=${value === option.default}>${option.words[n]}</option>
        `,
      )}
    </select>
    ${hint(option.hint, id)}
  </div>
`;

const hint = (text, id) => (text ? html`<small id="${id}-hint">${text}</small>` : nothing);

/** Such as "256 to 4096 pixels; empty: 2400". */
function bounds({ minimum, maximum, unit, default: standard, hint: more }) {
  const words = [`${minimum} to ${maximum}${unit ? ` ${unit}` : ""}`];
  if (standard !== null && standard !== undefined) words.push(`empty: ${standard}`);
  if (more) words.push(more);
  return words.join("; ");
}

const figure = (option, id) => html`
  <div class="field">
    <label for=${id}>${option.label}</label>
    <input
      id=${id}
      name=${option.name}
      type="number"
      min=${option.minimum}
      max=${option.maximum}
      step=${option.type === "integer" ? 1 : "any"}
      ?required=${!("default" in option)}
      aria-describedby="${id}-hint"
    />
    ${hint(bounds(option), id)}
  </div>
`;

const FIELDS = {
  choice: (option, id) => (isShort(option) ? sideBySide(option) : list(option, id)),
  integer: figure,
  number: figure,
  text: (option, id) => html`
    <div class="field">
      <label for=${id}>${option.label}</label>
      <textarea
        id=${id}
        name=${option.name}
        rows="3"
        maxlength=${option.maximum}
        ?required=${!("default" in option)}
        aria-describedby=${option.hint ? `${id}-hint` : nothing}
      ></textarea>
      ${hint(option.hint, id)}
    </div>
  `,
  boolean: (option) => html`
    <label class="check"><input type="checkbox" name=${option.name} ?checked=${option.default} />${option.label}</label>
  `,
  color: (option, id) => html`
    <div class="field inline">
      <label><input type="checkbox" name="own-${option.name}" /> ${option.label} of my own</label>
      <input
        id=${id}
        name=${option.name}
        type="color"
        value="#ec008c"
        aria-label=${option.label}
        @click=${takeColor}
        @input=${takeColor}
      />
    </div>
  `,
};
