// The page asks the control API of the program that serves it, and nobody else. It holds the token
// for as long as its tab is open.

const API = "/api/v1";
const SHOWN = 50; // cards at a time: more are neither read nor drawn well
const STALE = 5000; // milliseconds without a word after which what is shown is called old
const KEPT = 1200; // samples in a chart
const LINES = 100; // in each log
const COUNTS = ["received", "completed", "discarded", "failed", "diverted", "cancelled", "skipped",
  "in_flight", "retried"];

const byId = id => document.getElementById(id);
const clock = seconds => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
const shown = tokens => tokens === null ? "no limit" : String(tokens);
const number = value => value.toLocaleString("en").replaceAll(",", "\u202f");
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const cards = new Map(); // by the name of the limiter
const runs = new Map(); // by id
let heard = 0; // when the program was last heard of, in milliseconds
let lastEvent = "";
let listening = new AbortController();
let readOnly = false;

// ---- the token ----

const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) sessionStorage.setItem("token", given);
if (location.hash) history.replaceState(null, "", location.pathname);
const token = () => sessionStorage.getItem("token") ?? "";

byId("token-form").addEventListener("submit", event => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value);
  byId("token").value = "";
  start();
});

// ---- asking ----

function request(path, options = {}) {
  const headers = token() ? { authorization: `Bearer ${token()}` } : {};
  return fetch(API + path, { ...options, headers: { ...headers, ...options.headers } });
}

async function ask(path, method = "GET", order) {
  const body = order === undefined ? undefined : JSON.stringify(order);
  const reply = await request(path, { method, body });
  const answer = await reply.json();
  if (!reply.ok) throw new Error(answer.error);
  return answer;
}

const tell = text => { byId("notice").textContent = text; };

async function order(path, method, what) {
  try {
    await ask(path, method, what);
    tell("");
  } catch (error) {
    tell(error.message);
  }
}

for (const button of document.querySelectorAll("[data-all]")) {
  button.addEventListener("click", () => order(`/${button.dataset.all}`, "POST", {}));
}

// ---- one limiter ----

function makeCard(state) {
  const node = byId("limiter").content.firstElementChild.cloneNode(true);
  const find = selector => node.querySelector(selector);
  const card = {
    name: state.name, state, node, find, box: find(".chart"), plot: null, resized: null,
    data: [[], [], [], [], []], decisions: [], path: `/limiters/${encodeURIComponent(state.name)}`,
  };
  find("h3").textContent = state.name;
  node.setAttribute("aria-label", `Limiter ${state.name}`);
  find("[name=limit]").value = state.limit ?? "";
  for (const button of node.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => order(`${card.path}/${button.dataset.do}`, "POST", {}));
  }
  find("form").addEventListener("submit", event => {
    event.preventDefault();
    const note = find("[name=note]").value.trim();
    const limit = find("[name=limit]").valueAsNumber;
    order(card.path, "PATCH", note ? { limit, note } : { limit });
  });
  cards.set(state.name, card);
  byId("limiters").append(node);
  lock(node);
  fill(card);
  return card;
}

// What was before the page was opened, and the chart.
async function fill(card) {
  try {
    const [past, decisions] = await Promise.all(
      [ask(`${card.path}/history?points=600`), ask(`${card.path}/decisions`)]);
    const ceiling = past.times.map(() => card.state.ceiling);
    card.data = [past.times, past.limit, past.running, past.waiting, ceiling];
    card.decisions = decisions;
    explain(card, decisions.at(-1));
    draw(card);
  } catch (error) {
    tell(error.message);
  }
}

function draw(card) {
  if (typeof uPlot === "undefined") {
    card.box.classList.add("none");
    card.box.textContent = "";
    return;
  }
  card.plot = makeChart(card);
  card.resized = new ResizeObserver(
    () => card.plot.setSize({ width: card.box.clientWidth, height: 150 }));
  card.resized.observe(card.box);
}

function makeChart(card) {
  const line = (name, more) => ({
    stroke: () => colour(name), width: 1.5, points: { show: false }, ...more });
  const axis = more => ({
    stroke: () => colour("--soft"), grid: { stroke: () => colour("--line"), width: 1 },
    ticks: { show: false }, font: "11px system-ui", ...more });
  const stepped = uPlot.paths.stepped({ align: 1 });
  const times = (_, seconds) => seconds.map(clock);
  return new uPlot({
    width: card.box.clientWidth, height: 150, legend: { show: false }, padding: [8, 8, 0, 0],
    cursor: { sync: { key: "time" }, y: false },
    scales: { y: { range: (_, low, high) => [0, Math.max(1, high * 1.15)] } },
    axes: [
      axis({ size: 24, space: 80, values: times }),
      axis({ size: 38, space: 30, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000] })],
    series: [
      {}, line("--limit", { paths: stepped }), line("--running", { fill: () => colour("--area") }),
      line("--waiting", { dash: [4, 3] }), line("--ceiling", { dash: [2, 4], width: 1 })],
    hooks: { draw: [plot => drawMarks(plot, card)] },
  }, card.data, card.box);
}

// A mark for each decision that was applied: it points to where the limit went.
function drawMarks(plot, card) {
  const canvas = plot.ctx;
  const size = 4 * devicePixelRatio;
  canvas.save();
  canvas.fillStyle = colour("--mark");
  for (const decision of card.decisions) {
    if (!decision.applied || decision.after === null || decision.time < plot.scales.x.min) continue;
    const x = plot.valToPos(decision.time, "x", true);
    const y = plot.valToPos(decision.after, "y", true);
    const up = decision.after > decision.before ? -size : size;
    canvas.beginPath();
    canvas.moveTo(x, y + up);
    canvas.lineTo(x - size, y - up);
    canvas.lineTo(x + size, y - up);
    canvas.closePath();
    canvas.fill();
  }
  canvas.restore();
}

function explain(card, decision) {
  if (decision) card.find(".why").textContent = `${clock(decision.time)}  ${decision.text}`;
}

function update(card, state) {
  card.state = state;
  card.find(".running").textContent = state.running;
  card.find(".limit").textContent = shown(state.limit);
  card.find(".waiting").textContent = state.waiting ? `, ${number(state.waiting)} waiting` : "";
  card.find("[data-do=pause]").textContent = state.paused ? "Resume" : "Pause";
  card.find("[data-do=pause]").dataset.do = "pause";
  if (state.paused) card.find("[data-do=pause]").dataset.do = "resume";
  else if (card.find("[data-do=resume]")) card.find("[data-do=resume]").dataset.do = "pause";
  card.find("[data-do=release]").hidden = state.override === null;
  card.box.setAttribute("aria-label", `${state.name}: ${state.running} running, limit ` +
    `${shown(state.limit)}, ${state.waiting} waiting, ceiling ${shown(state.ceiling)}`);
}

// ---- what limits it now ----

const BOUNDS = {
  cap: "signals have put its limit there", policy: "the policy has put its limit there",
  override: "somebody has set its limit", pause: "it is paused", withheld: "refused calls withhold tokens",
  breaker: "the breaker sees an outage",
};

function whatLimits(state) {
  if (state.paused) return "It is paused: nothing begins.";
  const why = BOUNDS[state.limited_by] ?? `the bound is ${state.limited_by}`;
  if (state.limit !== null && state.running >= state.limit) {
    if (state.waiting) return `The limit holds it back: ${number(state.waiting)} wait, and ${why}.`;
    return `All of its tokens are in use: ${why}.`;
  }
  const steps = [...runs.values()].filter(run => run.state !== "ended")
    .flatMap(run => run.steps).filter(step => step.limiter === state.name);
  if (!steps.length) return "Tokens are free: there is not enough to do.";
  if (steps.some(step => step.window !== null && step.in_flight >= step.window)) {
    return "Tokens are free: what comes after it is slower, or items wait for another try.";
  }
  if (steps.some(step => step.queued > step.waiting)) return "Tokens are free: items wait for a rate.";
  return "Tokens are free: the source, or the step before it, is slower.";
}

function tick() {
  const now = Date.now();
  const isLost = now - heard > STALE;
  document.body.classList.toggle("stale", isLost);
  byId("link").classList.toggle("lost", isLost);
  if (heard) byId("link").textContent = isLost
    ? `not live: this is how it was at ${clock(heard / 1000)}` : `live, ${clock(heard / 1000)}`;
  if (isLost) return;
  for (const card of cards.values()) {
    card.find(".limits").textContent = whatLimits(card.state);
    if (!card.plot) continue;
    const { limit, running, waiting, ceiling } = card.state;
    [now / 1000, limit, running, waiting, ceiling].forEach((value, row) => card.data[row].push(value));
    if (card.data[0].length > KEPT) card.data.forEach(row => row.splice(0, KEPT / 6));
    if (!document.hidden) card.plot.setData(card.data);
  }
}

// ---- runs ----

function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function tableOf(run) {
  const table = document.createElement("table");
  const done = run.steps.at(-1);
  const share = run.total && done ? `, ${number(done.completed + done.skipped)} of ${number(run.total)}` : "";
  table.createCaption().textContent = `${run.id}: ${run.state}${share}`;
  const head = table.createTHead().insertRow();
  for (const title of ["step", ...COUNTS]) {
    head.append(Object.assign(element("th", title.replace("_", " ")), { scope: "col" }));
  }
  const body = table.createTBody();
  for (const step of run.steps) {
    const row = body.insertRow();
    row.append(Object.assign(element("th", step.name), { scope: "row" }));
    for (const count of COUNTS) {
      row.append(element("td", number(step[count]), count === "failed" && step[count] ? "bad" : ""));
    }
  }
  return table;
}

function showRuns() {
  byId("runs").replaceChildren(...[...runs.values()].map(tableOf));
}

function keepRun(run) {
  runs.set(run.id, { ...runs.get(run.id), ...run });
  for (const [id, old] of runs) {
    if (runs.size <= 20) break;
    if (old.state === "ended") runs.delete(id);
  }
}

// ---- the logs ----

function note(log, time, text, className) {
  const line = element("p", "", className);
  line.append(element("time", time === null ? "" : clock(time)), text);
  log.prepend(line);
  while (log.children.length > LINES) log.lastChild.remove();
}

function noteDecision(decision) {
  note(byId("log"), decision.time, `${decision.limiter}: ${decision.text}`, decision.applied ? "" : "refused");
  const card = cards.get(decision.limiter);
  if (!card) return;
  card.decisions.push(decision);
  explain(card, decision);
}

function noteError(error) {
  const where = [error.run, error.step, ...error.identifiers].filter(Boolean).join(" · ");
  note(byId("errors"), error.time, `${where}: ${error.text}`, "bad");
}

// ---- what the program tells ----

const HEARD = {
  state(state) {
    for (const name of state.gone) removeCard(name);
    for (const limiter of state.limiters) {
      const card = cards.get(limiter.name) ?? (wanted(limiter.name) ? makeCard(limiter) : null);
      if (card) update(card, limiter);
    }
    state.runs.forEach(run => keepRun({ ...run, errors: undefined }));
    if (state.runs.length) showRuns();
  },
  decision: noteDecision,
  error: noteError,
  run(run) { keepRun(run); showRuns(); },
  omitted(what) { tell(`${what.number} events were missed.`); },
  bye() { tell("The program has left its turnstile."); },
};

const wanted = name => cards.size < SHOWN && name.includes(byId("search").value);

function removeCard(name) {
  const card = cards.get(name);
  if (!card) return;
  card.resized?.disconnect();
  card.plot?.destroy();
  card.node.remove();
  cards.delete(name);
}

function hear(block) {
  let kind = "";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) kind = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
    else if (line.startsWith("id: ")) lastEvent = line.slice(4);
  }
  heard = Date.now();
  if (kind in HEARD) HEARD[kind](JSON.parse(data));
}

async function listen(signal) {
  const names = [...cards.keys()];
  const some = names.length >= SHOWN && names.every(name => !name.includes(","));
  const query = some ? `?limiters=${encodeURIComponent(names.join(","))}` : "";
  const headers = lastEvent ? { "last-event-id": lastEvent } : {};
  const reply = await request(`/events${query}`, { headers, signal });
  if (!reply.ok) throw new Error((await reply.json()).error);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    blocks.forEach(hear);
  }
}

// ---- beginning ----

async function load() {
  const like = byId("search").value;
  const [service, limiters, all] = await Promise.all([
    ask("/"), ask(`/limiters?like=${encodeURIComponent(like)}&limit=${SHOWN}`), ask("/runs")]);
  readOnly = service.read_only;
  byId("title").textContent = `${service.run.name} · process ${service.run.pid} on ${service.run.host}`;
  document.title = service.run.name;
  byId("more").textContent = limiters.length < SHOWN ? ""
    : `These are the first ${SHOWN} by name. Search for others.`;
  for (const name of [...cards.keys()]) {
    if (!limiters.some(limiter => limiter.name === name)) removeCard(name);
  }
  for (const limiter of limiters) update(cards.get(limiter.name) ?? makeCard(limiter), limiter);
  byId("errors").replaceChildren();
  all.forEach(keepRun);
  all.flatMap(run => run.errors).sort((one, other) => one.time - other.time).forEach(noteError);
  showRuns();
  lock(document);
}

function lock(root) {
  const off = readOnly || !token();
  for (const control of root.querySelectorAll("[data-all], article button, article input")) {
    control.disabled = off;
  }
}

async function start() {
  listening.abort();
  const mine = listening = new AbortController();
  for (let wait = 1000; !mine.signal.aborted; wait = Math.min(2 * wait, 10000)) {
    try {
      await load();
      tell("");
      wait = 1000;
      await listen(mine.signal);
    } catch (error) {
      if (mine.signal.aborted) return;
      tell(heard || token() ? error.message : "Enter the token that the program has printed.");
      if (!token()) return;
    }
    await new Promise(done => setTimeout(done, wait));
  }
}

let typing = 0;
byId("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(start, 250);
});

setInterval(tick, 1000);
start();
