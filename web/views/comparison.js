// Before and after, one above the other: a slider, so that keys move it too. And what lies behind transparent parts.

import { html } from "../vendor/lit-html/lit-html.js";
import { ref } from "../vendor/lit-html/directives/ref.js";

const BACKDROPS = {
  checkerboard: "Checkerboard",
  white: "White",
  black: "Black",
  red: "Red",
  navy: "Navy",
  sand: "Sand",
};

/**
 * after and before: { url, name }, after also width and height in pixels; before may be missing.
 * look: { split: 0…100, backdrop }, kept by the caller and changed here.
 */
export function comparison({ after, before, look, update }) {
  const style = (element) => {
    element?.style.setProperty("--ratio", after.width ? after.width / after.height : 1);
    element?.style.setProperty("--split", `${look.split}%`);
  };
  const isPair = before?.url && after.width;
  return html`
    <div class="stage ${look.backdrop}">
      ${
        isPair
          ? html`
              <div class="comparison" ${ref(style)}>
                <img src=${after.url} alt=${after.name} />
                <img class="before" src=${before.url} alt=${before.name} />
                <span class="label left">${before.name}</span><span class="label right">${after.name}</span>
                <span class="divider"></span>
                <input
                  type="range"
                  min="0"
                  max="100"
                  .value=${String(look.split)}
                  aria-label="How much of ${before.name} covers ${after.name}"
                  aria-valuetext="${look.split} percent ${before.name}"
                  @input=${(event) => {
                    look.split = event.target.valueAsNumber;
                    update();
                  }}
                />
              </div>
            `
          : after.url
            ? html`<img class="single" src=${after.url} alt=${after.name} />`
            : html`<p class="empty">This file cannot be shown.</p>`
      }
    </div>
  `;
}

/** The choice of garment colours. */
export const backdrops = (look, update) => html`
  <fieldset class="backdrops">
    <legend class="hidden">Behind transparent parts</legend>
    ${Object.entries(BACKDROPS).map(
      ([value, name]) => html`
        <label class="swatch ${value}" title=${name}>
          <input
            type="radio"
            name="backdrop"
            value=${value}
            ?checked=${value === look.backdrop}
            @change=${() => {
              look.backdrop = value;
              update();
            }}
          />
          <span class="hidden">${name}</span>
        </label>
      `,
    )}
  </fieldset>
`;
