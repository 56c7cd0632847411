// Live pages without a framework: parts that refresh, the log that grows, the upload's progress.
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

async function ask(url, etag) {
  try {
    const headers = etag ? { "If-None-Match": etag } : {};
    const answer = await fetch(url, { headers, cache: "no-store" });
    if (answer.status === 401) location.reload(); // signed out meanwhile: the page says so
    offline.hidden = answer.ok || answer.status === 304 || answer.status < 500;
    return answer;
  } catch {
    offline.hidden = false;
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
    const answer = await ask(root.dataset.refresh, etag);
    if (answer?.status === 404) return;
    if (!answer?.ok) { if (answer?.status !== 304) await pause(3000); continue; }
    etag = answer.headers.get("ETag");
    const page = document.createElement("template");
    page.innerHTML = await answer.text();
    for (const part of page.content.querySelectorAll("[data-part]")) {
      const here = document.getElementById(part.id);
      if (here) sync(here, part);
    }
    if (page.content.querySelector("[data-ended]")) root.setAttribute("data-ended", "");
    tick();
  }
}

// ---- The upload: dropped or chosen, with its progress; without this script the form works too -

const mb = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function watchUpload(form) {
  const input = form.elements.file, drop = form.querySelector("[data-drop]");
  const sending = form.querySelector("[data-sending]"), send = form.querySelector("[data-send]");
  const bar = sending.querySelector("progress"), stage = sending.querySelector("[data-stage]");
  const amount = sending.querySelector("[data-amount]"), abort = sending.querySelector("[data-abort]");
  const error = document.getElementById("upload-error");
  let request = null;
  drop.classList.add("can-drop");

  const show = (isSending) => { sending.hidden = !isSending; drop.hidden = send.hidden = isSending; };
  const refuse = (sentence, problems = []) => {
    show(false);
    const list = error.querySelector("[data-problems]");
    list.replaceChildren(...problems.map((problem) => {
      const line = document.createElement("li");
      line.textContent = problem;
      return line;
    }));
    list.hidden = !problems.length;
    error.querySelector("[data-sentence]").textContent = problems.length ? "" : sentence;
    error.hidden = false;
    input.value = "";
    input.focus();
  };

  const start = () => {
    const file = input.files[0], most = Number(form.dataset.maxBytes);
    if (!file) return;
    error.hidden = true;
    if (!/\.zip$/i.test(file.name)) return refuse(`“${file.name}” is not a zip. Zip the project’s folder and choose that.`);
    if (file.size > most) return refuse(`The file has ${mb(file.size)}; this site takes at most ${mb(most)}.`);
    sending.querySelector("[data-name]").textContent = file.name;
    amount.textContent = mb(file.size);
    bar.value = 0;
    stage.textContent = "Sending …";
    show(true);
    abort.focus();
    request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      bar.value = (100 * event.loaded) / event.total;
      amount.textContent = `${mb(event.loaded)} of ${mb(event.total)}`;
    });
    request.upload.addEventListener("load", () => { stage.textContent = "Looking into it …"; });
    request.addEventListener("load", () => {
      if (request.status < 300) location.assign(request.response.location);
      else refuse(request.response?.detail ?? "The gateway could not take it. Please try again.", request.response?.problems);
    });
    request.addEventListener("error", () => refuse("The connection broke off. Nothing was kept; please try again."));
    request.addEventListener("abort", () => { show(false); input.value = ""; input.focus(); });
    request.send(new FormData(form));
  };

  abort.addEventListener("click", () => request?.abort());
  form.addEventListener("submit", (event) => { event.preventDefault(); start(); });
  input.addEventListener("change", start);
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length !== 1) return refuse("Drop one zip.");
    input.files = event.dataTransfer.files;
    start();
  });
  // Coming back by the browser's Back must not show a finished progress bar.
  addEventListener("pageshow", (event) => { if (event.persisted) { show(false); input.value = ""; } });
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
document.querySelectorAll("[data-upload]").forEach(watchUpload);
document.querySelectorAll("[data-copy]").forEach(addCopyButton);
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});
