(() => {
  const activations = {
    identity: a => a, relu: a => (a > 0 ? a : 0), leaky: a => (a > 0 ? a : 0.01 * a),
    elu: a => (a > 0 ? a : Math.expm1(a)), silu: a => a / (1 + Math.exp(-a)), tanh: Math.tanh,
    softplus: a => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a))), sigmoid: a => 1 / (1 + Math.exp(-a)),
  };

  function unpack(text, bits) {  // base64 of floats of 16 or 32 bits
    const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
    const view = new DataView(bytes.buffer), out = new Float32Array(bytes.length * 8 / bits);
    for (let i = 0; i < out.length; i++) {
      if (bits === 32) {
        out[i] = view.getFloat32(4 * i, true);
        continue;
      }
      const h = view.getUint16(2 * i, true), e = (h >> 10) & 31, m = h & 1023, sign = h >> 15 ? -1 : 1;
      out[i] = sign * (e === 0 ? m * 2 ** -24 : (1 + m / 1024) * 2 ** (e - 15));
    }
    return out;
  }

  function network(data) {
    const w = unpack(data.weights, data.bits);
    let at = 0;
    const layers = data.layers.map(({ rows, columns, act }) => {
      const layer = { rows, columns, f: activations[act], w: at, b: at + rows * columns };
      at = layer.b + rows;
      return layer;
    });
    return (x, from = 0, to = layers.length) => {
      for (const { rows, columns, f, w: start, b } of layers.slice(from, to)) {
        const y = new Float32Array(rows);
        for (let i = 0; i < rows; i++) {
          let sum = w[b + i];
          for (let j = 0, k = start + i * columns; j < columns; j++, k++) sum += w[k] * x[j];
          y[i] = f(sum);
        }
        x = y;
      }
      return x;
    };
  }

  function paint(canvas, x, low = 0, high = 1, colors = [[0, 0, 0], [255, 255, 255]]) {
    const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
    const bytes = image.data;
    for (let i = 0; i < x.length; i++) {
      const place = Math.min(1, Math.max(0, (x[i] - low) / (high - low))) * (colors.length - 1);
      const from = Math.min(Math.floor(place), colors.length - 2), a = colors[from], b = colors[from + 1];
      for (let c = 0; c < 3; c++) bytes[4 * i + c] = Math.round(a[c] + (place - from) * (b[c] - a[c]));
      bytes[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  // What only a script can fill is hidden until then: a notebook that is not trusted shows the still alone.
  const wake = figure => {
    figure.dataset.ready = "1";
    figure.querySelector(".pad-still").remove();
    figure.querySelector(".pad-live").hidden = false;
  };

  const read = figure => JSON.parse(figure.querySelector('script[type="application/json"]').textContent);

  document.querySelectorAll("figure.latent-pad:not([data-ready])").forEach(figure => {
    wake(figure);
    const data = read(figure), decode = network(data), [bx, by] = data.bounds;
    const plane = figure.querySelector(".pad-plane"), pixels = figure.querySelector(".pad-pixels");
    const rows = [...figure.querySelectorAll(".ex-row")], inputs = rows.map(row => row.querySelector("input"));
    const live = figure.querySelector(".ex-live"), context = plane.getContext("2d");
    const size = plane.width, code = Float32Array.from(data.base);
    const toX = a => ((a - bx[0]) / (bx[1] - bx[0])) * size, toY = b => (1 - (b - by[0]) / (by[1] - by[0])) * size;
    const map = document.createElement("canvas");  // the points are drawn once, the cross at each move
    map.width = map.height = size;
    const ink = map.getContext("2d");
    ink.fillStyle = "#fff";
    ink.fillRect(0, 0, size, size);
    data.points.forEach(([a, b, c]) => {
      ink.fillStyle = data.colors[c];
      ink.globalAlpha = 0.6;
      ink.beginPath();
      ink.arc(toX(a), toY(b), 4, 0, 7);
      ink.fill();
    });
    ink.globalAlpha = 1;
    ink.font = "bold 26px sans-serif";
    ink.textAlign = "center";
    ink.textBaseline = "middle";
    data.marks.forEach(([a, b, c]) => {
      ink.lineWidth = 6;
      ink.strokeStyle = "#fff";
      ink.strokeText(c, toX(a), toY(b));
      ink.fillStyle = data.colors[c];
      ink.fillText(c, toX(a), toY(b));
    });
    let spoken;
    const show = () => {
      const z = inputs.map(input => +input.value);
      z.forEach((value, i) => {
        code[data.axes[i]] = value;
        rows[i].querySelector("output").textContent = value.toFixed(data.digits[i]);
        inputs[i].setAttribute("aria-valuetext", value.toFixed(data.digits[i]));
      });
      paint(pixels, decode(code), ...data.range);
      context.drawImage(map, 0, 0);
      const [x, y] = [toX(z[0]), toY(z[1])];
      for (const [width, color] of [[9, "#fff"], [4, "#000"]]) {
        context.lineWidth = width;
        context.strokeStyle = color;
        context.beginPath();
        context.arc(x, y, 13, 0, 7);
        context.stroke();
      }
      const words = `${data.alt}: ${data.names.map((name, i) => `${name} = ${z[i].toFixed(data.digits[i])}`).join(", ")}`;
      pixels.setAttribute("aria-label", words);
      clearTimeout(spoken);
      if (!wandering) spoken = setTimeout(() => { live.textContent = words; }, 400);
    };
    let wandering = data.autoplay && !matchMedia("(prefers-reduced-motion: reduce)").matches, visible = true;
    const touch = () => { wandering = false; };
    inputs.forEach(input => {
      input.addEventListener("input", () => { touch(); show(); });
      input.addEventListener("keydown", event => { touch(); event.stopPropagation(); });
      input.addEventListener("pointerdown", touch);
    });
    const drag = event => {
      const box = plane.getBoundingClientRect();
      inputs[0].value = bx[0] + ((event.clientX - box.left) / box.width) * (bx[1] - bx[0]);
      inputs[1].value = by[0] + (1 - (event.clientY - box.top) / box.height) * (by[1] - by[0]);
      show();
    };
    plane.addEventListener("pointerdown", event => {
      touch();
      plane.setPointerCapture(event.pointerId);
      drag(event);
    });
    plane.addEventListener("pointermove", event => { if (event.buttons) drag(event); });
    show();
    if (wandering) {
      new IntersectionObserver(entries => { visible = entries.at(-1).isIntersecting; }).observe(plane);
      const step = time => {
        if (!wandering || !figure.isConnected) return;
        if (visible) {
          const t = time / 9000;
          inputs[0].value = bx[0] + (bx[1] - bx[0]) * (0.5 + 0.36 * Math.sin(2.1 * t));
          inputs[1].value = by[0] + (by[1] - by[0]) * (0.5 + 0.36 * Math.sin(3.3 * t + 1));
          show();
        }
        requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    }
  });

  // The area to draw on and its buttons, beginning with the first example; calls show(x) with 784 numbers in [0, 1].
  function drawing(figure, examples, show) {
    const find = name => figure.querySelector(name), pad = find(".pad-draw"), context = pad.getContext("2d");
    const small = document.createElement("canvas");
    small.width = small.height = 28;
    const fine = small.getContext("2d", { willReadFrequently: true });
    const blank = () => { context.fillStyle = "#000"; context.fillRect(0, 0, pad.width, pad.height); };
    const gray = (source, n) => {
      const rgba = source.getImageData(0, 0, n, n).data, out = new Float32Array(n * n);
      for (let i = 0; i < out.length; i++) out[i] = rgba[4 * i] / 255;
      return out;
    };
    // As MNIST was made: the drawing's box is scaled to 20×20, its center of mass put in the middle of 28×28.
    function normalize() {
      const n = pad.width, x = gray(context, n);
      let left = n, right = -1, top = n, bottom = -1, mass = 0, mx = 0, my = 0;
      for (let i = 0; i < x.length; i++) if (x[i] > 0.05) {
        const column = i % n, row = (i - column) / n;
        left = Math.min(left, column); right = Math.max(right, column);
        top = Math.min(top, row); bottom = Math.max(bottom, row);
        mass += x[i]; mx += x[i] * column; my += x[i] * row;
      }
      fine.fillStyle = "#000";
      fine.fillRect(0, 0, 28, 28);
      if (right < 0) return gray(fine, 28);
      const scale = 20 / Math.max(right - left + 1, bottom - top + 1);
      fine.imageSmoothingQuality = "high";
      fine.drawImage(pad, 14 - (mx / mass) * scale, 14 - (my / mass) * scale, n * scale, n * scale);
      return gray(fine, 28);
    }
    let last = null;
    const place = event => {
      const box = pad.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * pad.width, ((event.clientY - box.top) / box.height) * pad.height];
    };
    pad.addEventListener("pointerdown", event => { pad.setPointerCapture(event.pointerId); last = place(event); stroke(last); });
    pad.addEventListener("pointermove", event => { if (event.buttons && last) stroke(place(event)); });
    function stroke(point) {
      context.strokeStyle = "#fff";
      context.lineWidth = 22;
      context.lineCap = "round";
      context.beginPath();
      context.moveTo(...last);
      context.lineTo(point[0], point[1] + 0.01);
      context.stroke();
      last = point;
      show(normalize());
    }
    let next = 0;
    const example = () => {
      const bytes = Uint8Array.from(atob(examples[next]), c => c.charCodeAt(0));
      next = (next + 1) % examples.length;
      const x = Float32Array.from(bytes, b => b / 255);
      paint(small, x);
      context.imageSmoothingEnabled = true;
      context.drawImage(small, 0, 0, pad.width, pad.height);
      show(x);
    };
    find(".pad-clear").addEventListener("click", () => { blank(); show(new Float32Array(784)); });
    find(".pad-example").addEventListener("click", example);
    blank();
    example();
  }

  document.querySelectorAll("figure.sketch-pad:not([data-ready])").forEach(figure => {
    wake(figure);
    const data = read(figure), run = network(data), find = name => figure.querySelector(name);
    const readout = find(".pad-readout");
    drawing(figure, data.examples, x => {
      paint(find(".pad-input"), x);
      const z = run(x, 0, data.code), y = run(z, data.code);
      paint(find(".pad-output"), y);
      let error = 0;
      for (let i = 0; i < x.length; i++) error += (x[i] - y[i]) ** 2;
      const first = [...z.slice(0, 4)].map(v => v.toFixed(2)).join(", ");
      readout.textContent = `code of ${z.length} numbers: ${first}${z.length > 4 ? ", …" : ""}; squared error ${error.toFixed(1)}`;
      find(".pad-output").setAttribute("aria-label", `${data.alt}; squared error ${error.toFixed(1)}`);
    });
  });

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
})();
