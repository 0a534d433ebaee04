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
