// The upload pages: a zip (or any file, as a dataset) dropped or chosen is sent in pieces by tus 1.0, and goes on where it broke off.
// Without this script the page's form works too.
"use strict";

const PIECE = 8 * 1024 * 1024;  // a proxy that keeps bodies to itself hands on whole pieces only
const WAITS = [0.5, 1, 2, 4, 8, 15];  // seconds
const PATIENCE = 10 * 60 * 1000;  // ms without a byte that got through
const PASSING = new Set([423, 502, 503, 504]);  // answers that say: not now
const KNOWN = "nias-upload";  // where the browser remembers which upload of which file is under way

const mb = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

class Refused extends Error {
  constructor(problem) {
    super(problem?.detail ?? "The gateway could not take it. Please try again.");
    this.problems = problem?.problems;
  }
}
class Broken extends Error {}  // the connection, or the gateway for now: the same can work later

/** One request; rejects with Refused, Broken, or the signal's reason. */
function ask(method, address, { headers = {}, body = null, signal, sent = () => {} }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open(method, address);
    for (const [name, value] of Object.entries({ Accept: "application/json", ...headers })) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => sent(event.loaded));
    request.addEventListener("load", () => {
      if (request.status < 300) resolve(request);
      else if (PASSING.has(request.status) || request.status === 409 && method === "PATCH") reject(new Broken());
      else reject(Object.assign(new Refused(request.response), { status: request.status }));
    });
    request.addEventListener("error", () => reject(new Broken()));
    request.addEventListener("abort", () => reject(signal.reason));
    request.addEventListener("loadend", () => signal.removeEventListener("abort", stop));
    signal.addEventListener("abort", stop);
    if (signal.aborted) reject(signal.reason);
    else request.send(body);
  });
}

/** Resolves after so many ms, or when the browser finds its network again. */
function wait(ms, signal) {
  return new Promise((resolve, reject) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      signal.removeEventListener("abort", done);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener("online", done);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}

/** One file on its way: `progress` is told how many bytes are there, `broken` whether the connection is. */
class Sender {
  constructor(file, { kind, uploads, token, signal, progress, broken }) {
    Object.assign(this, { kind, file, uploads, signal, progress, broken });
    this.headers = { "Tus-Resumable": "1.0.0", "X-CSRFToken": token };
    this.print = `${kind} ${file.name} ${file.size} ${file.lastModified}`;
    this.address = null;
    this.offset = 0;
  }

  /** Does what may fail for a while until it works. */
  async stubbornly(what) {
    let tries = 0, reached = this.offset, since = Date.now();
    for (;;) {
      try {
        const answer = await what();
        if (tries) this.broken(false);
        return answer;
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        if (this.offset > reached) { reached = this.offset; since = Date.now(); tries = 0; }
        if (Date.now() - since > PATIENCE) throw new Refused({ detail: "The connection broke off and did not come back. Choose the same file again: it goes on where it was." });
        this.broken(true);
        await wait(1000 * WAITS[Math.min(tries++, WAITS.length - 1)], this.signal);
      }
    }
  }

  /** Resolves with the id of the upload, once all of it is there. */
  async send() {
    await this.stubbornly(() => this.find());
    await this.stubbornly(async () => {
      await this.look();
      this.broken(false);
      while (this.offset < this.file.size) await this.piece();
    });
    return this.address.split("/").pop();
  }

  /** The upload that this file began before, or a new one. */
  async find() {
    const known = JSON.parse(localStorage.getItem(KNOWN) ?? "null");
    if (known?.print === this.print) {
      this.address = known.address;
      try { return await this.look(); } catch (error) { if (error.status !== 404) throw error; }
    }
    const headers = { ...this.headers, "Upload-Length": this.file.size, "Upload-Metadata": `filename ${base64(this.file.name)},kind ${base64(this.kind)}` };
    this.address = (await ask("POST", this.uploads, { headers, signal: this.signal })).getResponseHeader("Location");
    localStorage.setItem(KNOWN, JSON.stringify({ print: this.print, address: this.address }));
  }

  async look() {
    const answer = await ask("HEAD", this.address, { headers: this.headers, signal: this.signal });
    this.offset = Number(answer.getResponseHeader("Upload-Offset"));
    this.progress(this.offset);
  }

  async piece() {
    const start = this.offset;
    const answer = await ask("PATCH", this.address, {
      headers: { ...this.headers, "Upload-Offset": start, "Content-Type": "application/offset+octet-stream" },
      body: this.file.slice(start, start + PIECE),
      signal: this.signal,
      sent: (bytes) => this.progress(start + bytes),
    });
    this.offset = Number(answer.getResponseHeader("Upload-Offset"));
    this.progress(this.offset);
  }

  forget() { localStorage.removeItem(KNOWN); }

  /** The gateway need not keep what it has. */
  end() {
    this.forget();
    if (this.address) fetch(this.address, { method: "DELETE", headers: this.headers, keepalive: true }).catch(() => {});
  }
}

function watchUpload(form) {
  const input = form.elements.file, drop = form.querySelector("[data-drop]");
  const sending = form.querySelector("[data-sending]"), send = form.querySelector("[data-send]");
  const bar = sending.querySelector("progress"), stage = sending.querySelector("[data-stage]");
  const amount = sending.querySelector("[data-amount]"), abort = sending.querySelector("[data-abort]");
  const error = document.getElementById("upload-error");
  const kind = form.dataset.upload || "project", isProject = kind === "project";
  let stopped = null;
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
    if (isProject && !/\.zip$/i.test(file.name)) return refuse(`“${file.name}” is not a zip. Zip the project’s folder and choose that.`);
    if (file.size > most) return refuse(`The file has ${mb(file.size)}; this site takes at most ${mb(most)}.`);
    sending.querySelector("[data-name]").textContent = file.name;
    amount.textContent = mb(file.size);
    bar.value = 0;
    stage.textContent = "Sending …";
    show(true);
    abort.focus();
    stopped = new AbortController();
    deliver(file, stopped.signal);
  };

  const deliver = async (file, signal) => {
    const token = form.elements.csrf_token.value;
    const sender = new Sender(file, {
      kind, uploads: form.dataset.uploads, token, signal,
      progress: (bytes) => {
        bar.value = (100 * bytes) / file.size;
        amount.textContent = `${mb(bytes)} of ${mb(file.size)}`;
      },
      broken: (isBroken) => {
        stage.textContent = isBroken ? "The connection broke off. Nothing that was sent is lost; trying again …" : "Sending …";
      },
    });
    try {
      const fields = new FormData(form);
      fields.delete("file");
      fields.set("upload", await sender.send());
      stage.textContent = "Looking into it …";
      const found = await sender.stubbornly(() => ask("POST", form.action, { body: fields, signal }));
      sender.forget();
      location.assign(found.response.location);
    } catch (error) {
      if (signal.aborted) {
        sender.end();
        show(false);
        input.value = "";
        input.focus();
      } else refuse(error.message, error.problems);
    }
  };

  abort.addEventListener("click", () => stopped?.abort());
  form.addEventListener("submit", (event) => { event.preventDefault(); start(); });
  // A dataset has a name, to be looked at before it is sent.
  const chosen = () => {
    if (isProject) return start();
    const name = form.elements.name;
    if (!name.value && input.files[0]) {
      name.value = input.files[0].name.replace(/\.zip$/i, "").normalize("NFKD").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 64);
    }
    name.focus();
  };
  input.addEventListener("change", chosen);
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length !== 1) return refuse(`Drop one ${isProject ? "zip" : "file"}.`);
    input.files = event.dataTransfer.files;
    chosen();
  });
  // Coming back by the browser's Back must not show a finished progress bar.
  addEventListener("pageshow", (event) => { if (event.persisted) { show(false); input.value = ""; } });
}

document.querySelectorAll("[data-upload]").forEach(watchUpload);
