"use strict";
// Texts, tiles, table, definitions and theme. All content is inserted as text, never as markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const MINUS = "\u2212", DASH = "\u2013";

function html(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.flat().filter((child) => child !== null));
  return element;
}

function number(value, digits = 3, unit = "", sign = false) {
  if (value === null || value === undefined) return DASH;
  const shown = Math.abs(value).toFixed(digits);
  const negative = value < 0 && Number(shown) !== 0;
  return (negative ? MINUS : sign && Number(shown) !== 0 ? "+" : "") + grouped(shown) + (unit ? "\u202f" + unit : "");
}

function grouped(digits) {
  const [whole, rest] = digits.split(".");
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? "." + rest : "");
}

const whole = (value) => number(value, 0);

// Definitions: hover, keyboard focus or tap on any .def button; one tooltip for all.
function definable(key, label) {
  return html("button", { type: "button", class: "def", "data-def": key }, label ?? DATA.glossary[key].label);
}

function setUpDefinitions() {
  const tip = byId("definition");
  let owner = null, pinned = false;
  const hide = () => {
    if (owner) owner.setAttribute("aria-expanded", "false");
    owner = null;
    pinned = false;
    if (tip.matches(":popover-open")) tip.hidePopover();
  };
  const show = (button) => {
    hide();
    owner = button;
    const { label, text, source } = DATA.glossary[button.dataset.def];
    tip.replaceChildren(html("strong", {}, label), text, source ? html("span", { class: "source" }, source) : "");
    tip.showPopover();
    button.setAttribute("aria-expanded", "true");
    place();
  };
  const place = () => {
    if (!owner) return;
    const at = owner.getBoundingClientRect(), size = tip.getBoundingClientRect(), room = document.documentElement.clientWidth;
    const below = at.bottom + 8 + size.height < innerHeight;
    tip.style.left = Math.max(12, Math.min(at.left, room - size.width - 12)) + "px";
    tip.style.top = Math.max(8, below ? at.bottom + 8 : at.top - size.height - 8) + "px";
  };
  for (const button of document.querySelectorAll(".def")) {
    button.setAttribute("type", "button");
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-describedby", "glossary-" + button.dataset.def);
    button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && !pinned && show(button));
    button.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && !pinned && hide());
    button.addEventListener("focus", () => button.matches(":focus-visible") && show(button));
    button.addEventListener("blur", hide);
    button.addEventListener("click", () => {
      const close = owner === button && pinned;
      if (close) return hide();
      show(button);
      pinned = true;
    });
  }
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("pointerdown", (event) => !event.target.closest(".def, #definition") && hide());
  addEventListener("scroll", place, { passive: true });
}

function setUpTheme() {
  const button = byId("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const apply = (dark) => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(dark));
    button.setAttribute("aria-label", dark ? "Switch to light colours" : "Switch to dark colours");
    dispatchEvent(new Event("themechange"));
  };
  apply(system.matches);
  system.addEventListener("change", (event) => apply(event.matches));
  button.addEventListener("click", () => apply(document.documentElement.dataset.theme !== "dark"));
  // Paper is white: light letters would vanish on it.
  let printed = false;
  addEventListener("beforeprint", () => { printed = document.documentElement.dataset.theme === "dark"; apply(false); });
  addEventListener("afterprint", () => apply(printed));
}

function tile(key, before, after, detail) {
  const { digits, unit } = DATA.glossary[key];
  return html("div", { class: "tile" },
    html("div", { class: "name" }, definable(key)),
    html("div", { class: "value" },
      html("span", { class: "was" }, number(before, digits)),
      html("span", { class: "arrow", "aria-label": "to" }, "\u2192"),
      html("span", {}, number(after, digits, unit))),
    html("div", { class: "detail" }, detail));
}

function setUpTiles() {
  const { measures, recall, severity } = DATA;
  const scaled = (key, column) => measures[key][column] === null ? null : measures[key][column] * DATA.glossary[key].scale;
  byId("tiles").append(
    tile("centroid_distance", scaled("centroid_distance", "before"), scaled("centroid_distance", "after"), `${severity.before} \u2192 ${severity.after}`),
    tile("cross_modal_neighbor_share", scaled("cross_modal_neighbor_share", "before"), scaled("cross_modal_neighbor_share", "after"), "in a mixed index"));
  for (const direction of ["i2t", "t2i"]) {
    const found = recall[direction], after = found?.after;
    const change = after ? `${number(after[3], 1, "", true)} points (${number(after[4], 1, "", true)} to ${number(after[5], 1, "", true)})` : "no pairs are known";
    byId("tiles").append(tile(direction, found?.before[0] ?? null, after?.[0] ?? null, change));
  }
}

function setUpTable() {
  const columns = DATA.columns;
  for (const [column, [name, what, key]] of Object.entries(columns)) byId("col-" + column).append(key ? definable(key, name) : name, html("span", { class: "quiet" }, what));
  const row = (key, cells) => html("tr", { "data-measure": key }, html("th", { scope: "row" }, definable(key)),
    Object.keys(columns).map((column) => html("td", { class: column, "data-column": columns[column][0] }, ...cells(column))));
  for (const [key, values] of Object.entries(DATA.measures)) {
    const { digits, unit, scale } = DATA.glossary[key];
    byId("measures").append(row(key, (column) => [number(values[column] === null ? null : values[column] * scale, digits, unit)]));
  }
  for (const direction of ["i2t", "t2i"]) {
    byId("measures").append(row(direction, (column) => {
      const found = DATA.recall[direction]?.[column];
      if (!found) return [DASH];
      return [number(found[0], 1, "%"), html("span", { class: "interval" }, `${number(found[1], 1)} to ${number(found[2], 1)}`)];
    }));
  }
}

function setUpTexts() {
  for (const note of DATA.notes) byId("notes").append(html("li", {}, note));
  for (const [id, text] of Object.entries(DATA.captions)) byId(id + "-note").append(text);
  for (const [name, text] of DATA.method) byId("method").append(html("dt", {}, name), html("dd", {}, text));
  for (const [key, { label, text, source }] of Object.entries(DATA.glossary)) {
    byId("glossary").append(html("dt", {}, label),
      html("dd", { id: "glossary-" + key }, text, source ? html("span", { class: "source" }, source) : null));
  }
}
