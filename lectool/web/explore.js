// Every figure that is not ready yet: no ids, so that many figures and rebuilt pages do not clash.
document.querySelectorAll("figure.explore:not([data-ready])").forEach(figure => {
  figure.dataset.ready = "1";
  const data = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
  const image = figure.querySelector("img"), text = figure.querySelector(".ex-text");
  const live = figure.querySelector(".ex-live"), first = image.src;
  const rows = [...figure.querySelectorAll(".ex-row")];
  const inputs = rows.map(row => row.querySelector("input"));
  let spoken;
  const show = () => {
    let at = 0;
    inputs.forEach((input, i) => {
      const value = data.values[i][+input.value];
      at = at * data.values[i].length + +input.value;
      rows[i].querySelector("output").textContent = value;
      input.setAttribute("aria-valuetext", value);
    });
    image.src = data.frames[data.index ? data.index[at] : at] || first;
    image.alt = data.alts[at];
    if (text) text.textContent = data.texts[at];
    clearTimeout(spoken);  // a screen reader hears where the slider stops, not every step on the way
    spoken = setTimeout(() => { live.textContent = data.alts[at]; }, 400);
  };
  inputs.forEach(input => {
    input.addEventListener("input", show);
    // The classic Notebook takes arrow keys for its own (JupyterLab asks the figure's attribute).
    input.addEventListener("keydown", event => event.stopPropagation());
  });
  if (inputs.some(input => input.value !== input.defaultValue)) show();  // a browser may restore positions
});
