// Two spheres that turn together, by dragging (sideways on a phone, so that the page can scroll) or arrow keys.
const Sphere = { views: [], turn: null, picked: null };
const HOME = () => rotation([1, 0, 0], .22);

function rotation([x, y, z], angle) {
  const c = Math.cos(angle), s = Math.sin(angle), k = 1 - c;
  return [[c + x * x * k, x * y * k - z * s, x * z * k + y * s], [y * x * k + z * s, c + y * y * k, y * z * k - x * s],
    [z * x * k - y * s, z * y * k + x * s, c + z * z * k]];
}

const times = (a, b) => a.map((row) => b[0].map((_, j) => row[0] * b[0][j] + row[1] * b[1][j] + row[2] * b[2][j]));
const turned = (r, x, y, z) => [r[0][0] * x + r[0][1] * y + r[0][2] * z, r[1][0] * x + r[1][1] * y + r[1][2] * z, r[2][0] * x + r[2][1] * y + r[2][2] * z];

function setUpSpheres() {
  Sphere.turn = HOME();
  for (const [stage, title] of STAGES) {
    const canvas = byId("sphere-" + stage), flat = DATA.sphere[stage];
    canvas.setAttribute("aria-label", `${title}: ${flat.image.length / 3} images and ${flat.text.length / 3} texts on a sphere. Arrow keys turn it.`);
    Sphere.views.push({ canvas, points: { image: flat.image, text: flat.text }, screen: [] });
    canvas.addEventListener("pointerdown", startDrag);
    canvas.addEventListener("pointermove", hover);
    canvas.addEventListener("keydown", turnByKey);
    new ResizeObserver(drawSpheres).observe(canvas);
  }
  byId("reset-sphere").addEventListener("click", () => { Sphere.turn = HOME(); Sphere.picked = null; pick(null); });
  addEventListener("themechange", drawSpheres);
  pick(null);
}

function turnBy(dx, dy) {
  Sphere.turn = times(times(rotation([0, 1, 0], dx), rotation([1, 0, 0], dy)), Sphere.turn);
  drawSpheres();
}

function turnByKey(event) {
  const step = { ArrowLeft: [-.1, 0], ArrowRight: [.1, 0], ArrowUp: [0, -.1], ArrowDown: [0, .1] }[event.key];
  if (!step) return;
  event.preventDefault();
  turnBy(...step);
}

function startDrag(event) {
  const canvas = event.currentTarget, scale = 2 / canvas.clientWidth;
  let [x, y] = [event.clientX, event.clientY], moved = 0;
  canvas.setPointerCapture(event.pointerId);
  const move = (next) => {
    const [dx, dy] = [next.clientX - x, next.clientY - y];
    moved += Math.abs(dx) + Math.abs(dy);
    [x, y] = [next.clientX, next.clientY];
    turnBy(dx * scale, dy * scale);
  };
  const end = (last) => {
    canvas.removeEventListener("pointermove", move);
    if (moved < 4 && last.type === "pointerup") pick(nearest(canvas, last, 24));
  };
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", end, { once: true });
  canvas.addEventListener("pointercancel", end, { once: true });
}

function hover(event) {
  if (event.pointerType !== "mouse" || event.buttons) return;
  const found = nearest(event.currentTarget, event, 12);
  if (found) pick(found);
}

function nearest(canvas, event, reach) {
  const box = canvas.getBoundingClientRect(), view = Sphere.views.find((one) => one.canvas === canvas);
  let best = null, closest = reach ** 2;
  for (const point of view.screen) {
    const apart = (point.x - event.clientX + box.left) ** 2 + (point.y - event.clientY + box.top) ** 2;
    if (point.front && apart < closest) [best, closest] = [point, apart];
  }
  return best && { side: best.side, row: best.row };
}

// A picked point and its partner of the other modality are marked on both spheres and named below.
function pick(found) {
  const { partner, image_ids: ids, texts } = DATA.sphere;
  Sphere.picked = null;
  let shown = "Drag or use the arrow keys to turn both spheres; tap a point to see its partner.";
  if (found) {
    const image = found.side === "image" ? found.row : partner[found.row];
    const text = found.side === "text" ? found.row : partner.indexOf(found.row);
    Sphere.picked = { image, text };
    shown = (image >= 0 ? `Image ${ids[image]}` : "No image") + " \u2014 " + (text >= 0 ? (texts[text] || `text ${ids[image] ?? text}`) : "no text shown");
  }
  byId("picked").textContent = shown;
  drawSpheres();
}

function drawSpheres() {
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue("--" + name).trim();
  const colours = { image: colour("image"), text: colour("text"), line: colour("line"), panel: colour("panel"), ink: colour("ink"), paper: colour("paper") };
  for (const view of Sphere.views) drawSphere(view, colours);
}

function drawSphere(view, colours) {
  const { canvas, points } = view, width = canvas.clientWidth;
  if (!width) return;
  const ratio = devicePixelRatio || 1, pen = canvas.getContext("2d"), centre = width / 2, radius = centre - 12;
  canvas.width = canvas.height = Math.round(width * ratio);
  pen.scale(ratio, ratio);
  const glow = pen.createRadialGradient(centre - radius * .3, centre - radius * .4, radius * .1, centre, centre, radius);
  glow.addColorStop(0, colours.paper);
  glow.addColorStop(1, colours.panel);
  disc(pen, centre, centre, radius, glow);
  drawGrid(pen, centre, radius, colours.line);
  view.screen = [];
  for (const side of ["image", "text"]) {
    for (let row = 0; row < points[side].length / 3; row++) {
      const [x, y, z] = turned(Sphere.turn, ...points[side].slice(3 * row, 3 * row + 3));
      view.screen.push({ side, row, x: centre + radius * x, y: centre - radius * y, z, front: z >= 0 });
    }
  }
  view.screen.sort((a, b) => a.z - b.z);
  const size = Math.max(1.6, Math.min(3.6, 60 / Math.sqrt(view.screen.length) * (width / 500) + 1));
  for (const point of view.screen) {
    pen.globalAlpha = point.front ? .45 + .45 * point.z : .1;
    mark(pen, point, size, colours[point.side]);
  }
  pen.globalAlpha = 1;
  drawPicked(pen, view, size, colours);
}

function disc(pen, x, y, radius, style) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fillStyle = style;
  pen.fill();
}

function mark(pen, { x, y, side }, size, style) {
  if (side === "image") return disc(pen, x, y, size, style);
  pen.fillStyle = style;
  pen.fill(new Path2D(triangle(x, y, size * 1.2)));
}

function drawGrid(pen, centre, radius, style) {
  pen.strokeStyle = style;
  const circle = (at) => {
    for (let step = 0; step < 60; step++) {
      const [a, b] = [turned(Sphere.turn, ...at(step * Math.PI / 30)), turned(Sphere.turn, ...at((step + 1) * Math.PI / 30))];
      pen.globalAlpha = a[2] >= 0 ? 1 : .35;
      pen.beginPath();
      pen.moveTo(centre + radius * a[0], centre - radius * a[1]);
      pen.lineTo(centre + radius * b[0], centre - radius * b[1]);
      pen.stroke();
    }
  };
  for (const latitude of [-60, -30, 0, 30, 60].map((degrees) => degrees * Math.PI / 180)) {
    circle((angle) => [Math.cos(latitude) * Math.cos(angle), Math.sin(latitude), Math.cos(latitude) * Math.sin(angle)]);
  }
  for (let k = 0; k < 6; k++) {
    const longitude = k * Math.PI / 6;
    circle((angle) => [Math.cos(angle) * Math.cos(longitude), Math.sin(angle), Math.cos(angle) * Math.sin(longitude)]);
  }
  pen.globalAlpha = 1;
  pen.beginPath();
  pen.arc(centre, centre, radius, 0, 7);
  pen.stroke();
}

function drawPicked(pen, view, size, colours) {
  if (!Sphere.picked) return;
  const ends = ["image", "text"].map((side) => view.screen.find((point) => point.side === side && point.row === Sphere.picked[side]));
  pen.strokeStyle = colours.ink;
  pen.lineWidth = 1.5;
  if (ends[0] && ends[1]) {
    pen.setLineDash([5, 4]);
    pen.beginPath();
    pen.moveTo(ends[0].x, ends[0].y);
    pen.lineTo(ends[1].x, ends[1].y);
    pen.stroke();
    pen.setLineDash([]);
  }
  for (const end of ends.filter(Boolean)) {
    mark(pen, end, size * 1.9, colours[end.side]);
    pen.beginPath();
    pen.arc(end.x, end.y, size * 1.9 + 4, 0, 7);
    pen.stroke();
  }
}

setUpTexts();
setUpTiles();
setUpTable();
setUpTheme();
setUpChart("cosines", "Histograms of cosines before and after", drawCosines);
setUpChart("activations", "Mean activation per dimension before and after", drawActivations);
setUpChart("calibration", "Centroid distance against the number of calibration samples", drawCalibration);
setUpChart("recall", "R@1 before and after", drawRecall);
setUpChart("search", "NDCG of mixed search, and kinds in the top ten, by method", drawSearch);
setUpSpheres();
setUpDefinitions();
