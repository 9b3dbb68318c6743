// The explorers. Each puts controls and pictures into a div and returns {head, draw}: `draw` shows
// the state as it is and returns a row for the table of settings tried, whose head is `head`.

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
  const select = element("select", {}, ...options.map((name, i) => new Option(name, i)));
  select.value = value;
  select.onchange = () => changed(+select.value);
  return element("label", {}, `${text} `, select);
}

// A canvas to grab: `moved(x, y, pressed)` in shares of its size, by pointer or arrow keys.
function handle(width, height, label, moved) {
  const canvas = element("canvas", { width, height, className: "held", tabIndex: 0 });
  Object.assign(canvas, { role: "application", ariaLabel: `${label}: drag, or use arrow keys` });
  let at = [0.5, 0.5];
  const go = (x, y, pressed) => moved(...(at = [clamp(x, 0, 1), clamp(y, 0, 1)]), pressed);
  canvas.onpointerdown = canvas.onpointermove = (event) => {
    if (event.type === "pointerdown") canvas.setPointerCapture(event.pointerId);
    const box = canvas.getBoundingClientRect();
    const place = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (event.buttons) go(...place, true);
  };
  canvas.onkeydown = (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!steps[event.key]) return;
    event.preventDefault();
    go(...at.map((v, i) => v + steps[event.key][i] / 56), event.shiftKey);
  };
  return { canvas, context: canvas.getContext("2d"), place: (x, y) => (at = [x, y]) };
}

function paint(canvas, image) {
  const pixels = new ImageData(28, 28);
  image.forEach((v, i) => pixels.data.set([255 * v, 255 * v, 255 * v, 255], 4 * i));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// An image of 28 x 28 with a caption; hovering reads off a value.
function picture(title) {
  const canvas = element("canvas", { width: 28, height: 28, className: "image", role: "img" });
  const caption = element("figcaption");
  let shown = [];
  canvas.onpointermove = ({ offsetX, offsetY }) => {
    const [row, column] = [offsetY, offsetX].map((v) => Math.floor((28 * v) / 124));
    canvas.title = shown[28 * row + column]?.toFixed(3);
  };
  const show = (image, text) => {
    paint(canvas, (shown = image));
    caption.replaceChildren(element("b", { textContent: title }), `\n${text}`);
    canvas.ariaLabel = `${title}: ${text}`;
  };
  return { node: element("figure", {}, canvas, caption), show };
}

// -- 03: draw, add noise, and compare ------------------------------------------------------------

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
    "blur and curve": (x, level) => {
      const bin = (v) => edges[level].reduce((count, edge) => count + (edge < v), 0);
      return blur(x, blurs[level]).map((v) => values[level][bin(v)]);
    },
    "least squares": (x) => forward(networks.linear, x).map((v) => clamp(v, 0, 1)),
    autoencoder: (x) => forward(networks.autoencoder, x),
  };
  const starts = [...digits.keys()].map((k) => `test digit ${k}`).concat("empty paper");
  let [clean, name, level, seed] = [digits[3], starts[3], 10, 0];
  const begin = (start) => {
    [clean, name] = [digits[start] || new Float32Array(784), starts[start]];
    update();
  };
  const pen = handle(28, 28, "Drawing; hold shift to draw", (x, y, pressed) => {
    const gap = (i) => Math.hypot((i % 28) + 0.5 - 28 * x, Math.floor(i / 28) + 0.5 - 28 * y);
    if (pressed) clean = clean.map((v, i) => Math.max(v, clamp(2 - gap(i), 0, 1)));
    if (pressed) name = "drawing";
    update();
  });
  pen.canvas.classList.add("image");
  const outputs = Object.keys(methods).map(picture);
  const set = (value) => ((level = Math.round(20 * value)), update());
  controls.append(
    slider("strength of the noise", [0, 1, 0.05, 0.5], set),
    choice("begin with", starts, 3, begin),
    element("button", { textContent: "other noise", onclick: () => ((seed += 1), update()) }),
  );
  const caption = element("figcaption", { innerHTML: "<b>draw here</b>\n&nbsp;" });
  stage.append(element("figure", {}, pen.canvas, caption), ...outputs.map(({ node }) => node));
  const draw = () => {
    const noise = noises[seed % noises.length];
    const noisy = clean.map((v, i) => clamp(v + (level / 20) * noise[i], 0, 1));
    const restored = Object.values(methods).map((method) => method(noisy, level));
    const scores = restored.map((image) => psnr(image, clean));
    outputs.forEach((out, i) => out.show(restored[i], `${scores[i].toFixed(1)} dB`));
    paint(pen.canvas, clean);
    const lead = scores[3] - Math.max(...scores.slice(0, 3));
    said.textContent = `The autoencoder's lead over the best other: ${lead.toFixed(1)} dB.`;
    return [name, (level / 20).toFixed(2), ...scores.map((v) => v.toFixed(1))];
  };
  return { head: ["input", "noise", ...Object.keys(methods)], draw };
}

// -- 07: one pointer on two latent planes --------------------------------------------------------

function verdict(reader, image) {
  const logits = forward(reader, image);
  const best = logits.indexOf(Math.max(...logits));
  const share = 100 / logits.reduce((sum, v) => sum + Math.exp(v - logits[best]), 0);
  return `${best < 10 ? best : "no digit"}, ${share.toFixed(0)} %`;
}

function plane({ controls, stage, arrays, networks, update }) {
  const [side, digits] = [212, split(784)(arrays.ends)];
  let [from, to, t, free] = [3, 8, 0.5, null]; // free: a point off the line, in shares of a plane
  const toPixel = ([x, y]) => [side * x, side * (1 - y)];
  const models = ["plain", "VAE"].map((name) => {
    const [codes, ends] = ["codes", "ends"].map((kind) => split(2)(arrays[`${name} ${kind}`]));
    const move = (x, y) => ((free = Float32Array.of(x, 1 - y)), update());
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
    context.beginPath();
    context.arc(...toPixel(unit), 6, 0, 7);
    context.stroke();
    grip.place(unit[0], 1 - unit[1]);
    const image = forward(networks[name], unit);
    const text = verdict(networks.reader, image);
    out.show(image, `reader: ${text}`);
    return text;
  };
  const draw = () => {
    const mixed = free ? new Float32Array(784) : lerp(digits[from], digits[to], t);
    const text = free ? "–" : verdict(networks.reader, mixed);
    blend.show(mixed, free ? "on the line only" : `reader: ${text}`);
    return [free ? "off the line" : `${from} to ${to}, ${t.toFixed(2)}`, text, ...models.map(show)];
  };
  return { head: ["where", "pixel blend", "plain", "VAE"], draw };
}

// -- 07: q(z) in the toy, with ELBO, KL and gap --------------------------------------------------

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
  const grip = handle(wide, tall, "q, its mean to the right, its width up", (x, y) => {
    [mean, width] = [6 * x - 3, 0.05 * 40 ** (1 - y)];
    update();
  });
  stage.append(grip.canvas);
  const curve = (density, color, dash) => {
    grip.context.setLineDash(dash);
    Object.assign(grip.context, { strokeStyle: color, lineWidth: 2 });
    grip.context.beginPath();
    for (let i = 0; i <= wide; i++) {
      const height = Math.min(density((6 * i) / wide - 3) / 2, 1);
      grip.context.lineTo(i, tall - 20 - (tall - 45) * height);
    }
    grip.context.stroke();
  };
  const draw = () => {
    const terms = elboTerms(settings, mean, width);
    smallest = Math.min(smallest, terms.gap);
    grip.context.clearRect(0, 0, wide, tall);
    curve((z) => Math.exp(logJoint(settings, z) - terms.evidence), "#222222", []);
    curve((z) => Math.exp(logNormal(z, mean, width)), "#d55e00", [6, 3]);
    Object.assign(grip.context, { font: "13px sans-serif", fillStyle: "#222222" });
    grip.context.fillText("solid: the posterior p(z | x)     dashed: q(z)", 8, 16);
    for (let z = -2; z <= 2; z++) grip.context.fillText(z, (wide * (z + 3)) / 6 - 4, tall - 4);
    grip.place((mean + 3) / 6, 1 - Math.log(width / 0.05) / Math.log(40));
    const [recon, kl, elbo, evidence, gap] = Object.values(terms).map((v) => v.toFixed(2));
    said.textContent = `ELBO = reconstruction − KL = ${recon} − ${kl} = ${elbo} nats. Its gap to
      log p(x) = ${evidence} is ${gap} nats; the smallest so far is ${smallest.toFixed(2)}.`;
    return [mean.toFixed(2), width.toFixed(2), recon, kl, elbo, gap];
  };
  return { head: ["mean", "width", "reconstruction", "KL", "ELBO", "gap"], draw };
}

// -- An explorer in a div: the prediction, then the controls -------------------------------------

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
  const keep = () =>
    requestAnimationFrame(() => {
      if (rows.firstChild?.textContent !== latest.join("")) rows.prepend(line("td", latest));
      if (rows.children.length > 5) rows.lastChild.remove();
    });
  body.onchange = body.onpointerup = keep;
  const reset = () => start(body, name, data);
  controls.append(element("button", { textContent: "reset", onclick: reset }));
  const table = element("table", {}, line("th", explorer.head), rows);
  const beside = element("p", {}, data.prediction, said); // the prediction and what is seen
  body.replaceChildren(controls, stage, beside, element("div", { className: "table" }, table));
  update();
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
    };
    const radio = element("input", { type: "radio", name: `${name} prediction`, onchange });
    return element("label", {}, radio, ` ${answer}`);
  });
  const legend = element("legend", {}, element("b", { textContent: "Predict first. " }), question);
  const box = element("div", { className: "explorer" });
  box.append(element("fieldset", {}, legend, ...answers), body);
  box.onkeydown = (event) => event.stopPropagation(); // JupyterLab takes the arrow keys otherwise
  root.replaceChildren(box);
  start(body, name, data);
}

// On a web page, the data of an explorer are loaded when its div comes near the window.
function watchPage(source) {
  const load = ([{ isIntersecting, target }], observer) => {
    if (!isIntersecting) return;
    observer.disconnect();
    const src = new URL(`explorers/${target.dataset.explorer}.js`, source);
    document.head.append(element("script", { src }));
  };
  const data = (name, pack, text) => {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    mount(document.querySelector(`[data-explorer="${name}"]`), name, pack, bytes);
  };
  window.aecourseExplorers = { data };
  document.addEventListener("DOMContentLoaded", () => {
    for (const root of document.querySelectorAll("[data-explorer]"))
      new IntersectionObserver(load, { rootMargin: "600px" }).observe(root);
  });
}
