
const sigmoid = a => 1 / (1 + Math.exp(-a));

// p(h = 1 | v) = σ(Wv + b) and p(v = 1 | h) = σ(Wᵀh + c): as lectool's RBM with binary units.
function restricted({ weights, bits: size }, k, d) {
  const all = unpack(weights, size), W = all.subarray(0, k * d), b = all.subarray(k * d, k * d + k), c = all.subarray(k * d + k);
  const hidden = v => Float64Array.from(b, (bias, j) => {
    let a = bias;
    for (let i = 0, at = j * d; i < d; i++) if (v[i]) a += v[i] * W[at + i];
    return sigmoid(a);
  });
  const visible = h => {
    const a = Float64Array.from(c);
    for (let j = 0; j < k; j++) if (h[j]) for (let i = 0, at = j * d; i < d; i++) a[i] += h[j] * W[at + i];
    return a.map(sigmoid);
  };
  return { hidden, visible };
}

document.querySelectorAll("figure.rbm-pad:not([data-ready])").forEach(figure => {
  wake(figure);
  const data = read(figure), { k, n, shape: [height, width] } = data, d = height * width, find = name => figure.querySelector(name);
  const { hidden, visible } = restricted(data, k, d), draw = p => Uint8Array.from(p, v => +(Math.random() < v));
  const all = bits(data.hidden, n * k), held = new Int8Array(d).fill(-1);  // −1: free; else what the pixel is held at
  let h = Array.from({ length: n }, (_, i) => all.subarray(i * k, (i + 1) * k)), means = h.map(visible), steps = 0, ink = 1;
  const field = find(".pad-field"), particles = find(".pad-particles"), columns = Math.round((particles.width + 1) / (width + 1));
  const numbers = [...figure.querySelectorAll(".pad-numbers span:last-child")], say = speaker(find(".ex-live"));
  const speed = choice(find(".ex-row"), data.speeds, () => {});
  const clamp = x => x.map((v, i) => (held[i] < 0 ? v : held[i]));
  const nHeld = () => held.reduce((sum, v) => sum + (v >= 0), 0);
  function show() {
    const context = field.getContext("2d"), x = means.map(clamp), grid = new Float64Array(particles.width * particles.height).fill(0.5);
    paint(field, x[0]);
    held.forEach((v, i) => {
      if (v < 0) return;
      context.fillStyle = v ? "#e69f00" : "#00507f";
      context.fillRect(i % width, Math.floor(i / width), 1, 1);
    });
    x.forEach((p, i) => {
      const top = Math.floor(i / columns) * (height + 1), left = (i % columns) * (width + 1);
      p.forEach((v, j) => { grid[(top + Math.floor(j / width)) * particles.width + left + (j % width)] = v; });
    });
    paint(particles, grid);
    const on = h.reduce((sum, units) => sum + units.reduce((a, v) => a + v, 0), 0) / n;
    [steps, `${nHeld()} of ${d}`, `${on.toFixed(1)} of ${k}`].forEach((text, i) => { numbers[i].textContent = text; });
    figure.dataset.steps = steps;
  }
  const heard = what => {
    const words = `${data.alt}: ${what}, ${nHeld()} of ${d} pixels held`;
    particles.setAttribute("aria-label", words);
    say(words);
  };
  const round = from => {  // v given h, then h given v
    h = from.map(p => draw(hidden(clamp(draw(p)))));
    means = h.map(visible);
  };
  const step = () => {
    round(means);
    steps++;
    show();
  };
  let last = -Infinity;
  const run = clock(figure, find(".pad-run"), time => {
    if (time - last < 1000 / data.speeds[speed()] - 8) return;  // half a frame early is in time
    last = time;
    step();
  });
  const press = (name, act, what) => find(name).addEventListener("click", () => {
    act();
    show();
    heard(what);
  });
  press(".pad-step", step, "after a step");
  press(".pad-noise", () => { round(means.map(p => p.map(() => 0.5))); steps = 0; }, "from noise");
  press(".pad-half", () => { for (let i = 0; i < Math.floor(height / 2) * width; i++) held[i] = means[0][i] > 0.5; }, "upper half held");
  press(".pad-release", () => held.fill(-1), "all pixels free");
  const tools = [...figure.querySelectorAll(".pad-tools button")];
  tools.forEach((button, i) => button.addEventListener("click", () => {
    ink = [1, 0, -1][i];
    tools.forEach(other => other.setAttribute("aria-pressed", other === button));
  }));
  const r = Math.round(Math.min(height, width) / 20);
  strokes(field, () => {}, (x, y) => {
    for (let row = y - r; row <= y + r; row++) for (let column = x - r; column <= x + r; column++) {
      const near = (row - y) ** 2 + (column - x) ** 2 <= r * r;
      if (near && row >= 0 && row < height && column >= 0 && column < width) held[row * width + column] = ink;
    }
    show();
    heard("drawn on");
  });
  figure.rbm = { hidden, visible, means: () => means };
  show();
  if (!calm()) run(true);
});
