"use strict";
// Sends a selection of samples to annotators, keeps what runs up to date, and lets one draw around samples of the
// map. Pages work without it.

const KEY = "flywheel-token";

function say(form, lines) {
  const box = form.querySelector("[role=status]");
  box.replaceChildren(...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line })));
}

async function send(form, what) {
  const token = form.elements.token.value || sessionStorage.getItem(KEY) || "";
  const boxes = [...form.elements].filter((box) => box.name === "sample_ids" && (box.checked || box.type === "hidden"));
  const chosen = boxes.map((box) => box.value);
  if (!chosen.length) return say(form, ["No sample is chosen. Tick some first."]);
  const answer = await fetch("/pages/send", {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: JSON.stringify({ what, sample_ids: chosen, reason: form.elements.reason.value }),
  });
  const found = await answer.json().catch(() => ({ detail: `The server answered ${answer.status}.` }));
  if (answer.status === 401) sessionStorage.removeItem(KEY);
  if (!answer.ok) return say(form, [found.detail]);
  sessionStorage.setItem(KEY, token);
  form.elements.token.closest("label").hidden = true;
  say(form, [found.said, ...Object.entries(found.left_out).map(([id, why]) => `${id.slice(0, 12)}: ${why}.`)]);
}

document.body.classList.add("scripted");
for (const form of document.querySelectorAll("form[data-send]")) {
  form.hidden = false;
  if (sessionStorage.getItem(KEY)) form.elements.token.closest("label").hidden = true;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form, event.submitter.value).catch((fault) => say(form, [`Not sent: ${fault.message}`]));
  });
}

const CORNERS = 60;
const MARGIN = 10; // of the map's picture, see map.html
const NEAR = 6; // what is smaller is a click

function lasso(map) {
  const { width, height } = map.viewBox.baseVal;
  const outline = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
  outline.setAttribute("class", "lasso");
  let corners = null;
  const end = () => {
    corners = null;
    outline.remove();
    map.classList.remove("drawing");
  };
  map.addEventListener("dragstart", (event) => event.preventDefault());
  map.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch" && event.button === 0) corners = [];
  });
  map.addEventListener("pointermove", (event) => {
    if (corners === null) return;
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
    const last = corners.at(-1);
    if (last && Math.hypot(at.x - last.x, at.y - last.y) < NEAR) return;
    corners.push(at);
    if (corners.length < 3) return;
    map.setPointerCapture(event.pointerId); // not earlier, else a click would reach no point
    map.classList.add("drawing");
    outline.setAttribute("points", corners.map(({ x, y }) => `${x},${y}`).join(" "));
    map.append(outline);
  });
  addEventListener("keydown", (event) => event.key === "Escape" && end());
  addEventListener("pointerup", () => {
    const drawn = corners ?? [];
    end();
    if (drawn.length < 3) return;
    const step = Math.ceil(drawn.length / CORNERS);
    const share = (value, size) => Math.min(1.01, Math.max(-0.01, (value - MARGIN) / (size - 2 * MARGIN))).toFixed(3);
    const kept = drawn.filter((_, place) => place % step === 0);
    const area = kept.map(({ x, y }) => `${share(x, width)},${share(height - y, height)}`).join(" ");
    location.assign(`/pages/samples?${new URLSearchParams({ area, upto: map.dataset.upto })}`);
  });
}

for (const map of document.querySelectorAll("svg[data-upto]")) lasso(map);

async function renew(part) {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const newer = page.getElementById(part.id);
  if (newer === null) return location.reload(); // what ran has ended
  part.replaceWith(document.importNode(newer, true));
}

setInterval(() => {
  const part = document.querySelector("[data-live]");
  if (part !== null && !document.hidden) renew(part).catch(() => {});
}, 5000);
