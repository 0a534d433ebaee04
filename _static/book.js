// What the site adds to its theme: pictures on a small screen, with panels one below the other, and each at full size by a tap or by Enter.
document.addEventListener("DOMContentLoaded", () => {
  // The theme leaves its first sidebar, with the book's name, outside of all landmarks.
  const sidebar = document.querySelector(".bd-sidebar-primary");
  sidebar?.setAttribute("role", "complementary");
  sidebar?.setAttribute("aria-label", "The book and its contents");

  // Its buttons are named otherwise than they read: what they show is their name.
  document.querySelectorAll(".search-button-field, .theme-switch-button").forEach(button => {
    button.removeAttribute("aria-label");
  });

  // A formula in a line that is wider than the line stands below it; what scrolls can be reached by keyboard.
  addEventListener("load", () => window.MathJax?.startup?.promise.then(() => {
    document.querySelectorAll("mjx-container:not([display])").forEach(formula => {
      const line = formula.closest("p, li, td, figcaption");
      if (line && formula.getBoundingClientRect().width > line.clientWidth) formula.classList.add("wide");
    });
    document.querySelectorAll(".cell_output table").forEach(table => {
      if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
    });
  }));

  const narrow = matchMedia("(max-width: 600px)");
  const dialog = document.createElement("dialog");
  dialog.className = "full-size";
  dialog.setAttribute("aria-label", "Picture at full size");
  dialog.innerHTML = '<form method="dialog"><button autofocus>close</button></form><div tabindex="0" role="group" aria-label="Picture, to be scrolled"><img alt=""></div>';
  dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);

  const stack = (frame, picture) => {
    const cuts = picture.dataset.cuts.split(" ").map(Number), panels = document.createElement("span");
    panels.className = "panels";
    panels.setAttribute("aria-hidden", "true");  // the picture itself stays, out of sight, with its description
    if (picture.dataset.title) panels.append(picture.dataset.title);
    const copies = cuts.slice(1).map((end, i) => {
      const share = end - cuts[i], copy = new Image(), part = document.createElement("span");
      copy.alt = "";
      copy.style.cssText = `width:${100 / share}%;margin:${-100 * picture.dataset.top / share}% 0 0 ${-100 * cuts[i] / share}%`;
      part.append(copy);
      panels.append(part);
      return copy;
    });
    const follow = () => { if (narrow.matches) copies.forEach(copy => { copy.src = picture.src; }); };
    new MutationObserver(follow).observe(picture, {attributeFilter: ["src"]});
    narrow.addEventListener("change", follow);
    follow();
    frame.append(panels);
  };

  document.querySelectorAll(".bd-article .cell_output img, .bd-article figure.explore > img").forEach(picture => {
    const frame = document.createElement("span"), button = document.createElement("button");
    frame.className = "picture";
    button.type = "button";
    button.textContent = "⤢";
    button.title = "full size";
    button.setAttribute("aria-label", "⤢ full size");
    picture.replaceWith(frame);
    frame.append(picture);
    // What cannot be cut keeps a width at which it can be read, and scrolls.
    const measure = () => frame.classList.toggle("long", !picture.dataset.cuts && picture.naturalWidth > 640);
    if (picture.complete) measure(); else picture.addEventListener("load", measure, {once: true});
    if (picture.dataset.cuts) stack(frame, picture);
    frame.append(button);
    frame.addEventListener("click", () => {
      const large = dialog.querySelector("img");
      large.src = picture.src;
      large.alt = picture.alt;
      dialog.showModal();
    });
  });
});
