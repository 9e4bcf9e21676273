// The four SVG charts. Each is redrawn when its width changes, so that its text keeps its size.
const KINDS = [["matched", "matched", "var(--matched)"], ["unmatched", "unmatched", "var(--unmatched)"],
  ["images", "image\u2013image", "var(--image)"], ["texts", "text\u2013text", "var(--text)"]];
const STAGES = [["before", "Before"], ["after", "After, held-out means"]];

function setUpChart(id, label, draw) {
  const box = byId(id);
  let drawn = 0;
  new ResizeObserver(() => {
    const width = Math.floor(box.clientWidth);
    if (!width || width === drawn) return;
    drawn = width;
    const { height, marks } = draw(width);
    box.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label }, marks));
  }).observe(box);
}

function words(x, y, text, options = {}) {
  const { anchor = "start", ...attributes } = options;
  return svg("text", { x, y, "text-anchor": anchor, ...attributes }, text);
}

const line = (x1, y1, x2, y2, attributes = {}) => svg("line", { x1, y1, x2, y2, ...attributes });

function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + 1e-9; at++) found.push(at * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  return found.map((value) => [value, number(value, digits)]);
}

function panels(width) {
  const side = width >= 680, gap = 48, own = side ? (width - gap) / 2 : width;
  return { own, place: (index, height) => side ? [index * (own + gap), 0] : [0, index * (height + 36)],
    total: (height) => side ? height : 2 * height + 36 };
}

function drawCosines(width) {
  const { edges, before, after } = DATA.cosines, { own, place, total } = panels(width);
  const left = 104, right = 60, rowHeight = 58, top = 40, height = top + rowHeight * KINDS.length + 46;
  const x = (cosine) => left + (cosine - edges[0]) / (edges.at(-1) - edges[0]) * (own - left - right);
  const most = Math.max(...[before, after].flatMap((stage) => Object.values(stage)).flatMap(({ shares }) => shares));
  const marks = STAGES.map(([key, title], index) => {
    const [dx, dy] = place(index, height), bottom = top + rowHeight * KINDS.length;
    const parts = [words(0, 16, title, { class: "title" }), words(own, 16, "mean", { anchor: "end", class: "tick" })];
    for (const [value, text] of ticks(edges[0], edges.at(-1), own > 420 ? 8 : 5)) {
      parts.push(line(x(value), top - 8, x(value), bottom, { class: "grid" }), words(x(value), bottom + 18, text, { anchor: "middle", class: "tick" }));
    }
    parts.push(words((left + own - right) / 2, bottom + 38, "cosine", { anchor: "middle", class: "quiet" }));
    const matched = DATA.cosines[key].matched;
    if (matched) parts.push(line(x(matched.mean), top - 8, x(matched.mean), bottom, { stroke: "var(--matched)", "stroke-width": 1.5, "stroke-dasharray": "5 4" }));
    KINDS.forEach(([kind, name, colour], row) => {
      const base = top + (row + 1) * rowHeight, found = DATA.cosines[key][kind];
      parts.push(line(left, base, own - right, base, { class: "axis" }), words(0, base - 4, name, { fill: colour, style: `fill:${colour}`, class: "strong" }));
      if (!found) return parts.push(words(own, base - 4, DASH, { anchor: "end" }));
      const y = (share) => base - share / most * (rowHeight - 8);
      const steps = found.shares.map((share, bin) => `L${x(edges[bin]).toFixed(1)} ${y(share).toFixed(1)}L${x(edges[bin + 1]).toFixed(1)} ${y(share).toFixed(1)}`);
      parts.push(svg("path", { class: "mark", d: `M${x(edges[0])} ${base}${steps.join("")}L${x(edges.at(-1))} ${base}`, fill: colour, "fill-opacity": .28, stroke: colour, "stroke-width": 1.25 }),
        line(x(found.mean), base - 7, x(found.mean), base, { stroke: colour, "stroke-width": 3 }),
        words(own, base - 4, number(found.mean, 3), { anchor: "end", style: `fill:${colour}` }));
    });
    return svg("g", { transform: `translate(${dx} ${dy})` }, parts);
  });
  return { height: total(height), marks };
}

function drawActivations(width) {
  const { before, after, peaks } = DATA.activations, { own, place, total } = panels(width);
  const left = 46, top = 62, plot = 200, height = top + plot + 70;
  const values = [before, after].flatMap((stage) => [...stage.image, ...stage.text]);
  const low = Math.min(0, ...values), high = Math.max(0, ...values), count = before.image.length;
  const x = (dimension) => left + (dimension + .5) / count * (own - left);
  const y = (value) => top + (high - value) / (high - low || 1) * plot;
  const sides = [["image", "var(--image)", "\u25cf"], ["text", "var(--text)", "\u25b2"]];
  const marks = STAGES.map(([key, title], index) => {
    const [dx, dy] = place(index, height);
    const parts = [words(0, 16, title, { class: "title" })];
    if (index === 0) parts.push(words(own, 16, "\u25b2 texts", { anchor: "end", class: "strong", style: "fill:var(--text)" }), words(own - 62, 16, "\u25cf images", { anchor: "end", class: "strong", style: "fill:var(--image)" }));
    for (const [value, text] of ticks(low, high, 5)) parts.push(line(left, y(value), own, y(value), { class: "grid" }), words(left - 8, y(value) + 4, text, { anchor: "end", class: "tick" }));
    parts.push(line(left, y(0), own, y(0), { class: "axis" }));
    for (const [side, colour] of sides) {
      const path = DATA.activations[key][side].map((value, dimension) => `M${x(dimension).toFixed(1)} ${y(0).toFixed(1)}V${y(value).toFixed(1)}`);
      parts.push(svg("path", { class: "mark", d: path.join(""), fill: "none", stroke: colour, "stroke-width": Math.max(.8, Math.min(3, (own - left) / count * .7)), "stroke-opacity": .8 }));
    }
    const labels = sides.flatMap(([side, colour, sign]) => peaks[side].map((dimension) => ({ dimension, colour, sign, value: DATA.activations[key][side][dimension] })));
    parts.push(...peakLabels(labels, x, y, left, own));
    for (const [value, text] of ticks(0, count, own > 420 ? 6 : 4)) {
      if (value < count) parts.push(words(x(value), top + plot + 42, text, { anchor: "middle", class: "tick" }));
    }
    parts.push(words((left + own) / 2, top + plot + 62, "dimension", { anchor: "middle", class: "quiet" }), words(0, 38, "mean activation", { class: "tick" }));
    return svg("g", { transform: `translate(${dx} ${dy})` }, parts);
  });
  return { height: total(height), marks };
}

// Numbers of the marked dimensions above (or below) their peaks, moved apart if they would overlap.
function peakLabels(labels, x, y, left, right) {
  const parts = [];
  for (const up of [true, false]) {
    const row = labels.filter(({ value }) => value >= 0 === up).sort((a, b) => a.dimension - b.dimension);
    const places = row.map(({ dimension, value }) => ({ x: x(dimension), y: y(value) + (up ? -10 : 20) }));
    for (let round = 0; round < 60; round++) {
      for (let i = 1; i < places.length; i++) {
        for (let j = 0; j < i; j++) {
          const near = 34 - Math.abs(places[i].x - places[j].x);
          if (near > 0 && Math.abs(places[i].y - places[j].y) < 15) {
            const order = places[i].x >= places[j].x ? 1 : -1;
            places[i].x += order * near / 2;
            places[j].x -= order * near / 2;
          }
        }
      }
      for (const place of places) place.x = Math.max(left + 16, Math.min(right - 14, place.x));
    }
    row.forEach(({ dimension, value, colour, sign }, i) => {
      const at = places[i], style = `fill:${colour}`;
      const mark = sign === "\u25cf" ? svg("circle", { cx: x(dimension), cy: y(value), r: 3.5, style })
        : svg("path", { d: triangle(x(dimension), y(value), 4.5), style });
      parts.push(mark, words(at.x, at.y, String(dimension), { anchor: "middle", style, class: "strong halo" }));
    });
  }
  return parts;
}

const triangle = (x, y, size) => `M${x} ${y - size}L${x + size} ${y + size * .8}L${x - size} ${y + size * .8}Z`;

// 1, 2, 5 in each decade, or all digits if there would be fewer than three ticks.
function logTicks(low, high) {
  const inside = (digits) => [.0001, .001, .01, .1, 1].flatMap((decade) => digits.map((digit) => Number((digit * decade).toPrecision(1))))
    .filter((at) => at >= low && at <= high);
  const found = inside([1, 2, 5]);
  return found.length >= 3 ? found : inside([1, 2, 3, 4, 5, 6, 8]);
}

function drawCalibration(width) {
  const { n, m, distances, c } = DATA.calibration, raw = DATA.measures.centroid_distance.before;
  const left = 46, right = 16, top = 34, plot = 270, height = top + plot + 50, all = distances.flat();
  const low = Math.max(1e-4, Math.min(...all) * .8), high = Math.max(2 * low, raw * 1.25, Math.max(...all) * 1.25);
  const x = (value) => left + 10 + Math.log(value / n[0]) / (Math.log(n.at(-1) / n[0]) || 1) * (width - left - right - 20);
  const y = (value) => top + Math.log(high / Math.max(low, value)) / Math.log(high / low) * plot;
  const parts = [words(0, 16, "centroid distance", { class: "tick" })];
  for (const value of logTicks(low, high)) {
    parts.push(line(left, y(value), width - right, y(value), { class: "grid" }), words(left - 8, y(value) + 4, String(value), { anchor: "end", class: "tick" }));
  }
  parts.push(line(left, y(raw), width - right, y(raw), { stroke: "var(--ink)", "stroke-width": 1.5, "stroke-dasharray": "6 4" }),
    words(width - right, y(raw) - 7, `before: ${number(raw, 3)}`, { anchor: "end", class: "strong halo" }));
  const total = n[0] + m[0], curve = [];
  for (let step = 0; step <= 60; step++) {
    const at = n[0] * (n.at(-1) / n[0]) ** (step / 60);
    curve.push(`${x(at).toFixed(1)} ${y(c * Math.sqrt(1 / at + 1 / (total - at))).toFixed(1)}`);
  }
  parts.push(svg("path", { class: "mark", d: "M" + curve.join("L"), fill: "none", stroke: "var(--ink)", "stroke-width": 1.75 }));
  n.forEach((count, row) => {
    const mean = distances[row].reduce((sum, value) => sum + value) / distances[row].length;
    const tip = `n = ${count}: ${number(mean)} on average of ${distances[row].length} draws, ${number(Math.min(...distances[row]))} to ${number(Math.max(...distances[row]))}; the law says ${number(c * Math.sqrt(1 / count + 1 / m[row]))}`;
    parts.push(...distances[row].map((value) => svg("circle", { cx: x(count), cy: y(value), r: 2.5, fill: "var(--after)", "fill-opacity": .35 })),
      svg("circle", { class: "mark", cx: x(count), cy: y(mean), r: 5, fill: "var(--after)", stroke: "var(--paper)", "stroke-width": 1.5 }, svg("title", {}, tip)),
      words(x(count), top + plot + 20, whole(count), { anchor: "middle", class: "tick" }));
  });
  const middle = Math.sqrt(n[0] * n.at(-1)), there = y(c * Math.sqrt(1 / middle + 1 / (total - middle)));
  parts.push(words(Math.min(x(middle) + 12, width - 140), there - 14, `${number(c, 2)} \u00b7 \u221a(1/n + 1/m)`, { class: "strong halo" }),
    words((left + width - right) / 2, top + plot + 42, `calibration ${DATA.unit}, n`, { anchor: "middle", class: "quiet" }));
  return { height, marks: parts };
}

const VERSIONS = [["before", "before", "var(--unmatched)"], ["after", "after, held-out means", "var(--after)"], ["leak", "after, test means (leak)", "var(--after)"]];

function drawRecall(width) {
  const directions = [["i2t", "Image \u2192 text"], ["t2i", "Text \u2192 image"]].filter(([key]) => DATA.recall[key]);
  if (!directions.length) return { height: 60, marks: [words(0, 30, "Not defined: no pairs are known.", { class: "quiet" })] };
  const left = 158, right = 74, row = 36, top = 8, block = 34 + row * VERSIONS.length + 10;
  const bounds = directions.flatMap(([key]) => VERSIONS.flatMap(([version]) => DATA.recall[key][version].slice(1, 3)));
  const high = Math.min(100, Math.max(...bounds) + 2), low = Math.max(0, Math.min(high - 10, ...bounds.map((bound) => bound - 2))), bottom = top + block * directions.length;
  const x = (value) => left + (value - low) / (high - low || 1) * (width - left - right);
  const parts = [];
  for (const [value, text] of ticks(low, high, width > 420 ? 5 : 3)) parts.push(line(x(value), top + 24, x(value), bottom, { class: "grid" }), words(x(value), bottom + 18, text, { anchor: "middle", class: "tick" }));
  directions.forEach(([key, title], index) => {
    const start = top + index * block;
    parts.push(words(0, start + 16, title, { class: "title" }));
    VERSIONS.forEach(([version, name, colour], place) => {
      const [value, from, to] = DATA.recall[key][version], y = start + 44 + place * row;
      const shape = [svg("rect", { x: x(value) - 5, y: y - 5, width: 10, height: 10 }), svg("circle", { cx: x(value), cy: y, r: 6 }), svg("path", { d: triangle(x(value), y, 7) })][place];
      shape.setAttribute("class", "mark");
      const hollow = version === "leak";
      shape.setAttribute("style", `fill:${hollow ? "var(--paper)" : colour};stroke:${hollow ? colour : "var(--paper)"};stroke-width:1.5`);
      parts.push(words(0, y + 4, name), line(x(from), y, x(to), y, { stroke: colour, "stroke-width": 2 }), shape,
        words(width, y + 4, number(value, 1, "%"), { anchor: "end", class: "strong" }));
    });
  });
  parts.push(words((left + width - right) / 2, bottom + 38, "R@1 in %, with 95 % interval", { anchor: "middle", class: "quiet" }));
  return { height: bottom + 46, marks: parts };
}

// Per method: NDCG with its interval, and for both kinds of relevant items; and the share of the query's own kind in
// the top k, for queries of each kind.
function drawSearch(width) {
  const { methods, relevant, rival, best, k, skipped } = DATA.search;
  if (skipped) return { height: 8, marks: [] };
  const { own, place, total } = panels(width), side = own < width, row = 30, top = 52;
  const left = Math.max(...methods.map(({ label }) => label.length)) * 7 + 16, right = 52, bottom = top + row * methods.length, height = bottom + 44;
  const x = (value, from = left) => from + value * (own - from - right), middle = (index) => top + (index + .5) * row;
  const names = () => methods.map(({ label }, index) => words(0, middle(index) + 4, label, [best, rival].includes(index) ? { class: "strong" } : {}));
  const axis = (title, from, digits, unit) => [words(own > 420 ? (x(0, from) + x(1, from)) / 2 : own / 2, bottom + 38, title, { anchor: "middle", class: "quiet" }),
    ...ticks(0, 1, own > 420 ? 5 : 2).flatMap(([value]) => [line(x(value, from), top - 6, x(value, from), bottom, { class: "grid" }),
      words(x(value, from), bottom + 18, number(unit ? 100 * value : value, digits, unit), { anchor: "middle", class: "tick" })])];
  const quality = [words(0, 16, "How good the list is", { class: "title" }), ...axis(`NDCG@${k} with 95 % interval; dashed: best rival`, left, 1, ""), ...names()];
  const line0 = x(methods[rival].ndcg[0]);
  quality.push(line(line0, top - 6, line0, bottom, { stroke: "var(--unmatched)", "stroke-width": 1.5, "stroke-dasharray": "5 4" }));
  const byKind = methods[best].own !== null;
  if (byKind) quality.push(...key(side ? left : 0, [[square, "own kind", "var(--ink)"], [diamond, "other kind", "var(--ink)"]]));
  methods.forEach(({ label, fitted, ndcg: [value, low, high], own: ofOwn, other }, index) => {
    const y = middle(index), colour = fitted ? "var(--after)" : "var(--unmatched)";
    const tip = `${label}: ${number(value)} (${number(low)} to ${number(high)})` + (byKind ? `; own kind ${number(ofOwn)}, other kind ${number(other)}` : "");
    quality.push(svg("rect", { class: "mark", x: x(0), y: y - 8, width: Math.max(1, x(value) - x(0)), height: 16, fill: colour, "fill-opacity": .3 }, svg("title", {}, tip)),
      line(x(value), y - 8, x(value), y + 8, { stroke: colour, "stroke-width": 3 }), line(x(low), y, x(high), y, { stroke: colour, "stroke-width": 2 }),
      words(own, y + 4, number(value), { anchor: "end", class: [best, rival].includes(index) ? "strong" : "" }));
    if (byKind) quality.push(square(x(ofOwn), y, "var(--ink)"), diamond(x(other), y, "var(--ink)"));
  });
  const from = side ? 12 : left, kinds = [["text", "var(--text)", arrow], ["image", "var(--image)", dot]];
  const shares = [words(0, 16, `Own kind among the first ${k} results`, { class: "title" }), ...axis("share; dashed: among the relevant items", from, 0, "%"), ...(side ? [] : names()),
    ...key(side ? from : 0, [[dot, "an image asks", "var(--image)"], [arrow, "a text asks", "var(--text)"]])];
  for (const [kind, colour] of kinds) {
    const at = relevant[kind];
    if (at !== null) shares.push(line(x(at, from), top - 6, x(at, from), bottom, { stroke: colour, "stroke-width": 1.5, "stroke-dasharray": kind === "text" ? "5 4" : "2 3" }));
  }
  methods.forEach(({ own_share }, index) => {
    const y = middle(index), known = kinds.filter(([kind]) => own_share[kind] !== null);
    if (known.length > 1) shares.push(line(x(own_share.text, from), y, x(own_share.image, from), y, { stroke: "var(--line)", "stroke-width": 3 }));
    for (const [kind, colour, shape] of known) shares.push(shape(x(own_share[kind], from), y, colour));
  });
  return { height: total(height), marks: [quality, shares].map((parts, index) => svg("g", { transform: `translate(${place(index, height)})` }, parts)) };
}

const dot = (x, y, colour) => svg("circle", { class: "mark", cx: x, cy: y, r: 5, fill: colour });
const arrow = (x, y, colour) => svg("path", { class: "mark", d: triangle(x, y, 5.5), fill: colour });
const square = (x, y, colour) => svg("rect", { class: "mark", x: x - 4, y: y - 4, width: 8, height: 8, fill: "var(--paper)", stroke: colour, "stroke-width": 1.5 });
const diamond = (x, y, colour) => svg("path", { class: "mark", d: `M${x} ${y - 6}L${x + 6} ${y}L${x} ${y + 6}L${x - 6} ${y}Z`, fill: "var(--paper)", stroke: colour, "stroke-width": 1.5 });

// A line of marks and what they mean, from x = `left`.
function key(left, entries) {
  let x = left;
  return entries.flatMap(([shape, text, colour]) => {
    const at = x + 6;
    x += 36 + text.length * 7;
    return [shape(at, 34, colour), words(at + 12, 38, text, { class: "tick" })];
  });
}
