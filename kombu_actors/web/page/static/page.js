// The status page's own script: it puts rows where they belong, counts time, folds and searches the tree, and acts.
// Rows are made and escaped by the server; nothing here makes markup of what it reads.

const RECONNECT = 2000; // milliseconds until a stream that was lost is asked for again
const MANAGED = ["hidden", "open", "aria-expanded"]; // attributes that are the reader's, not the server's
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const byId = (id) => document.getElementById(id);

let ahead = Number(document.body.dataset.now) * 1000 - Date.now(); // the server's clock, less this one

// -- time ------------------------------------------------------------------------------------------------------------

function length(seconds, fine) {
  if (fine && seconds < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
  const whole = Math.max(Math.floor(seconds), 0);
  for (const [size, name, below, part] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / below);
      return `${Math.floor(whole / size)} ${name}${rest ? ` ${rest} ${part}` : ""}`;
    }
  }
  return `${whole} s`;
}

function wording(element, now) {
  const { since, until, at } = element.dataset;
  if (since) return length(now - Number(since));
  if (until) return Number(until) > now ? `in ${length(Number(until) - now, !still)}` : "now";
  return new Date(Number(at) * 1000).toLocaleTimeString();
}

function tick(root, selector = "time") {
  const now = (Date.now() + ahead) / 1000;
  for (const element of root.querySelectorAll(selector)) {
    const words = wording(element, now);
    if (element.textContent !== words) element.textContent = words;
  }
}

setInterval(() => tick(document, "time[data-since]"), 1000);
setInterval(() => tick(document, "time[data-until]"), still ? 1000 : 200);

// -- rows ------------------------------------------------------------------------------------------------------------

function parsed(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.firstElementChild;
}

// Make an element like another one, touching only what differs: focus, selection and what is unfolded stay.
function morph(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !MANAGED.includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !MANAGED.includes(name)) old.setAttribute(name, value);
  }
  const wanted = [...fresh.childNodes];
  wanted.forEach((node, index) => {
    const there = old.childNodes[index];
    if (!there) old.append(node);
    else if (there.nodeName !== node.nodeName) there.replaceWith(node);
    else if (node.nodeType === Node.ELEMENT_NODE) morph(there, node);
    else if (there.data !== node.data) there.data = node.data;
  });
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

function put([container, id, after, html]) {
  const fresh = parsed(html);
  tick(fresh);
  let row = byId(id);
  if (row) morph(row, fresh);
  else row = fresh;
  const place = byId(container);
  const before = after === null ? null : byId(after);
  if (row.parentElement === place && row.previousElementSibling === before) return;
  place.insertBefore(row, before ? before.nextElementSibling : place.firstElementChild);
}

function apply({ now, put: rows, gone, frame }) {
  ahead = now * 1000 - Date.now();
  for (const id of gone) byId(id)?.remove();
  rows.forEach(put);
  if (frame) document.body.dataset.stamp = frame;
  const state = document.querySelector("#verdict strong")?.textContent;
  document.title = `${state} \u00b7 ${document.body.dataset.fleet}`;
  if (gone.length || rows.some(([container]) => container === "tree")) arrange();
}

// -- the stream ------------------------------------------------------------------------------------------------------

let whole = true; // whether what is shown is one frame, and not half of the next

function listen() {
  const since = whole ? document.body.dataset.stamp : "";
  const source = new EventSource(`page/stream?since=${encodeURIComponent(since)}`);
  source.onopen = () => (byId("connection").hidden = true);
  source.onmessage = (event) => {
    const piece = JSON.parse(event.data);
    apply(piece);
    whole = Boolean(piece.frame);
  };
  source.onerror = () => {
    source.close();
    byId("connection").hidden = false;
    setTimeout(listen, RECONNECT);
  };
}

// A page that comes back from the browser's cache has no stream any more.
addEventListener("pageshow", (event) => event.persisted && location.reload());

// -- the tree --------------------------------------------------------------------------------------------------------

const search = byId("tree-search");
const unwell = byId("tree-unwell");
const chosen = new Map(); // by a row's id, whether its reader has folded it
const isFolded = (row) => chosen.get(row.id) ?? "folded" in row.dataset;

function arrange() {
  const rows = [...byId("tree").rows];
  const words = search.value.trim().toLowerCase();
  const shown = new Set();
  const folded = new Set();
  if (words || unwell.checked) {
    for (const row of [...rows].reverse()) { // children come before their parents, who are shown for their sake
      const meant = row.dataset.words.includes(words) && !(unwell.checked && "well" in row.dataset);
      if (meant || shown.has(row.id)) {
        shown.add(row.id);
        if (row.dataset.above) shown.add(row.dataset.above);
      }
    }
  } else {
    for (const row of rows) {
      const above = row.dataset.above;
      if (above && folded.has(above)) folded.add(row.id);
      else shown.add(row.id);
      if (isFolded(row)) folded.add(row.id);
    }
  }
  for (const row of rows) {
    row.hidden = !shown.has(row.id);
    row.querySelector(".fold")?.setAttribute("aria-expanded", !isFolded(row));
  }
  const count = `${shown.size} of ${rows.length} shown`;
  if (byId("tree-count").textContent !== count) byId("tree-count").textContent = count;
}

search.addEventListener("input", arrange);
unwell.addEventListener("change", arrange);

// -- acting ----------------------------------------------------------------------------------------------------------

const unlock = byId("unlock");
const KEY = `kombu-actors token of ${document.body.dataset.fleet}`;
const say = (words) => (byId("outcome").textContent = words);

function locked() {
  const token = sessionStorage.getItem(KEY);
  unlock.classList.toggle("open", Boolean(token));
  unlock.elements.token.required = !token;
  unlock.querySelector("button").textContent = token ? "Lock" : "Unlock";
  return !token;
}

unlock?.addEventListener("submit", (event) => {
  event.preventDefault();
  if (sessionStorage.getItem(KEY)) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, unlock.elements.token.value);
  unlock.reset();
  say(locked() ? "Actions are locked in this tab." : "Actions are unlocked in this tab.");
});

const ASKED = {
  restart: ({ path }) => `Restart ${path}? What it has in hand is finished first.`,
  replay: ({ queue, error }) => `Replay dead letters of ${queue}${error ? ` that died of ${error}` : ""}?`,
  reload: () => "Replace each process by a new one, one after the other?",
};

function sure(question, limit) {
  const dialog = byId("sure");
  byId("question").textContent = question;
  dialog.querySelector("label").hidden = !limit;
  dialog.querySelector("input").value = limit ?? "";
  dialog.querySelector("input").disabled = !limit;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

async function perform(button) {
  const { action, ...given } = button.dataset;
  if (locked()) {
    say("Give the token first.");
    unlock.elements.token.focus();
    return;
  }
  if (ASKED[action]) {
    if (!(await sure(ASKED[action](given), given.limit))) return;
    if (given.limit) given.limit = byId("sure").querySelector("input").value;
  }
  say(`${action}: under way`);
  try {
    const answer = await fetch(`page/actions/${action}`, {
      method: "POST",
      headers: { Authorization: `Bearer ${sessionStorage.getItem(KEY)}` },
      body: new URLSearchParams(given),
    });
    const { words } = await answer.json();
    if (answer.status === 401) sessionStorage.removeItem(KEY);
    say(words);
    locked();
  } catch (error) {
    say(`${action}: nobody answered (${error.message})`);
  }
  if (action === "replay") await look(given.queue);
}

async function look(queue) {
  const groups = byId("groups");
  groups.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(`page/letters?queue=${encodeURIComponent(queue)}`);
    const text = await answer.text();
    if (answer.ok) groups.replaceChildren(parsed(text));
    else groups.textContent = text;
  } catch (error) {
    groups.textContent = `Nobody answered: ${error.message}`;
  }
  groups.removeAttribute("aria-busy");
  tick(groups);
}

addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (button?.matches(".fold")) {
    const row = button.closest("tr");
    chosen.set(row.id, !isFolded(row));
    arrange();
  } else if (button?.matches(".act")) {
    await perform(button);
  } else if (button?.matches(".look")) {
    await look(button.dataset.queue);
    byId("groups").focus();
  }
});

// -- begin -----------------------------------------------------------------------------------------------------------

tick(document);
arrange();
if (unlock) locked();
listen();
