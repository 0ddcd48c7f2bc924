"use strict";

const root = document.documentElement;
const main = document.querySelector("main");
const slides = [...document.querySelectorAll(".slide")];
const steps = slides.map((slide) => [...slide.querySelectorAll(".fragment")]);
let now = 0;
let step = 0;

// Letters and pictures shrink together until all stands on the slide.
function fit(slide) {
  const room = slide.querySelector(".room");
  for (let size = 26; size >= 13; size -= 0.5) {
    room.style.setProperty("--size", `${size}px`);
    room.style.setProperty("--tall", `${Math.round(size * 19)}px`);
    if (room.scrollHeight <= room.clientHeight && room.scrollWidth <= room.clientWidth) break;
  }
}

function show() {
  slides.forEach((slide, k) => {
    slide.hidden = k !== now && !root.classList.contains("overview");
    slide.classList.toggle("now", k === now);
  });
  steps[now].forEach((part, k) => part.classList.toggle("seen", k < step));
  document.getElementById("place").textContent = slides[now].getAttribute("aria-label");
  history.replaceState(null, "", `#${now + 1}`);
}

function go(to, at = 0) {
  now = Math.max(0, Math.min(slides.length - 1, to));
  step = Math.min(at, steps[now].length);
  show();
}

function on() {
  if (step < steps[now].length) go(now, step + 1);
  else if (now < slides.length - 1) go(now + 1);
}

function back() {
  if (step > 0) go(now, step - 1);
  else if (now > 0) go(now - 1, Infinity);
}

function overview() {
  root.classList.toggle("overview");
  show();
  if (root.classList.contains("overview")) slides[now].scrollIntoView({ block: "center" });
  else window.scrollTo(0, 0);
}

function scale() {
  const factor = Math.min(window.innerWidth / 1280, window.innerHeight / 720);
  const left = (window.innerWidth - 1280 * factor) / 2;
  const top = (window.innerHeight - 720 * factor) / 2;
  main.style.transform = `translate(${left}px, ${top}px) scale(${factor})`;
}

const keys = {
  ArrowRight: on, ArrowDown: on, PageDown: on, " ": on, Enter: on,
  ArrowLeft: back, ArrowUp: back, PageUp: back, Backspace: back,
  Home: () => go(0), End: () => go(slides.length - 1, Infinity),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input, select, button, summary, a");
  if (event.key === "Escape") {
    if (field) field.blur();
    else overview();
    return;
  }
  // A control keeps the keys that move it; a presenter's remote sends Page Up and Page Down.
  if (field && !event.key.startsWith("Page")) return;
  if (root.classList.contains("overview") && event.key === "Enter") overview();
  else if (keys[event.key]) keys[event.key]();
  else return;
  event.preventDefault();
});

main.addEventListener("click", (event) => {
  const slide = event.target.closest(".slide");
  if (!slide || !root.classList.contains("overview")) return;
  now = slides.indexOf(slide);
  step = 0;
  overview();
});
document.getElementById("on").addEventListener("click", on);
document.getElementById("back").addEventListener("click", back);
window.addEventListener("resize", scale);
window.addEventListener("hashchange", () => go(Number(location.hash.slice(1)) - 1 || 0));

Promise.all([...document.images].map((image) => image.decode().catch(() => {}))).then(() => {
  root.classList.add("js");
  scale();
  slides.forEach(fit);
  go(Number(location.hash.slice(1)) - 1 || 0);
  root.dataset.ready = "yes";
});
