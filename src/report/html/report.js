"use strict";
// Sorts a table by a column when its heading is pressed; by number where cells have one.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const body = table.tBodies[0];
      [...body.rows]
        .sort((a, b) => {
          const [p, q] = [key(a), key(b)];
          const [x, y] = [parseFloat(p), parseFloat(q)];
          // What is not known stays at the end either way.
          if (p === "" || q === "") return (p === "") - (q === "");
          const order = isNaN(x) || isNaN(y) ? p.localeCompare(q, "en") : x - y;
          return down ? -order : order;
        })
        .forEach((row) => body.append(row));
    });
  });
}
// Shows a mark's figures at once, where the browser's own hint would take a second; works by touch too.
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
document.body.append(tip);
for (const mark of document.querySelectorAll("svg [data-tip]")) {
  mark.querySelector("title")?.remove();
  mark.setAttribute("aria-label", mark.dataset.tip);
}
document.addEventListener("pointermove", (event) => {
  const mark = event.target.closest?.("[data-tip]");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.dataset.tip;
  const { innerWidth, innerHeight } = window;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8))}px`;
});
