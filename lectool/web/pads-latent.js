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
