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
// Pairs of slices open large, both in the same place: a click or the space key changes from one to the other.
for (const pair of document.querySelectorAll(".pairs figure")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "compare";
  button.textContent = "Compare";
  pair.append(button);
  const open = () => {
    const images = [...pair.querySelectorAll("img")].map((image) => image.cloneNode());
    const stage = Object.assign(document.createElement("div"), { className: "stage" });
    stage.append(...images);
    const words = document.createElement("p");
    words.className = "quiet";
    words.setAttribute("aria-live", "polite");
    const show = (second) => {
      stage.classList.toggle("second", second);
      words.textContent = `${second ? "Second" : "First"} slice. ${pair.querySelector("figcaption").textContent}`;
    };
    const swap = () => show(!stage.classList.contains("second"));
    const change = Object.assign(document.createElement("button"), { type: "button", textContent: "Change slice" });
    const flicker = Object.assign(document.createElement("button"), { type: "button", textContent: "Flicker" });
    let timer = 0;
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      flicker.setAttribute("aria-pressed", "false");
      words.setAttribute("aria-live", "polite");
    };
    flicker.addEventListener("click", () => {
      if (timer) return stop();
      timer = setInterval(swap, 600);
      flicker.setAttribute("aria-pressed", "true");
      words.setAttribute("aria-live", "off");
    });
    for (const one of [change, stage]) one.addEventListener("click", swap);
    dialog.addEventListener("close", stop, { once: true });
    stop();
    show(false);
    const controls = Object.assign(document.createElement("div"), { className: "controls" });
    controls.append(change, flicker);
    enlarge(stage, controls, words);
    change.focus();
  };
  button.addEventListener("click", open);
  for (const image of pair.querySelectorAll("img")) image.addEventListener("click", open);
}
