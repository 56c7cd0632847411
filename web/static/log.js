// A run’s log as a terminal would show it: by offset, following its end. Text never becomes HTML.

const LINE_SHOWN = 4000; // characters of a line; what is more is counted
const KEPT = 1_000_000; // characters on the page
const EVERY = 700; // milliseconds between two looks
const TOKENS = /\x1b\[([0-?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[PX^_][^\x1b]*\x1b\\|\x1b[ -/]*[0-OQ-WYZ`-~]|[\r\n]|([^\x00-\x08\x0a-\x1f\x7f-\x9f]+)|[^]/g;
const UNFINISHED = /\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]{0,2000}\x1b?|[ -/]*)?$/;

// ---- Colours: 256 and true ones become the nearest of the sixteen that have a class -------------

const SIXTEEN = [[0, 0, 0], [205, 0, 0], [0, 205, 0], [205, 205, 0], [0, 0, 238], [205, 0, 205], [0, 205, 205], [229, 229, 229],
  [127, 127, 127], [255, 0, 0], [0, 255, 0], [255, 255, 0], [92, 92, 255], [255, 0, 255], [0, 255, 255], [255, 255, 255]];

function nearest(rgb) {
  const far = SIXTEEN.map((one) => one.reduce((sum, value, n) => sum + (value - rgb[n]) ** 2, 0));
  return far.indexOf(Math.min(...far));
}

function ofPalette(n) {
  if (n < 16) return n;
  if (n >= 232) return nearest(Array(3).fill(8 + 10 * (n - 232)));
  const step = (value) => (value ? 55 + 40 * value : 0);
  return nearest([Math.floor((n - 16) / 36), Math.floor((n - 16) / 6) % 6, (n - 16) % 6].map(step));
}

// What each code changes in the pen; of `front` and `back` there is a colour, of the rest yes or no.
const CODES = { 1: { bold: true }, 2: { dim: true }, 3: { italic: true }, 4: { under: true }, 7: { turned: true }, 9: { struck: true },
  22: { bold: false, dim: false }, 23: { italic: false }, 24: { under: false }, 27: { turned: false }, 29: { struck: false },
  39: { front: null }, 49: { back: null } };
const BLANK = { front: null, back: null, bold: false, dim: false, italic: false, under: false, turned: false, struck: false };

function change(pen, words) {
  const codes = words.replace(/([34]8):2:\d*:(?=\d+:\d+:\d+)/g, "$1;2;").split(/[;:]/).map(Number);
  for (let n = 0; n < codes.length; n++) {
    const code = codes[n];
    if (code === 0) Object.assign(pen, BLANK);
    else if (code === 38 || code === 48) {
      const where = code === 38 ? "front" : "back";
      if (codes[n + 1] === 5) { pen[where] = ofPalette(codes[n + 2] & 255); n += 2; }
      else if (codes[n + 1] === 2) { pen[where] = nearest(codes.slice(n + 2, n + 5)); n += 4; }
    } else if (code in CODES) Object.assign(pen, CODES[code]);
    else if (code >= 30 && code <= 37) pen.front = code - 30;
    else if (code >= 40 && code <= 47) pen.back = code - 40;
    else if (code >= 90 && code <= 97) pen.front = code - 82;
    else if (code >= 100 && code <= 107) pen.back = code - 92;
  }
}

function classesOf(pen) {
  const [front, back] = pen.turned ? [pen.back, pen.front ?? 7] : [pen.front, pen.back];
  return [front !== null && `front-${front}`, back !== null && `back-${back}`,
    ...["bold", "dim", "italic", "under", "struck"].map((word) => pen[word] && `pen-${word}`)].filter(Boolean).join(" ");
}

// ---- The screen: finished lines are added once, the last one is drawn anew ---------------------

function screenOf(box) {
  const pen = { ...BLANK }, last = document.createElement("span");
  let look = "", carried = "", line, returned = false, blocks = [], size = 0;
  const begin = () => { line = { parts: [], length: 0, more: 0 }; returned = false; };
  const put = (parts, classes, text) => {
    if (parts.length && parts.at(-1)[0] === classes) parts.at(-1)[1] += text;
    else parts.push([classes, text]);
  };
  const finish = (parts) => {
    for (const [classes, text] of line.parts) put(parts, classes, text);
    if (line.more) put(parts, "log-more", ` … ${line.more.toLocaleString("en")} more`);
  };
  const nodes = (parts) => parts.map(([classes, text]) => {
    if (!classes) return document.createTextNode(text);
    const span = document.createElement("span");
    span.className = classes;
    span.textContent = text;
    return span;
  });

  const write = (text) => {
    const whole = carried + text, done = [];
    carried = UNFINISHED.exec(whole)?.[0] ?? "";
    for (const [token, words, end, plain] of whole.slice(0, whole.length - carried.length).matchAll(TOKENS)) {
      if (token === "\n") { finish(done); put(done, "", "\n"); begin(); }
      else if (token === "\r") returned = true;
      else if (end === "m") { change(pen, words || "0"); look = classesOf(pen); }
      else if (plain) {
        if (returned) begin(); // what follows a return takes the line’s place
        const shown = plain.slice(0, LINE_SHOWN - line.length);
        if (shown) put(line.parts, look, shown);
        line.length += shown.length;
        line.more += plain.length - shown.length;
      }
    }
    if (done.length) {
      const block = document.createElement("span");
      block.append(...nodes(done));
      last.before(block);
      blocks.push(block);
      size += block.textContent.length;
    }
    const drawn = [];
    finish(drawn);
    last.replaceChildren(...nodes(drawn));
  };
  // Forgets the oldest lines where there are too many; says whether it did.
  const shorten = () => {
    if (size <= KEPT) return false;
    while (size > KEPT / 2 && blocks.length > 1) { const old = blocks.shift(); size -= old.textContent.length; old.remove(); }
    return true;
  };
  const clear = () => { Object.assign(pen, BLANK); look = carried = ""; size = 0; blocks = []; begin(); box.replaceChildren(last); };
  clear();
  return { write, shorten, clear };
}

// ---- Following -----------------------------------------------------------------------------

async function followLog(box) {
  const follow = document.getElementById("log-follow"), cut = document.getElementById("log-cut");
  const first = box.textContent, screen = screenOf(box);
  let offset = Number(box.dataset.offset), drawing = false;
  const atEnd = () => box.scrollHeight - box.scrollTop - box.clientHeight < 24;
  const toEnd = () => { box.scrollTop = box.scrollHeight; };
  const show = (text) => {
    const stay = !atEnd();
    drawing = true;
    screen.write(text);
    if (!stay && screen.shorten()) cut.hidden = false;
    if (!stay) toEnd();
    drawing = false;
  };
  show(first);
  toEnd();
  box.addEventListener("scroll", () => { if (!drawing) follow.hidden = atEnd() || box.hasAttribute("data-ended"); });
  follow.addEventListener("click", () => { toEnd(); box.focus(); });
  while (!box.hasAttribute("data-ended")) {
    await pause(EVERY);
    await seen();
    const answer = await ask(`${box.dataset.log}?offset=${offset}&limit=262144`);
    if (!answer?.ok) { await pause(3000); continue; }
    let part = JSON.parse(answer.text);
    if (part.size - part.next_offset > 1_000_000) { // far behind: go where it is written now
      part = JSON.parse((await ask(`${box.dataset.log}?offset=-1`)).text);
      screen.clear();
      cut.hidden = false;
    }
    if (part.text) show(part.text);
    const stuck = part.next_offset === offset;
    offset = part.next_offset;
    if (part.ended && (offset >= part.size || stuck)) { box.setAttribute("data-ended", ""); follow.hidden = true; }
  }
}

document.querySelectorAll("[data-log]").forEach(followLog);
