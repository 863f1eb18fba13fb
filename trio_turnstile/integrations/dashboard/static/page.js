// The page asks only the control API of the program that serves it. It holds the token for as long
// as its tab is open.

import { Chart, clock } from "./chart.js";

const API = "/api/v1";
const SHOWN = 50; // cards at a time: more are hard to read and slow to draw
const STALE = 5000; // milliseconds without an event after which the page says that it is not live
const [FIRST_WAIT, LONGEST_WAIT] = [1000, 10000]; // milliseconds until it asks again
const LINES = 100; // in each log
const RUNS = 20;
const POINTS = 600; // of the history in a chart
const AGAIN = 400; // seconds after which the history is read again: a chart keeps 1,200 samples
const COUNTS = ["received", "completed", "discarded", "failed", "diverted", "cancelled", "skipped",
  "in_flight", "retried"];

const byId = id => document.getElementById(id);
const shown = tokens => tokens === null ? "no limit" : String(tokens);
const number = value => value.toLocaleString("en").replaceAll(",", "\u202f");

const cards = new Map(); // by the name of the limiter
const runs = new Map(); // by id
let program = null; // the id of the process
let skew = 0; // by how many seconds its clock is ahead of the browser's
let heard = 0; // when it was last heard of, in milliseconds; 0 for never
let lost = true; // whether the connection is lost
let trouble = ""; // why it is lost
let newestError = 0; // errors that the stream repeats are not shown again
let readOnly = false;
let ticks = 0; // since the history was read
let listening = new AbortController();

// ---- the token ----

const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) sessionStorage.setItem("token", given);
if (location.hash) history.replaceState(null, "", location.pathname);
const token = () => sessionStorage.getItem("token");

byId("token-form").addEventListener("submit", event => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value);
  byId("token").value = "";
  start();
});

function askForToken(text) {
  sessionStorage.removeItem("token");
  clear();
  heard = 0;
  byId("title").textContent = document.title = "turnstile";
  byId("token-form").hidden = false;
  byId("main").hidden = true;
  report(text);
}

// ---- asking ----

async function request(path, { method, body, signal } = {}) {
  const headers = { authorization: `Bearer ${token()}` };
  const reply = await fetch(API + path, { method, headers, signal, body: JSON.stringify(body) })
    .catch(error => { throw signal?.aborted ? error : new Error("the program does not answer"); });
  if (reply.ok) return reply;
  const { error } = await reply.json();
  throw Object.assign(new Error(error), { status: reply.status });
}

const ask = async (path, options) => (await request(path, options)).json();

function tell(text, isBad = false) {
  byId("notice").textContent = text;
  byId("notice").classList.toggle("bad", isBad);
}

async function order(path, method = "POST", what = {}) {
  try {
    const answer = await ask(path, { method, body: { by: "page", ...what } });
    tell(Array.isArray(answer) ? sumUp(answer) : `${answer.limiter.name}: ${answer.decision.text}`);
  } catch (error) {
    tell(error.message, true);
  }
}

function sumUp(answers) {
  const applied = answers.filter(answer => answer.applied).length;
  const refused = answers.length - applied;
  return `${number(applied)} limiters changed${refused ? `, ${number(refused)} refused` : ""}.`;
}

for (const button of document.querySelectorAll("[data-all]")) {
  button.addEventListener("click", () => order(`/${button.dataset.all}`));
}

// ---- one limiter ----

function makeCard(state) {
  const node = byId("limiter").content.firstElementChild.cloneNode(true);
  const find = name => node.querySelector(`.${name}`);
  const path = `/limiters/${encodeURIComponent(state.name)}`;
  byId("limiters").append(node);
  const card = { state, node, find, path, chart: new Chart(find("chart")), newest: 0, held: 0 };
  find("name").textContent = state.name;
  node.setAttribute("aria-label", `Limiter ${state.name}`);
  for (const doing of ["down", "up", "release"]) {
    find(doing).addEventListener("click", () => order(`${path}/${doing}`));
  }
  find("pause").addEventListener(
    "click", () => order(`${path}/${card.state.paused ? "resume" : "pause"}`));
  find("set").addEventListener("submit", event => {
    event.preventDefault();
    const { limit, note } = event.target.elements;
    const why = note.value.trim() || undefined;
    order(path, "PATCH", { limit: limit.valueAsNumber, note: why });
  });
  cards.set(state.name, card);
  lock(node);
  return card;
}

// For how many seconds the charts go back; 0 for the samples that the program has in memory.
const range = () => byId("ranges").hidden ? 0 : Number(byId("range").value);

// Reads the history from before the page was opened.
async function fill(card, signal) {
  const seconds = range();
  const since = seconds ? `&since=${Date.now() / 1000 + skew - seconds}` : "";
  const [past, decisions] = await Promise.all([
    ask(`${card.path}/history?points=${POINTS}${since}`, { signal }),
    ask(`${card.path}/decisions`, { signal })]);
  if (seconds !== range()) return decisions; // another range was chosen meanwhile
  card.chart.fill(past, decisions, card.state.ceiling, 3 * seconds / POINTS);
  if (past.missing) tell(past.missing, true);
  if (decisions.at(-1)?.time >= card.newest) explain(card, decisions.at(-1));
  return decisions;
}

async function fillAll() {
  ticks = 0;
  const { signal } = listening;
  try {
    await Promise.all([...cards.values()].map(card => fill(card, signal)));
  } catch (error) {
    if (!signal.aborted) tell(error.message, true);
  }
}

byId("range").addEventListener("change", () => { tell(""); fillAll(); });

function explain(card, decision) {
  card.newest = decision.time;
  card.find("why").textContent = `${clock(decision.time)}  ${decision.text}`;
}

function update(card, state) {
  card.state = state;
  card.find("running").textContent = state.running;
  card.find("now-limit").textContent = shown(state.limit);
  card.find("waiting").textContent = state.waiting ? `, ${number(state.waiting)} waiting` : "";
  card.find("pause").textContent = state.paused ? "Resume" : "Pause";
  card.find("chart").setAttribute("aria-label", `${state.name}: ${state.running} running, limit ` +
    `${shown(state.limit)}, ${state.waiting} waiting, ceiling ${shown(state.ceiling)}`);
  const [set, release] = [card.find("set"), card.find("release")];
  if (!state.paused && !set.contains(document.activeElement)) set.elements.limit.value = state.limit ?? "";
  if (!state.override && release === document.activeElement) set.elements.limit.focus();
  release.hidden = !state.override;
}

// ---- what limits it now ----

const BOUNDS = {
  cap: "Signals have put the limit there.", policy: "The policy has put the limit there.",
  override: "Somebody has set the limit.", withheld: "Refused calls withhold tokens.",
  breaker: "The breaker sees an outage.",
};

function whyThatLimit(state) {
  if (state.limited_by === "cap" && state.cap === state.ceiling) return "It is at its ceiling.";
  return BOUNDS[state.limited_by] ?? `It is bounded by ${state.limited_by}.`;
}

const stepsOf = card => [...runs.values()].filter(run => run.state !== "ended")
  .flatMap(run => run.steps).filter(step => step.limiter === card.state.name);

// Counts the seconds for which items have waited for something other than a token. Every item does
// so for a moment.
function countHeld(card) {
  card.held = stepsOf(card).some(step => step.queued > step.waiting) ? card.held + 1 : 0;
}

function whatLimits(card) {
  const { state, chart } = card;
  if (state.paused) return "It is paused: nothing begins.";
  if (chart.isFull()) {
    const waiting = state.waiting ? `, and ${number(state.waiting)} wait` : "";
    return `The limit holds it back: all of its tokens are in use${waiting}. ${whyThatLimit(state)}`;
  }
  const steps = stepsOf(card);
  if (!steps.length) return "Tokens are free: there is not enough to do.";
  if (steps.some(step => step.window !== null && step.in_flight >= step.window)) {
    return "Tokens are free: the step after it is slower, or items wait for a retry.";
  }
  if (card.held >= 5) return "Tokens are free: items wait for a rate limit.";
  return "Tokens are free: the source, or the step before it, is slower.";
}

function setText(node, text) { // so that screen readers do not repeat a text that stays the same
  if (node.textContent !== text) node.textContent = text;
}

function showLink() {
  const isLost = lost || Date.now() - heard > STALE;
  document.body.classList.toggle("stale", isLost && heard > 0);
  byId("link").classList.toggle("lost", isLost && (heard > 0 || trouble !== ""));
  const old = heard ? `not live: this was the state at ${clock(heard / 1000)}` : "";
  setText(byId("link"), isLost ? [old, trouble].filter(Boolean).join(", ") || "connecting" : "live");
  return !isLost;
}

function report(text) {
  lost = true;
  trouble = text;
  showLink();
}

function tick() {
  if (!showLink()) return;
  ticks += 1;
  if (range() && ticks >= AGAIN) fillAll();
  for (const card of cards.values()) {
    card.chart.add(Date.now() / 1000 + skew, card.state);
    card.chart.show();
    countHeld(card);
    setText(card.find("limits"), whatLimits(card));
  }
}

// ---- runs ----

function element(name, text, className = "") {
  return Object.assign(document.createElement(name), { textContent: text, className });
}

function tableOf(run) {
  const table = document.createElement("table");
  const last = run.steps.at(-1);
  const share = run.total && last
    ? `, ${number(last.completed + last.skipped)} of ${number(run.total)}` : "";
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
    if (runs.size <= RUNS) break;
    if (old.state === "ended") runs.delete(id);
  }
}

// ---- the logs ----

function note(log, time, text, className = "") {
  const line = element("p", "", className);
  line.append(element("time", time === null ? "" : clock(time)), text);
  log.prepend(line);
  while (log.children.length > LINES) log.lastChild.remove();
}

const noteDecision = decision => note(byId("log"), decision.time,
  `${decision.limiter}: ${decision.text}`, decision.applied ? "" : "refused");

function noteError(error) {
  const where = [error.run, error.step, ...error.identifiers].filter(Boolean).join(" · ");
  note(byId("errors"), error.time, `${where}: ${error.text}`, "bad");
  newestError = Math.max(newestError, error.time ?? 0);
}

// ---- events of the program ----

const HEARD = {
  state(state) {
    lost = false;
    heard = Date.now();
    skew = state.time - heard / 1000;
    state.gone.forEach(removeCard);
    for (const limiter of state.limiters) {
      const card = cards.get(limiter.name) ?? (wanted(limiter.name) ? makeCard(limiter) : null);
      if (card) update(card, limiter);
    }
    for (const { id, total, steps, state: now } of state.runs) keepRun({ id, total, steps, state: now });
    if (state.runs.length) showRuns();
  },
  decision(decision) {
    const card = cards.get(decision.limiter);
    if (card && decision.time <= card.newest) return;
    noteDecision(decision);
    if (!card) return;
    card.chart.decide(decision);
    explain(card, decision);
  },
  error(error) {
    if (error.time === null || error.time > newestError) noteError(error);
  },
  run(run) { keepRun(run); showRuns(); },
  omitted(what) { tell(`${number(what.number)} decisions and errors were missed.`, true); },
  bye() { report("the program has closed its turnstile"); },
};

const wanted = name => cards.size < SHOWN &&
  name.toLowerCase().includes(byId("search").value.toLowerCase());

function removeCard(name) {
  const card = cards.get(name);
  card?.chart.end();
  card?.node.remove();
  cards.delete(name);
}

function clear() {
  [...cards.keys()].forEach(removeCard);
  runs.clear();
  newestError = 0;
  for (const id of ["runs", "errors", "log"]) byId(id).replaceChildren();
  tell("");
}

function hear(block) {
  let kind = "";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) kind = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  HEARD[kind]?.(JSON.parse(data));
}

async function listen(stream) {
  const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
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

async function follow(signal) {
  const like = encodeURIComponent(byId("search").value);
  const [service, limiters] = await Promise.all([
    ask("/", { signal }), ask(`/limiters?like=${like}&limit=${SHOWN}`, { signal })]);
  greet(service);
  showLimiters(limiters);
  // Events from here on wait in the stream, so nothing is missed while the history is read.
  const stream = await request(`/events${query()}`, { signal });
  await recall(signal);
  await listen(stream);
}

function greet({ run, read_only, recorded }) {
  if (program !== run.id) clear();
  program = run.id;
  readOnly = read_only;
  byId("title").textContent = `${run.name} · process ${run.pid} on ${run.host}`;
  document.title = run.name;
  byId("token-form").hidden = true;
  byId("main").hidden = false;
  byId("ranges").hidden = !recorded;
  lock(document);
}

function showLimiters(limiters) {
  byId("more").textContent = limiters.length < SHOWN ? ""
    : `These are the first ${SHOWN} by name. Search for others.`;
  const names = new Set(limiters.map(limiter => limiter.name));
  for (const name of cards.keys()) if (!names.has(name)) removeCard(name);
  for (const limiter of limiters) update(cards.get(limiter.name) ?? makeCard(limiter), limiter);
}

// With many limiters, the page asks only for those that are shown. Commas separate the names.
function query() {
  const names = [...cards.keys()];
  const some = names.length >= SHOWN && !names.some(name => name.includes(","));
  return some ? `?limiters=${encodeURIComponent(names.join(","))}` : "";
}

async function recall(signal) {
  const [all, ...decisions] = await Promise.all(
    [ask("/runs", { signal }), ...[...cards.values()].map(card => fill(card, signal))]);
  const byTime = (one, other) => one.time - other.time;
  for (const id of ["errors", "log"]) byId(id).replaceChildren();
  decisions.flat().sort(byTime).slice(-LINES).forEach(noteDecision);
  all.flatMap(run => run.errors).sort(byTime).forEach(noteError);
  all.forEach(keepRun);
  showRuns();
}

function lock(root) {
  for (const control of root.querySelectorAll("[data-all], article button, article input")) {
    control.disabled = readOnly;
  }
}

async function start() {
  listening.abort();
  const { signal } = listening = new AbortController();
  let wait = FIRST_WAIT;
  while (token()) {
    const before = heard;
    let why = "the connection was closed";
    try {
      await follow(signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) return askForToken("this token is not accepted");
      why = error.message;
    }
    report(why);
    wait = heard === before ? Math.min(2 * wait, LONGEST_WAIT) : FIRST_WAIT;
    await new Promise(done => setTimeout(done, wait));
    if (signal.aborted) return;
  }
  askForToken("enter the token that the program has printed");
}

let typing = 0;
byId("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(start, 250);
});

setInterval(tick, 1000);
start();
