"use strict";

// A widget's data: controls, frames [places of the controls, picture, sentence, cards], pictures, cards.
// A place is null where the control is hidden, so a frame matches whatever that control says.
function bring(widget) {
  const data = JSON.parse(widget.querySelector("script").textContent);
  const boxes = [...widget.querySelectorAll(".control")];
  const picture = widget.querySelector("img");
  const status = widget.querySelector("[role=status]");
  const cards = widget.querySelector(".cards");

  function place(box) {
    const field = box.querySelector("input:checked, input[type=range], select");
    return Number(field.value);
  }

  function put(box, number) {
    const radios = [...box.querySelectorAll("input[type=radio]")];
    radios.forEach((radio, k) => { radio.checked = k === number; });
    const field = box.querySelector("input[type=range], select");
    if (field) field.value = number;
  }

  function show() {
    const places = boxes.map(place);
    const frame = data.frames.find((f) => f[0].every((p, k) => p === null || p === places[k]));
    boxes.forEach((box, k) => {
      box.hidden = frame[0][k] === null;
      const range = box.querySelector("input[type=range]");
      if (!range) return;
      const said = data.controls[k].options[places[k]];
      range.setAttribute("aria-valuetext", said);
      box.querySelector("output").textContent = said;
    });
    picture.src = "data:image/png;base64," + data.pictures[frame[1]];
    picture.alt = frame[2];
    if (status.textContent !== frame[2]) status.textContent = frame[2];
    cards.innerHTML = data.cards[frame[3]];
  }

  boxes.forEach((box) => box.addEventListener("input", show));
  widget.querySelector("button").addEventListener("click", () => {
    boxes.forEach((box, k) => put(box, data.controls[k].start));
    show();
  });
  // Browsers keep what a form said before a reload; the page starts where the notebook does.
  boxes.forEach((box, k) => put(box, data.controls[k].start));
  show();
}

document.querySelectorAll(".widget").forEach(bring);

const all = document.querySelector(".all");
if (all) {
  all.hidden = false;
  all.addEventListener("click", () => {
    const open = all.getAttribute("aria-pressed") !== "true";
    all.setAttribute("aria-pressed", String(open));
    document.querySelectorAll("details.code").forEach((d) => { d.open = open; });
  });
}
