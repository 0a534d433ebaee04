// Every table that is not ready yet: no ids, so that many tables and rebuilt pages do not clash.
document.querySelectorAll("figure.sortable:not([data-ready])").forEach(figure => {
  figure.dataset.ready = "1";
  const body = figure.querySelector("tbody"), heads = [...figure.querySelectorAll("thead th")];
  const key = (row, column) => {
    const cell = row.children[column];
    return cell.dataset.key === undefined ? cell.textContent.trim() : +cell.dataset.key;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, {numeric: true});
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    [...body.rows].sort((first, second) => {
      const a = key(first, column), b = key(second, column);
      if (a === "" || b === "") return (a === "") - (b === "");  // empty cells stay at the bottom either way
      return down ? compare(b, a) : compare(a, b);
    }).forEach(row => body.append(row));
  }));
});
