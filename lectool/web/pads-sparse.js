const dot = (a, b) => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
};

// FISTA for ½‖x − Dz‖² + λ Σz with z ≥ 0, whose gradient is Gz − Dᵀx + λ: as lectool.sparse.fista, restarts too.
function dictionary({ atoms: text, bits, L, steps }) {
  const D = unpack(text, bits), k = D.length / 784;
  const atoms = Array.from({ length: k }, (_, j) => D.subarray(784 * j, 784 * (j + 1)));
  const G = atoms.map(a => Float64Array.from(atoms, b => dot(a, b)));
  const code = (x, lam) => {
    const pull = atoms.map(a => dot(a, x));
    let z = new Float64Array(k), ahead = z, t = 1;
    for (let step = 0; step < steps; step++) {
      const next = ahead.map((v, j) => Math.max(0, v - (dot(G[j], ahead) - pull[j] + lam) / L));
      if (next.reduce((sum, v, j) => sum + (ahead[j] - v) * (v - z[j]), 0) > 0) t = 1;
      const tNext = (1 + Math.sqrt(1 + 4 * t * t)) / 2;
      ahead = next.map((v, j) => v + ((t - 1) / tNext) * (v - z[j]));
      [z, t] = [next, tNext];
    }
    return z;
  };
  const rebuild = z => {
    const y = new Float64Array(784);
    atoms.forEach((atom, j) => { if (z[j] > 0) for (let i = 0; i < 784; i++) y[i] += z[j] * atom[i]; });
    return y;
  };
  return { atoms, code, rebuild };
}

document.querySelectorAll("figure.sparse-pad:not([data-ready])").forEach(figure => {
  wake(figure);
  const data = read(figure), { atoms, code, rebuild } = dictionary(data), find = name => figure.querySelector(name);
  const input = find(".ex-row input"), places = [...figure.querySelectorAll(".pad-atom")];
  const limits = atoms.map(atom => atom.reduce((most, v) => Math.max(most, Math.abs(v)), 0));
  const signed = data.colors.length > 2;
  let drawn, spoken;
  const show = x => {
    drawn = x;
    const name = data.names[+input.value], z = code(x, data.lams[+input.value]), y = rebuild(z);
    find("output").textContent = name;
    input.setAttribute("aria-valuetext", name);
    paint(find(".pad-input"), x);
    paint(find(".pad-output"), y);
    const used = [...z.keys()].filter(j => z[j] > 0).sort((a, b) => z[b] - z[a]);
    places.forEach((place, i) => {
      const j = used[i], canvas = place.querySelector("canvas");
      place.classList.toggle("pad-unused", i >= used.length);
      if (i >= used.length) return;
      place.querySelector("span").textContent = `${z[j].toFixed(2)} ×`;
      paint(canvas, atoms[j], signed ? -limits[j] : 0, limits[j], data.colors);
      canvas.setAttribute("aria-label", `Atom ${j + 1}`);
    });
    const error = x.reduce((sum, v, i) => sum + (v - y[i]) ** 2, 0);
    const words = `${used.length} of ${z.length} atoms in use, squared error ${error.toFixed(1)}`;
    find(".pad-readout").textContent = words;
    find(".pad-output").setAttribute("aria-label", `${data.alt}: ${words}`);
    clearTimeout(spoken);
    spoken = setTimeout(() => { find(".ex-live").textContent = words; }, 400);
  };
  input.addEventListener("input", () => show(drawn));
  input.addEventListener("keydown", event => event.stopPropagation());
  drawing(figure, data.examples, show);
});
