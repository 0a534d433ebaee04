const { sigmoid } = activations;

// The slope of each activation at the sum a that it is given.
const slopes = {
  identity: () => 1, relu: a => (a > 0 ? 1 : 0), leaky: a => (a > 0 ? 1 : 0.01), elu: a => (a > 0 ? 1 : Math.exp(a)),
  silu: a => sigmoid(a) * (1 + a * (1 - sigmoid(a))), tanh: a => 1 - Math.tanh(a) ** 2, softplus: sigmoid,
  sigmoid: a => sigmoid(a) * (1 - sigmoid(a)),
};

// A network that also knows the way back: from the slope of an error in its output to that in its input.
function differentiable(data) {
  const w = unpack(data.weights, data.bits);
  let start = 0;
  const layers = data.layers.map(({ rows, columns, act }) => {
    const layer = { rows, columns, f: activations[act], slope: slopes[act], w: start, b: start + rows * columns };
    start = layer.b + rows;
    return layer;
  });
  return x => {
    const sums = layers.map(({ rows, columns, f, w: from, b }) => {
      const a = Float64Array.from(w.subarray(b, b + rows));
      for (let i = 0, at = from; i < rows; i++) for (let j = 0; j < columns; j++, at++) a[i] += w[at] * x[j];
      x = a.map(f);
      return a;
    });
    const back = slope => layers.reduceRight((above, { rows, columns, slope: own, w: from }, n) => {
      const below = new Float64Array(columns);
      for (let i = 0, at = from; i < rows; i++) {
        const d = above[i] * own(sums[n][i]);
        if (d === 0) at += columns;
        else for (let j = 0; j < columns; j++, at++) below[j] += d * w[at];
      }
      return below;
    }, slope);
    return { y: x, back };
  };
}

// Adam on ‖mask ⊙ (G(z) − strokes)‖² + ρ/2 ‖z‖², as lectool.zoo.project.
function searcher(generate, lr) {
  let m, v, t = 0;
  return {
    forget: () => { t = 0; },
    step: (z, wanted, prior) => {
      if (t++ === 0) [m, v] = [z.map(() => 0), z.map(() => 0)];
      const { y, back } = generate(z), slope = y.map((value, i) => (Number.isNaN(wanted[i]) ? 0 : 2 * (value - wanted[i])));
      const g = back(slope).map((d, j) => d + prior * z[j]);
      m = m.map((old, j) => 0.9 * old + 0.1 * g[j]);
      v = v.map((old, j) => 0.999 * old + 0.001 * g[j] ** 2);
      return z.map((value, j) => value - (lr * m[j]) / (1 - 0.9 ** t) / (Math.sqrt(v[j] / (1 - 0.999 ** t)) + 1e-8));
    },
  };
}

const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

document.querySelectorAll("figure.stroke-pad:not([data-ready])").forEach(figure => {
  wake(figure);
  const data = read(figure), { shape: [height, width], range: [low, high] } = data, find = name => figure.querySelector(name);
  const generate = differentiable(data), search = searcher(generate, data.lr), field = find(".pad-field");
  const numbers = [...figure.querySelectorAll(".pad-numbers span:last-child")], say = speaker(find(".ex-live"));
  const strength = choice(find(".ex-row"), data.names, () => change("another pull"));
  const wanted = new Float64Array(height * width).fill(NaN);  // NaN: nothing is drawn there
  let z = Float64Array.from(data.start), y = generate(z).y, left = 0, ink = high, next = 0;
  const error = image => wanted.reduce((sum, v, i) => sum + (Number.isNaN(v) ? 0 : ((image[i] - v) / (high - low)) ** 2), 0);
  const nDrawn = () => wanted.reduce((sum, v) => sum + !Number.isNaN(v), 0);
  function show() {
    const context = field.getContext("2d"), length = Math.sqrt(z.reduce((sum, v) => sum + v * v, 0) / z.length);
    for (const name of [".pad-field", ".pad-found"]) paint(find(name), y, low, high);
    wanted.forEach((v, i) => {
      if (Number.isNaN(v)) return;
      context.fillStyle = v === high ? "#e69f00" : "#00507f";
      context.fillRect(i % width, Math.floor(i / width), 1, 1);
    });
    const texts = [nDrawn(), nDrawn() ? (error(y) / nDrawn()).toFixed(3) : "–", length.toFixed(2)];
    texts.forEach((text, i) => { numbers[i].textContent = text; });
    figure.dataset.state = left > 0 ? "searching" : "at rest";
  }
  const heard = what => {
    const words = `${data.alt}: ${what}, ${nDrawn()} pixels drawn, error ${numbers[1].textContent} each`;
    find(".pad-found").setAttribute("aria-label", words);
    say(words);
  };
  const move = () => {
    if (nDrawn()) z = search.step(z, wanted, data.priors[strength()]);
    y = generate(z).y;
    left = Math.max(0, left - 1);
  };
  const run = clock(figure, find(".pad-run"), () => {
    for (let i = 0; i < 2; i++) move();
    show();
    if (left > 0) return;
    run(false);
    heard("at rest");
  });
  function change(what) {  // something is wanted that the picture does not show yet
    left = nDrawn() ? data.steps : 0;
    show();
    heard(what);
    if (left > 0 && !calm()) run(true);
  }
  const press = (name, act, what) => find(name).addEventListener("click", () => { act(); change(what); });
  find(".pad-run").addEventListener("click", () => { left = nDrawn() ? data.steps : 0; });
  find(".pad-step").addEventListener("click", () => { move(); show(); heard("after a step"); });
  press(".pad-start", () => {  // the one of fifty random codes that fits best
    const codes = Array.from({ length: 50 }, () => z.map(normal)), errors = codes.map(code => error(generate(code).y));
    z = codes[errors.indexOf(Math.min(...errors))];
    y = generate(z).y;
    search.forget();
  }, "new start");
  press(".pad-clear", () => { wanted.fill(NaN); search.forget(); }, "nothing drawn");
  press(".pad-example", () => {
    atob(data.examples[next]).split("").forEach((c, i) => { wanted[i] = [NaN, low, high][c.charCodeAt(0)]; });
    next = (next + 1) % data.examples.length;
    search.forget();
  }, "an example");
  const tools = [...figure.querySelectorAll(".pad-tools button")];
  tools.forEach((button, i) => button.addEventListener("click", () => {
    ink = [high, low, NaN][i];
    tools.forEach(other => other.setAttribute("aria-pressed", other === button));
  }));
  const r = Math.round(Math.min(height, width) / 20);
  strokes(field, () => {}, (x, row) => {
    for (let i = row - r; i <= row + r; i++) for (let j = x - r; j <= x + r; j++) {
      const near = (i - row) ** 2 + (j - x) ** 2 <= r * r;
      if (near && i >= 0 && i < height && j >= 0 && j < width) wanted[i * width + j] = ink;
    }
    change("drawn on");
  });
  figure.stroke = { generate, code: () => [...z], wanted };
  find(".pad-example").click();
});
