// Each explorer returns {head, draw}: draw() shows its state and returns a row of the table below.
const clamp = (v, low, high) => Math.min(Math.max(v, low), high);
const lerp = (a, b, t) => a.map((v, i) => (1 - t) * v + t * b[i]);
const split = (n) => (array) =>
  Array.from({ length: array.length / n }, (_, i) => array.slice(i * n, (i + 1) * n));

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function slider(text, [min, max, step, value], changed) {
  const input = element("input", { type: "range", min, max, step, value });
  const number = element("output", { value: value.toFixed(2) });
  input.oninput = () => ((number.value = (+input.value).toFixed(2)), changed(+input.value));
  return element("label", {}, `${text} `, input, " ", number);
}

function choice(text, options, value, changed) {
  const select = element("select", {}, ...options.map((o, i) => new Option(o, i, 0, i === value)));
  select.onchange = () => changed(+select.value);
  return element("label", {}, `${text} `, select);
}

// A canvas to grab: `moved(place, pressed, before)`, places being [x, y] in shares of its size
function handle(width, height, label, moved) {
  const canvas = element("canvas", { width, height, className: "held", tabIndex: 0 });
  Object.assign(canvas, { role: "application", ariaLabel: `${label}: drag, or use arrow keys` });
  const handle = { canvas, context: canvas.getContext("2d"), at: [0.5, 0.5] };
  const go = (place, ...rest) => moved((handle.at = place.map((v) => clamp(v, 0, 1))), ...rest);
  canvas.onpointerdown = canvas.onpointermove = (event) => {
    if (event.type === "pointerdown") canvas.setPointerCapture(event.pointerId);
    const box = canvas.getBoundingClientRect();
    const place = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (event.buttons) go(place, true, event.type === "pointerdown" ? place : handle.at);
  };
  canvas.onkeydown = (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!steps[event.key]) return;
    event.preventDefault();
    go(
      handle.at.map((v, i) => v + steps[event.key][i] / 56),
      event.shiftKey,
      handle.at,
    );
  };
  canvas.onblur = () => canvas.dispatchEvent(new Event("change", { bubbles: true }));
  return handle;
}

function ring(context, x, y) {
  Object.assign(context, { lineWidth: 3, strokeStyle: "#222" });
  context.setLineDash([]);
  context.beginPath();
  context.arc(x, y, 7, 0, 7);
  context.stroke();
}

// An image of 28 x 28 with a caption
function picture(title, canvas = element("canvas", { width: 28, height: 28, role: "img" })) {
  canvas.classList.add("image");
  const caption = element("figcaption");
  const show = (image, text) => {
    const pixels = new ImageData(28, 28);
    image.forEach((v, i) => pixels.data.set([255 * v, 255 * v, 255 * v, 255], 4 * i));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    caption.replaceChildren(element("b", { textContent: title }), `\n${text}`);
    if (canvas.role === "img") canvas.ariaLabel = `${title}: ${text}`;
  };
  return { node: element("figure", {}, canvas, caption), show };
}

// == 03: draw, add noise, and compare ==
// Rows and columns, each through the same 28 x 28 matrix
function blur(image, matrix) {
  const alongRows = (x) =>
    x.map((_, at) => {
      const [first, row] = [at - (at % 28), matrix.subarray(28 * (at % 28))];
      return x.subarray(first, first + 28).reduce((sum, v, i) => sum + row[i] * v, 0);
    });
  const transpose = (x) => x.map((_, i) => x[28 * (i % 28) + Math.floor(i / 28)]);
  return transpose(alongRows(transpose(alongRows(image))));
}

const psnr = (a, b) =>
  -10 * Math.log10(Math.max(a.reduce((sum, v, i) => sum + (v - b[i]) ** 2, 0) / a.length, 1e-6));

function denoise({ controls, stage, said, arrays, networks, update }) {
  const [digits, noises, blurs] = [arrays.digits, arrays.noises, arrays.blurs].map(split(784));
  const [edges, values] = [split(63)(arrays.edges), split(64)(arrays.values)];
  const methods = {
    noisy: (x) => x,
    blur: (x, level) => {
      const bin = (v) => edges[level].reduce((count, edge) => count + (edge < v), 0);
      return blur(x, blurs[level]).map((v) => values[level][bin(v)]);
    },
    "linear map": (x) => forward(networks.linear, x).map((v) => clamp(v, 0, 1)),
    autoencoder: (x) => forward(networks.autoencoder, x),
  };
  const starts = [..."0123456789"].map((k) => `test digit ${k}`).concat("house", "empty paper");
  let [clean, name, level, seed] = [digits[3], starts[3], 6, 0];
  const stamp = (x, y) => {
    const gap = (i) => Math.hypot((i % 28) + 0.5 - 28 * x, Math.floor(i / 28) + 0.5 - 28 * y);
    clean = clean.map((v, i) => Math.max(v, clamp(2 - gap(i), 0, 1)));
  };
  const pen = handle(28, 28, "Drawing; hold shift to draw", (to, pressed, before) => {
    for (let t = 0.1; pressed && t < 1.1; t += 0.1) stamp(...lerp(before, to, t));
    if (pressed) [name, from.control.selectedIndex] = ["drawing", -1];
    update();
  });
  const outputs = Object.keys(methods).map((title) => picture(title));
  const from = choice("begin with", starts, 3, (k) => {
    [clean, name] = [digits[k] || new Float32Array(784), starts[k]];
    update();
  });
  controls.append(
    slider("noise σ", [0, 1, 0.05, 0.3], (v) => ((level = Math.round(20 * v)), update())),
    from,
    element("button", { textContent: "other noise", onclick: () => ((seed += 1), update()) }),
  );
  const paper = picture("draw here", pen.canvas);
  stage.append(paper.node, ...outputs.map(({ node }) => node));
  const draw = () => {
    const noisy = clean.map((v, i) => clamp(v + (level / 20) * noises[seed % 8][i], 0, 1));
    const restored = Object.values(methods).map((method) => method(noisy, level));
    const scores = restored.map((image) => psnr(image, clean));
    outputs.forEach((out, i) => out.show(restored[i], `${scores[i].toFixed(1)} dB`));
    paper.show(clean, "shift + arrows");
    pen.context.fillStyle = document.activeElement === pen.canvas ? "#e69f00" : "transparent";
    pen.context.fillRect(...pen.at.map((v) => Math.floor(27.9 * v)), 1, 1); // where keys draw
    const nearest = Object.keys(methods)[scores.indexOf(Math.max(...scores))];
    said.textContent = `Nearest to the clean image: ${nearest}.`;
    return [name, `${(level / 20).toFixed(2)}, ${seed + 1}`, ...scores.map((v) => v.toFixed(1))];
  };
  return { head: ["input", "σ, draw", "noisy", "blur", "linear", "AE"], draw };
}

// == 07: one pointer on two latent planes ==
function verdict(classifier, image) {
  const logits = forward(classifier, image);
  const best = logits.indexOf(Math.max(...logits));
  const share = 100 / logits.reduce((sum, v) => sum + Math.exp(v - logits[best]), 0);
  const text = `${best < 10 ? best : "no digit"}, ${share.toFixed(0)} %`;
  return { text, accepted: best < 10 && share > 50 };
}

function plane({ controls, stage, said, arrays, networks, update }) {
  const [side, digits] = [212, split(784)(arrays.ends)];
  let [from, to, t, free] = [6, 9, 0.5, null]; // free: a point off the line, in shares of a plane
  const toPixel = ([x, y]) => [side * x, side * (1 - y)];
  const models = ["plain", "VAE"].map((name) => {
    const [codes, ends] = ["codes", "ends"].map((kind) => split(2)(arrays[`${name} ${kind}`]));
    const move = ([x, y]) => ((free = Float32Array.of(x, 1 - y)), update());
    const grip = handle(side, side, `Latent plane, ${name}`, move);
    const codesDrawn = element("canvas", { width: side, height: side });
    const context = codesDrawn.getContext("2d");
    codes.forEach((code, i) => {
      context.fillStyle = `hsl(${36 * arrays.labels[i]} 75% 40%)`;
      context.fillText(arrays.labels[i], ...toPixel(code));
    });
    return { name, grip, codesDrawn, ends, out: picture(name) };
  });
  const blend = picture("pixel blend");
  const walk = (change) => (change(), (free = null), update());
  controls.append(
    choice("from a", [...digits.keys()], from, (v) => walk(() => (from = v))),
    choice("to a", [...digits.keys()], to, (v) => walk(() => (to = v))),
    slider("share of the way", [0, 1, 0.01, t], (v) => walk(() => (t = v))),
  );
  const columns = models.map(({ grip, out }) => element("div", {}, grip.canvas, out.node));
  stage.append(blend.node, ...columns);
  const show = ({ name, grip, codesDrawn, ends, out }) => {
    const unit = free || lerp(ends[from], ends[to], t);
    const { context } = grip;
    context.clearRect(0, 0, side, side);
    context.drawImage(codesDrawn, 0, 0);
    context.beginPath();
    if (!free) [from, to].forEach((k) => context.lineTo(...toPixel(ends[k])));
    context.stroke();
    ring(context, ...toPixel(unit));
    grip.at = [unit[0], 1 - unit[1]];
    const image = forward(networks[name], unit);
    const judged = verdict(networks.classifier, image);
    out.show(image, `classifier: ${judged.text}`);
    return { name, ...judged };
  };
  const draw = () => {
    const mixed = lerp(digits[from], digits[to], t);
    const judged = verdict(networks.classifier, mixed);
    blend.show(mixed, `classifier: ${judged.text}`);
    blend.node.style.opacity = free ? 0.3 : 1; // it is of the line
    const all = [{ name: "pixel blend", ...judged }, ...models.map(show)];
    const accepted = all.filter((one) => one.accepted).map((one) => one.name);
    said.textContent = `Accepted as a digit: ${accepted.join(", ") || "none"}.`;
    const where = free ? `${free[0].toFixed(2)}, ${free[1].toFixed(2)}` : t.toFixed(2);
    return [free ? where : `${from} to ${to}, ${where}`, ...all.map((one) => one.text)];
  };
  return { head: ["where", "pixels", "plain", "VAE"], draw };
}

// == 07: q(z) in the toy, with ELBO, KL and gap ==
const logNormal = (z, mean, width) =>
  -0.5 * ((z - mean) / width) ** 2 - Math.log(width * Math.sqrt(2 * Math.PI));

// log p(x, z): the prior is N(0, 1), the likelihood of x is N(z * z / 2, noise)
const logJoint = ({ x, noise }, z) => logNormal(z, 0, 1) + logNormal(x, (z * z) / 2, noise);

// All terms of the bound, each an integral over z by a sum over a grid
function elboTerms(settings, mean, width) {
  let [step, evidence, elbo, kl] = [0.004, 0, 0, 0];
  for (let z = -8; z <= 8; z += step) {
    const [joint, logQ] = [logJoint(settings, z), logNormal(z, mean, width)];
    evidence += step * Math.exp(joint);
    elbo += step * Math.exp(logQ) * (joint - logQ);
    kl += step * Math.exp(logQ) * (logQ - logNormal(z, 0, 1));
  }
  evidence = Math.log(evidence);
  return { reconstruction: elbo + kl, kl, elbo, evidence, gap: evidence - elbo };
}

function q({ stage, said, settings, update }) {
  const [wide, tall] = [460, 200];
  let [mean, width, smallest] = [0, 1, Infinity];
  const grip = handle(wide, tall, "q: mean to the right, deviation down", ([x, y]) => {
    [mean, width] = [6 * x - 3, 0.05 * 40 ** y];
    update();
  });
  stage.append(grip.canvas);
  const curve = (density, color, dash) => {
    grip.context.setLineDash(dash);
    Object.assign(grip.context, { strokeStyle: color, lineWidth: 2 });
    grip.context.beginPath();
    for (let i = 0; i <= wide; i++) {
      const height = density((6 * i) / wide - 3) / Math.max(1.1, 0.4 / width);
      grip.context.lineTo(i, tall - 20 - (tall - 45) * height);
    }
    grip.context.stroke();
  };
  const draw = () => {
    const terms = elboTerms(settings, mean, width);
    smallest = Math.min(smallest, terms.gap);
    grip.context.clearRect(0, 0, wide, tall);
    curve((z) => Math.exp(logJoint(settings, z) - terms.evidence), "#222222", []);
    curve((z) => Math.exp(logNormal(z, mean, width)), "#0072b2", [6, 3]);
    Object.assign(grip.context, { font: "13px sans-serif", fillStyle: "#222222" });
    grip.context.fillText("solid: the posterior p(z | x)     dashed: q(z)", 8, 16);
    const mark = (text, i) => grip.context.fillText(text, (wide * (i + 1)) / 6 - 8, tall - 4);
    [-2, -1, 0, 1, 2, "z"].forEach(mark);
    grip.at = [(mean + 3) / 6, Math.log(width / 0.05) / Math.log(40)];
    ring(grip.context, wide * grip.at[0], tall * grip.at[1]);
    const [recon, kl, elbo, evidence, gap] = Object.values(terms).map((v) => v.toFixed(2));
    said.textContent = `ELBO = reconstruction − KL = ${recon} − ${kl} = ${elbo} nats. Its gap to
      log p(x) = ${evidence} is ${gap} nats; the smallest so far is ${smallest.toFixed(2)}.`;
    return [mean.toFixed(2), width.toFixed(2), recon, kl, elbo, gap];
  };
  return { head: ["mean", "SD", "recon.", "KL", "ELBO", "gap"], draw };
}

// == An explorer in a div: the prediction, then the controls ==
function start(body, name, data) {
  const [controls, stage] = [0, 1].map(() => element("div", { className: "row" }));
  const [said, rows] = [element("span", { ariaLive: "polite" }), element("tbody")];
  let [asked, latest, explorer] = [false, null, null];
  const update = () => {
    if (!asked) requestAnimationFrame(() => ((asked = false), (latest = explorer.draw())));
    asked = true; // once per frame, however often the pointer moves: the newest state wins
  };
  explorer = { denoise, plane, q }[name]({ controls, stage, said, update, ...data });
  const line = (tag, texts) =>
    element("tr", {}, ...texts.map((textContent) => element(tag, { textContent })));
  const add = () =>
    rows.firstChild?.textContent === latest.join("") || rows.prepend(line("td", latest));
  const keep = () => requestAnimationFrame(add);
  body.onchange = body.onpointerup = body.onclick = keep;
  const reset = () => start(body, name, data).focus();
  controls.append(element("button", { textContent: "reset", onclick: reset }));
  const table = element("table", {}, line("th", explorer.head), rows);
  const beside = element("p", {}, data.prediction, said); // the prediction and what is seen
  body.replaceChildren(controls, stage, beside, element("div", { className: "table" }, table));
  update();
  return controls.lastChild;
}

function mount(root, name, pack, bytes) {
  const { question, options } = pack.settings;
  const [body, prediction] = [element("div", { inert: true }), element("b")];
  const data = { ...unpack(pack, bytes), settings: pack.settings, prediction };
  const answers = options.map((text, i) => {
    const answer = `(${"abcd"[i]}) ${text}`;
    const onchange = () => {
      body.inert = false;
      prediction.textContent = `You predicted ${answer}. `;
      answers.forEach(({ control }) => (control.disabled = true)); // what was said stays said
    };
    const radio = element("input", { type: "radio", name: "prediction", onchange });
    return element("label", {}, radio, ` ${answer}`);
  });
  const legend = element("legend", {}, element("b", { textContent: "Predict first. " }), question);
  const box = element("form", { className: "explorer", onsubmit: () => false });
  box.append(element("fieldset", {}, legend, ...answers), body);
  // JupyterLab takes arrow keys for its own; its shortcuts with Ctrl go on
  box.onkeydown = (event) => event.ctrlKey || event.metaKey || event.stopPropagation();
  root.replaceChildren(box);
  start(body, name, data);
}

// On a web page, the data of an explorer are loaded when its div comes near the window.
function watchPage(source) {
  const loaded = new Set();
  const load = ({ isIntersecting, target }) => {
    const name = target.dataset.explorer;
    if (!isIntersecting || loaded.has(name)) return;
    loaded.add(name);
    document.head.append(element("script", { src: new URL(`explorers/${name}.js`, source) }));
  };
  const near = new IntersectionObserver((all) => all.forEach(load), { rootMargin: "600px" });
  const find = (selector) => document.querySelectorAll(selector);
  const data = (name, pack, text) => {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    find(`[data-explorer="${name}"]`).forEach((root) => mount(root, name, pack, bytes));
  };
  window.aecourseExplorers = { data };
  document.addEventListener("DOMContentLoaded", () =>
    find("[data-explorer]").forEach((root) => near.observe(root)),
  );
}
