// The operations as people see them: names, options and their words. What is allowed and what it costs, the database
// decides; an option that is left out has the default that is marked here.

import { html } from "./vendor/lit-html/lit-html.js";

export const OPERATIONS = {
  upscale: {
    name: "Enlarge",
    done: ({ scale = 4 }) => `Enlarged ×${scale}`,
    about: "More pixels, sharp edges: for prints larger than the file allows.",
    options: [
      { name: "scale", label: "Size", type: "choice", number: true, values: { 2: "×2", 4: "×4" }, standard: "4" },
      {
        name: "style",
        label: "Kind of picture",
        type: "select",
        values: { auto: "Find out", art: "Drawing or logo", photo: "Photo" },
      },
      {
        name: "denoise",
        label: "Remove noise",
        type: "select",
        values: { auto: "As needed", none: "No", light: "Light", medium: "Medium", strong: "Strong" },
      },
    ],
  },
  background_removal: {
    name: "Remove background",
    done: () => "Cut out",
    about: "Makes the background transparent. Of a photo you get a draft to look at; what cannot be cut out costs nothing.",
    options: [
      {
        name: "holes",
        label: "Enclosed areas",
        type: "select",
        values: { auto: "Find out", keep: "Keep them", remove: "Remove them" },
      },
      { name: "tolerance", label: "Tolerance", type: "number", min: 1, max: 50, hint: "1 to 50; empty: measured" },
    ],
  },
  vectorize: {
    name: "Vectorize",
    done: () => "Vectors",
    about: "Turns flat art into an SVG that prints sharp at any size.",
    options: [
      {
        name: "detail",
        label: "Detail",
        type: "choice",
        values: { low: "Low", medium: "Medium", high: "High" },
        standard: "medium",
      },
      { name: "colors", label: "Colours", type: "number", min: 2, max: 64, hint: "2 to 64; empty: chosen for you" },
    ],
  },
  generate: {
    name: "Lettering",
    done: () => "Lettering",
    about: "Sets your words as a print-ready picture with a transparent background.",
    options: [
      { name: "prompt", label: "Text", type: "text", maximum: 300 },
      {
        name: "font",
        label: "Letters",
        type: "select",
        values: {
          auto: "Choose for me",
          fredoka: "Fredoka: round",
          amatic: "Amatic: hand-drawn",
          manrope: "Manrope: plain",
          serif: "Source Serif: classic",
        },
      },
      {
        name: "size",
        label: "Longest side in pixels",
        type: "number",
        min: 256,
        max: 4096,
        hint: "256 to 4096; empty: 2400",
      },
      { name: "color", label: "Colour", type: "color" },
    ],
  },
};

/** The name of a result, such as "Enlarged ×4". */
export const resultName = (operation) => OPERATIONS[operation.operation_type].done(operation.options ?? {});

/** The fields of an operation's form. */
export function optionFields(type) {
  return OPERATIONS[type].options.map((option) => FIELDS[option.type](option, `${type}-${option.name}`));
}

/** The options of a submitted form: what was left empty, or to be found out, is left out. */
export function readOptions(type, form) {
  const entered = new FormData(form);
  const options = {};
  for (const { name, type: kind, number } of OPERATIONS[type].options) {
    const value = kind === "color" && !entered.has("own-color") ? null : entered.get(name);
    if (value && !(kind === "select" && value === "auto"))
      options[name] = kind === "number" || number ? Number(value) : value;
  }
  return options;
}

/** Whoever picks a colour wants it, and whoever opens the choice may want the one that is there. */
function takeColor(event) {
  event.target.form.elements["own-color"].checked = true;
}

const FIELDS = {
  choice: (option) => html`
    <fieldset class="segmented">
      <legend>${option.label}</legend>
      <div>
        ${Object.entries(option.values).map(
          ([value, label]) => html`
            <label
              ><input type="radio" name=${option.name} value=${value} ?checked=${value === option.standard} /><span
                >${label}</span
              ></label
            >
          `,
        )}
      </div>
    </fieldset>
  `,
  select: (option, id) => html`
    <div class="field">
      <label for=${id}>${option.label}</label>
      <select id=${id} name=${option.name}>
        ${Object.entries(option.values).map(([value, label]) => html`<option value=${value}>${label}</option>`)}
      </select>
    </div>
  `,
  number: (option, id) => html`
    <div class="field">
      <label for=${id}>${option.label}</label>
      <input
        id=${id}
        name=${option.name}
        type="number"
        min=${option.min}
        max=${option.max}
        aria-describedby="${id}-hint"
      />
      <small id="${id}-hint">${option.hint}</small>
    </div>
  `,
  text: (option, id) => html`
    <div class="field">
      <label for=${id}>${option.label}</label>
      <textarea id=${id} name=${option.name} rows="3" maxlength=${option.maximum} required></textarea>
    </div>
  `,
  color: (option, id) => html`
    <div class="field inline">
      <label><input type="checkbox" name="own-color" /> ${option.label} of my own</label>
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
