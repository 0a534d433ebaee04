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
