// What every pad needs. Its own part follows, in the same function.

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
