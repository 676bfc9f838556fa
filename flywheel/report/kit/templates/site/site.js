"use strict";
// Sends a selection of samples to annotators, and keeps what runs up to date. Pages work without it.

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
