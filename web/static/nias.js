// Live pages without a framework: parts that refresh, the form of a held upload, small things.
"use strict";

// ---- Times: the same words as nias_bridge/http/formats.py -------------------------------------

function relative(then) {
  const seconds = (Date.now() - then) / 1000, size = Math.abs(seconds), past = seconds >= 0;
  if (size < 60) return past ? "just now" : "in a moment";
  let words;
  if (size < 3600) words = `${Math.floor(size / 60)} min`;
  else if (size < 86400) words = `${Math.floor(size / 3600)} h`;
  else if (size < 30 * 86400) {
    const days = Math.floor(size / 86400);
    words = `${days} day${days > 1 ? "s" : ""}`;
  } else return new Date(then).toISOString().slice(0, 10);
  return past ? `${words} ago` : `in ${words}`;
}

function lasting(since) {
  const seconds = Math.max(0, Math.floor((Date.now() - since) / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

function setText(node, text) { if (node.textContent !== text) node.textContent = text; }

function tick() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const then = Date.parse(time.dateTime);
    setText(time, relative(then));
    const exact = new Date(then).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
    if (time.title !== exact) time.title = exact;
  }
  for (const span of document.querySelectorAll("[data-since]")) {
    setText(span, lasting(Date.parse(span.dataset.since)));
  }
}

// ---- Parts that refresh: only what differs is touched, so focus, scroll and selection stay -----

const timeOf = (node) => node.dateTime || node.dataset.since;

function sync(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.matches("time, [data-since]") && timeOf(old) === timeOf(fresh)) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  syncChildren(old, fresh);
}

function syncChildren(old, fresh) {
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    // A row that is already here further down comes up to its place instead of being made anew.
    const known = wanted.id && document.getElementById(wanted.id);
    if (known && known.parentNode === old && known !== at) { old.insertBefore(known, at); at = known; }
    if (!at) { old.append(wanted); continue; }
    const next = at.nextSibling;
    sync(at, wanted);
    at = next;
  }
  while (at) { const next = at.nextSibling; at.remove(); at = next; }
}

const offline = document.getElementById("offline");

// A form that was sent may take away what is asked for, before the page that comes of it is here.
let going = new AbortController();
addEventListener("submit", (event) => { if (!event.defaultPrevented) going.abort(); });
addEventListener("pageshow", () => { going = new AbortController(); });

async function ask(url, options) {
  const { signal } = going;
  try {
    const answer = await fetch(url, { cache: "no-store", signal, ...options });
    if (answer.status === 401) location.reload(); // signed out meanwhile: the page says so
    offline.hidden = answer.ok || answer.status === 304 || answer.status < 500;
    const { ok, status } = answer;
    return { ok, status, etag: answer.headers.get("ETag"), text: ok ? await answer.text() : "" };
  } catch {
    offline.hidden = signal.aborted;
    return null;
  }
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const seen = () => document.visibilityState === "visible"
  ? Promise.resolve()
  : new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));

async function refresh(root) {
  let etag = null;
  while (!root.hasAttribute("data-ended")) {
    await pause(Number(root.dataset.every));
    await seen();
    const url = root.dataset.refresh, answer = await ask(url, { headers: etag ? { "If-None-Match": etag } : {} });
    if (answer?.status === 404) return;
    if (!answer?.ok) { if (answer?.status !== 304) await pause(3000); continue; }
    if (url !== root.dataset.refresh) { etag = null; continue; } // it looks at something else now
    etag = answer.etag;
    fill(root, answer.text);
  }
}

function fill(root, text) {
  const page = document.createElement("template");
  page.innerHTML = text;
  root.toggleAttribute("data-ended", page.content.querySelector("[data-ended]") !== null);
  for (const part of page.content.querySelectorAll("[data-part]")) {
    const here = document.getElementById(part.id);
    if (here) sync(here, part);
  }
  tick();
}

// ---- Links that only change what a part shows are followed in place ---------------------------

async function follow(link) {
  const root = link.closest("[data-refresh]"), { live } = link.dataset, { href } = link;
  root.dataset.refresh = live;
  const answer = await ask(live);
  if (!answer?.ok) { location.assign(href); return; }
  if (root.dataset.refresh !== live) return; // another was chosen meanwhile
  history.replaceState(null, "", href);
  fill(root, answer.text);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-live]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  follow(link);
});

// ---- What the form asks for: each change is told to the gateway, which asks Slurm anew ---------

function watchWish(form) {
  const root = document.getElementById("prospect");
  let soon, turn = 0;

  const tell = async () => {
    const mine = ++turn;
    const answer = await ask(form.dataset.wish, { method: "POST", body: new FormData(form) });
    if (!answer?.ok || mine !== turn) return;
    const stood = root.hasAttribute("data-ended");
    fill(root, answer.text);
    root.dataset.refresh = document.getElementById("before").dataset.live;
    if (stood) refresh(root);
  };

  form.addEventListener("input", () => {
    clearTimeout(soon);
    soon = setTimeout(tell, 300);
  });
}

// ---- Small things ---------------------------------------------------------------------------

function addCopyButton(pre) {
  if (!navigator.clipboard) return;
  const frame = document.createElement("div"), button = document.createElement("button");
  frame.className = "copy-frame";
  button.type = "button";
  button.className = "btn btn-outline-secondary btn-sm";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy: ${pre.getAttribute("aria-label")}`);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(pre.textContent.trim());
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  pre.replaceWith(frame);
  frame.append(pre, button);
}

tick();
setInterval(tick, 1000);
document.querySelectorAll("[data-refresh]").forEach(refresh);
document.querySelectorAll("[data-wish]").forEach(watchWish);
document.querySelectorAll("[data-copy]").forEach(addCopyButton);
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});
