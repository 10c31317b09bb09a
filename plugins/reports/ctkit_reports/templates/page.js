"use strict";
// Tables sort by a click on a column's title: numbers by value, with what is missing last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.sort;
      const compare = head.classList.contains("n")
        ? (a, b) => (isNaN(a) - isNaN(b)) || (up ? a - b : b - a)
        : (a, b) => (up ? 1 : -1) * a.localeCompare(b, "en", { numeric: true });
      body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
    });
  });
}
// What is folded on the screen is open on paper.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((folded) => (folded.open = true)));
// Plots open large, with their legend; Escape or the button closes them.
const dialog = document.querySelector("dialog");
function enlarge(...content) {
  dialog.lastElementChild.replaceChildren(...content);
  dialog.showModal();
}
for (const plot of document.querySelectorAll(".plot > div")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "enlarge";
  button.textContent = "Enlarge";
  button.setAttribute("aria-label", `Enlarge: ${plot.getAttribute("aria-label")}`);
  plot.after(button);
  const legend = plot.closest(".figures")?.querySelector(".legend");
  const open = () => enlarge(...[legend, plot].filter(Boolean).map((part) => part.cloneNode(true)));
  button.addEventListener("click", open);
  plot.addEventListener("click", open);
}
