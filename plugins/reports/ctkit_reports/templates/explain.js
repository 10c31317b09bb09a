// --- the explanation of an arm ---
const choice = JSON.parse(document.querySelector("#choice")?.textContent ?? '{"volumes": []}');

// A volume slice by slice: the slice on the left, and on the right the kept one that stands for it.
class Viewer {
  constructor(root, volume) {
    this.volume = volume;
    this.figures = [...root.querySelectorAll(".along figure")];
    this.path = root.querySelector(".strip path");
    this.slider = root.querySelector("input");
    [this.left, this.right] = root.querySelectorAll(".two figure");
    this.slider.addEventListener("input", () => this.show());
    root.querySelector(".two").addEventListener("wheel", (event) => {
      event.preventDefault();
      this.go(Number(this.slider.value) + Math.sign(event.deltaY));
    }, { passive: false });
    this.figures.forEach((figure, place) => figure.addEventListener("click", () => this.go(place)));
    this.show();
  }

  go(place) {
    this.slider.value = place;
    this.show();
  }

  // Take over another choice: for each slice its stand-in's place (-1 for none), whether it is kept, and how far it is.
  choose(kept, by, distance) {
    Object.assign(this.volume, { kept, by, distance });
    this.figures.forEach((figure, place) => {
      figure.classList.toggle("kept", kept[place]);
      figure.querySelector("span").textContent = kept[place] ? " kept" : " dropped";
    });
    this.path.setAttribute("d", kept.map((is, place) => (is ? `M${place} 0h1v1h-1z` : "")).join(""));
    this.show();
  }

  show() {
    const place = Number(this.slider.value);
    const { index, kept, by, distance } = this.volume;
    const unit = distance[place] === 1 ? choice.unit.replace(/s$/, "") : choice.unit;
    const far = distance[place] === null ? "" : `, ${distance[place]} ${unit}`;
    const other = by[place] < 0 ? "nothing in this volume stands for it" : `slice ${index[by[place]]} stands for it${far}`;
    const words = `Slice ${index[place]}, ${kept[place] ? "kept" : `dropped: ${other}`}`;
    this.slider.setAttribute("aria-valuetext", words);
    this.fill(this.left, place, words, kept[place]);
    const stand = kept[place] ? -1 : by[place];
    this.fill(this.right, stand, stand < 0 ? "" : `Slice ${index[stand]}, kept`, true);
    this.figures.forEach((figure, other) => figure.classList.toggle("here", other === place));
  }

  fill(figure, place, words, kept) {
    const frame = figure.querySelector(".frame");
    const image = place < 0 ? [] : [this.figures[place].querySelector("img").cloneNode()];
    image.forEach((one) => (one.alt = words));
    frame.replaceChildren(...image);
    frame.classList.toggle("kept", kept && place >= 0);
    figure.querySelector("figcaption").textContent = words;
  }
}
const viewers = [...document.querySelectorAll(".viewer")].map((root, place) => new Viewer(root, choice.volumes[place]));

// Choose again at another threshold. As ctkit does: slice after slice, volume by volume; the first kept slice whose
// hash differs in few enough bits stands for a slice, and a slice that has none is kept.
function bitsOf(word) {
  word -= (word >>> 1) & 0x55555555;
  word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
  return Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
const codes = choice.codes
  ? new Uint32Array(Uint8Array.from(atob(choice.codes), (letter) => letter.charCodeAt(0)).buffer)
  : null;
function apart(one, other) {
  let bits = 0;
  for (let word = 0; word < choice.words; word++) {
    bits += bitsOf(codes[one * choice.words + word] ^ codes[other * choice.words + word]);
  }
  return bits;
}
function chooseAt(at) {
  const by = new Int32Array(codes.length / choice.words).fill(-1);
  let first = 0;
  let kept = 0;
  for (const size of choice.sizes) {
    const stay = [];
    for (let one = first; one < first + size; one++) {
      const found = stay.find((other) => apart(one, other) <= at);
      if (found === undefined) stay.push(one);
      else by[one] = found;
    }
    kept += stay.length;
    first += size;
  }
  return { kept, by };
}
const slider = document.querySelector("#at");
if (slider) {
  const again = () => {
    const at = Number(slider.value);
    const { kept, by } = chooseAt(at);
    const share = ((100 * kept) / choice.total).toFixed(1);
    const words = `${at} ${choice.unit}: ${kept.toLocaleString("en")} of ${choice.total.toLocaleString("en")} slices kept, ${share} %`;
    slider.setAttribute("aria-valuetext", words);
    document.querySelector("#at-kept").textContent = words;
    for (const viewer of viewers) {
      const places = viewer.volume.places;
      const there = new Map(places.map((position, place) => [position, place]));
      const stands = places.map((position) => (position < 0 ? -1 : by[position]));
      viewer.choose(
        places.map((position) => position >= 0 && by[position] < 0),
        stands.map((stand) => (stand < 0 ? -1 : there.get(stand) ?? -1)),
        stands.map((stand, place) => (stand < 0 ? null : apart(places[place], stand))),
      );
    }
  };
  slider.addEventListener("input", again);
  document.querySelector("#at-again").addEventListener("click", () => {
    slider.value = slider.defaultValue;
    again();
  });
  again();
}
