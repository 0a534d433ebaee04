
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// Frames behind a button: calls tick(time) while it runs, and rests while the pad is out of sight.
function clock(figure, button, tick) {
  const name = button.textContent;
  let visible = true, running = false, frame = 0;
  new IntersectionObserver(entries => { visible = entries.at(-1).isIntersecting; }).observe(figure.querySelector("canvas"));
  const loop = time => {
    if (!figure.isConnected) return;
    frame = requestAnimationFrame(loop);
    if (visible) tick(time);
  };
  const set = on => {
    cancelAnimationFrame(frame);
    running = on;
    button.textContent = on ? "pause" : name;
    if (on) frame = requestAnimationFrame(loop);
  };
  button.addEventListener("click", () => set(!running));
  return set;
}

// A slider over named values: calls changed() as it moves; gives the place where it stands.
function choice(row, names, changed) {
  const input = row.querySelector("input"), output = row.querySelector("output");
  input.addEventListener("input", () => {
    output.textContent = names[+input.value];
    input.setAttribute("aria-valuetext", names[+input.value]);
    changed();
  });
  input.addEventListener("keydown", event => event.stopPropagation());
  return () => +input.value;
}

// The way of a pointer that is down: calls draw(column, row) for the canvas' pixels on it, and begin() where it starts.
function strokes(canvas, begin, draw) {
  let last = null;
  const place = event => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
  };
  const line = ([x, y]) => {
    const n = Math.max(1, Math.ceil(2 * Math.hypot(x - last[0], y - last[1])));
    for (let i = 1; i <= n; i++) {
      draw(Math.floor(last[0] + ((x - last[0]) * i) / n), Math.floor(last[1] + ((y - last[1]) * i) / n));
    }
    last = [x, y];
  };
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    begin();
    line(last);
  });
  canvas.addEventListener("pointermove", event => { if (event.buttons && last) line(place(event)); });
}

const bits = (text, n) => {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  return Uint8Array.from({ length: n }, (_, i) => (bytes[i >> 3] >> (7 - (i & 7))) & 1);
};

// What a reader hears, once the numbers have rested.
const speaker = element => {
  let timer;
  return words => {
    clearTimeout(timer);
    timer = setTimeout(() => { element.textContent = words; }, 400);
  };
};

// A curve, and level lines [value, color, whether it is dashed].
function curve(canvas, values, most, low, high, lines) {
  const context = canvas.getContext("2d"), { width, height } = canvas;
  const y = v => (0.06 + (0.88 * (high - v)) / (high - low)) * height;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  lines.forEach(([value, color, dashed]) => {
    context.setLineDash(dashed ? [12, 10] : []);
    context.lineWidth = dashed ? 4 : 2;
    context.strokeStyle = color;
    context.beginPath();
    context.moveTo(0, y(value));
    context.lineTo(width, y(value));
    context.stroke();
  });
  context.setLineDash([]);
  context.lineWidth = 4;
  context.lineJoin = "round";
  context.strokeStyle = "#0072b2";
  context.beginPath();
  values.forEach((v, i) => context.lineTo((i / (most - 1)) * width, y(v)));
  context.stroke();
}
