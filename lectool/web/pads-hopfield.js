
// Units ±1 with E(x) = −½ xᵀWx − bᵀx. An update turns a unit against which the others pull; one at which nothing pulls stays.
function associative({ n, weights, bits: size, scale, bias }) {
  const W = new Float32Array(n * n), x = new Int8Array(n), pull = new Float64Array(n);  // pull: Wx, in units of scale
  const packed = size === 8 ? new Int8Array(Uint8Array.from(atob(weights), c => c.charCodeAt(0)).buffer) : unpack(weights, size);
  for (let i = 0, k = 0; i < n; i++) for (let j = i + 1; j < n; j++, k++) W[i * n + j] = W[j * n + i] = packed[k];
  const turn = i => {
    x[i] = -x[i];
    for (let j = 0; j < n; j++) pull[j] += 2 * x[i] * W[i * n + j];
  };
  const put = values => {
    x.set(values);
    pull.fill(0);
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) pull[i] += W[i * n + j] * x[j];
  };
  const update = i => {
    const against = (scale * pull[i] + bias[i]) * x[i] < 0;
    if (against) turn(i);
    return against;
  };
  const energy = () => x.reduce((sum, v, i) => sum - v * (0.5 * scale * pull[i] + bias[i]), 0);
  return { x, put, turn, update, energy };
}

document.querySelectorAll("figure.hopfield-pad:not([data-ready])").forEach(figure => {
  wake(figure);
  const data = read(figure), { n, order, shape: [, width] } = data, find = name => figure.querySelector(name);
  const signs = text => Int8Array.from(bits(text, n), v => 2 * v - 1), patterns = data.patterns.map(signs);
  const { x, put, turn, update, energy } = associative(data);
  const field = find(".pad-field"), numbers = [...figure.querySelectorAll(".pad-numbers span:last-child")];
  const depths = patterns.map(p => [1, -1].map(sign => { put(p.map(v => sign * v)); return energy(); })), say = speaker(find(".ex-live"));
  let past = [], at = 0, calmUpdates = 0, updates = 0;
  const share = choice(find(".ex-row"), data.shareNames, () => {});
  const nearest = () => {
    const overlaps = patterns.map(p => p.reduce((sum, v, i) => sum + v * x[i], 0));
    const best = overlaps.reduce((found, v, i) => (Math.abs(v) > Math.abs(overlaps[found]) ? i : found), 0);
    return { best, inverted: overlaps[best] < 0, differ: (n - Math.abs(overlaps[best])) / 2 };
  };
  const resting = () => calmUpdates >= n;
  function show() {
    const E = past[past.length - 1], { best, inverted, differ } = nearest(), depth = depths[best][+inverted];
    const name = data.labels[best] + (inverted ? ", inverted" : ""), state = resting() ? "at rest" : updates ? "falling" : "not yet updated";
    paint(field, x, -1, 1);
    const high = Math.max(...past, depth), low = Math.min(...past, depth), space = 0.02 * (high - low) + 1e-9;
    curve(find(".pad-trace"), past, Math.max(n, past.length), low - space, high + space, [[depth, "#d55e00", true]]);
    [E.toFixed(2), name, differ, updates, state].forEach((text, i) => { numbers[i].textContent = text; });
    field.setAttribute("aria-label", `${data.alt}: energy ${E.toFixed(2)}, nearest pattern ${name}, ${differ} pixels differ, ${state}`);
    Object.assign(figure.dataset, { energy: E, updates, state });
  }
  const heard = () => say(field.getAttribute("aria-label"));
  const begin = () => {  // the curve begins anew with what the reader changes
    past = [energy()];
    at = calmUpdates = updates = 0;
    run(false);
    show();
    heard();
  };
  const one = () => {
    const turned = update(order[at]);
    at = (at + 1) % n;
    calmUpdates = turned ? 0 : calmUpdates + 1;
    updates++;
    past.push(turned ? energy() : past[past.length - 1]);
    return turned;
  };
  const run = clock(figure, find(".pad-run"), () => {
    for (let i = 0; i < (calm() ? n : n / 40) && !resting(); i++) one();
    show();
    if (!resting()) return;
    run(false);
    heard();
  });
  find(".pad-step").addEventListener("click", () => {
    while (!resting() && !one());
    show();
    heard();
  });
  const press = (button, act) => button.addEventListener("click", () => { act(); begin(); });
  figure.querySelectorAll(".pad-pattern").forEach((button, i) => {
    paint(button.querySelector("canvas"), patterns[i], -1, 1);
    press(button, () => put(patterns[i]));
  });
  press(find(".pad-noise"), () => x.forEach((_, i) => { if (Math.random() < data.shares[share()]) turn(i); }));
  press(find(".pad-half"), () => x.forEach((v, i) => { if (i >= n / 2 && v > 0) turn(i); }));
  press(find(".pad-invert"), () => x.forEach((_, i) => turn(i)));
  let touched = new Set();
  strokes(field, () => { touched = new Set(); }, (column, row) => {
    const i = row * width + column;
    if (column < 0 || column >= width || row < 0 || i >= n || touched.has(i)) return;
    touched.add(i);
    turn(i);
    begin();
  });
  put(signs(data.start));
  begin();
});
