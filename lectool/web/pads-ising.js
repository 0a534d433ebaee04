
// Spins ±1 on a torus and p(s) ∝ exp(J Σ s_i s_j + b Σ s_i): sweeps over a checkerboard, as lectool.graphical.Ising.gibbs.
function torus(size, s) {
  const before = i => (i + size - 1) % size, after = i => (i + 1) % size;
  const sweep = (J, b) => {
    const up = [-4, -2, 0, 2, 4].map(sum => 1 / (1 + Math.exp(-2 * (J * sum + b))));
    for (const color of [0, 1]) for (let row = 0; row < size; row++) {
      const here = row * size, above = before(row) * size, below = after(row) * size;
      for (let column = (row + color) % 2; column < size; column += 2) {
        const sum = s[here + before(column)] + s[here + after(column)] + s[above + column] + s[below + column];
        s[here + column] = Math.random() < up[(sum + 4) / 2] ? 1 : -1;
      }
    }
  };
  const magnetization = () => s.reduce((sum, v) => sum + v, 0) / s.length;
  // In units of the temperature.
  const energy = (J, b) => {
    let links = 0;
    for (let i = 0; i < s.length; i++) {
      const column = i % size, row = (i - column) / size;
      links += s[i] * (s[i - column + after(column)] + s[after(row) * size + column]);
    }
    return -(J * links) / s.length - b * magnetization();
  };
  return { sweep, magnetization, energy };
}

document.querySelectorAll("figure.ising-pad:not([data-ready])").forEach(figure => {
  wake(figure);
  const data = read(figure), { size } = data, find = name => figure.querySelector(name);
  const s = Int8Array.from(bits(data.spins, size * size), v => 2 * v - 1), { sweep, magnetization, energy } = torus(size, s);
  const numbers = [...figure.querySelectorAll(".pad-numbers span:last-child")], field = find(".pad-field"), trace = find(".pad-trace");
  const say = speaker(find(".ex-live")), past = [], most = 240;
  let n = 0, total = 0, totalEnergy = 0;
  const fresh = () => {  // the mean begins anew with what the reader changes
    n = total = totalEnergy = 0;
    show();
    const words = `${data.alt}: T = ${data.temperatures[temperature()]}, b = ${data.fieldNames[b()]}, magnetization ${magnetization().toFixed(2)}`;
    field.setAttribute("aria-label", words);
    say(words);
  };
  const rows = [...figure.querySelectorAll(".ex-row")];
  const temperature = choice(rows[0], data.names, () => fresh()), b = choice(rows[1], data.fieldNames, () => fresh());
  const speed = choice(rows[2], data.speeds, () => {});
  function show() {
    const m = magnetization(), J = data.couplings[temperature()], h = data.fields[b()];
    const exact = h === 0 ? data.exact[temperature()] : null;
    paint(field, s, -1, 1, data.colors);
    curve(trace, past, most, -1, 1, [
      [-1, "#999"], [0, "#999"], [1, "#999"],
      ...(exact === null ? [] : [exact, -exact].slice(0, exact ? 2 : 1).map(v => [v, "#d55e00", true])),
    ]);
    [
      m.toFixed(3), exact === null ? "–" : `${exact ? "±" : ""}${exact.toFixed(3)}`, n ? (total / n).toFixed(3) : "–", n,
      energy(J, h).toFixed(3),
    ].forEach((text, i) => { numbers[i].textContent = text; });
    Object.assign(figure.dataset, { sweeps: n, magnetization: n ? total / n : m, energy: n ? totalEnergy / n : energy(J, h) });
  }
  const step = () => {
    const J = data.couplings[temperature()], h = data.fields[b()];
    for (let i = 0; i < +data.speeds[speed()]; i++) {
      sweep(J, h);
      n++;
      total += magnetization();
      totalEnergy += energy(J, h);
    }
    past.push(magnetization());
    if (past.length > most) past.shift();
    show();
  };
  let touched = new Set();
  const patch = (x, y) => {
    const r = Math.max(1, Math.round(size / 16));
    for (let dy = -r; dy <= r; dy++) for (let dx = -r; dx <= r; dx++) {
      const i = ((y + dy + size) % size) * size + ((x + dx + size) % size);
      if (dx * dx + dy * dy > r * r || touched.has(i)) continue;
      touched.add(i);
      s[i] = -s[i];
    }
  };
  strokes(field, () => { touched = new Set(); }, (x, y) => {
    if (x >= 0 && y >= 0 && x < size && y < size) patch(x, y);
    fresh();
  });
  const press = (name, act) => find(name).addEventListener("click", () => { act(); fresh(); });
  press(".pad-up", () => s.fill(1));
  press(".pad-random", () => s.forEach((_, i) => { s[i] = Math.random() < 0.5 ? 1 : -1; }));
  press(".pad-flip", () => { touched = new Set(); patch(size / 2, size / 2); });
  find(".pad-step").addEventListener("click", step);
  show();
  const run = clock(figure, find(".pad-run"), step);
  if (!calm()) run(true);
});
