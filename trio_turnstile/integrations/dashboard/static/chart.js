// Draws the history of a limiter with uPlot. Without uPlot, the page has no charts.

const HEIGHT = 150;
const KEPT = 1200; // samples
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];

const DAY = 86400;
const SHORTEST_GAP = 150; // seconds; averages of minutes are up to two minutes apart

export const clock = seconds => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });

const date = seconds => new Date(seconds * 1000).toLocaleDateString([], { month: "short", day: "numeric" });

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  constructor(box) {
    this.box = box;
    this.data = [[], [], [], [], []]; // times, running, waiting, ceiling, limit
    this.decisions = [];
    this.plot = null;
    this.resized = null;
    if (typeof uPlot === "undefined") box.hidden = true;
    else this.begin();
  }

  begin() {
    this.plot = makePlot(this);
    this.resized = new ResizeObserver(
      () => this.plot.setSize({ width: this.box.clientWidth, height: HEIGHT }));
    this.resized.observe(this.box);
  }

  // No line is drawn where samples are more than `gap` seconds apart.
  fill(past, decisions, ceiling, gap) {
    const { times, running, waiting, limit } = past;
    this.data = [times, running, waiting, times.map(() => ceiling), limit];
    if (gap) this.part(Math.max(gap, SHORTEST_GAP, 3 * median(times)));
    this.decisions = decisions;
    decisions.forEach(decision => this.step(decision));
    this.plot?.setData(this.data);
  }

  part(gap) {
    const times = this.data[0];
    for (let at = times.length - 1; at > 0; at -= 1) {
      if (times[at] - times[at - 1] <= gap) continue;
      const between = (times[at] + times[at - 1]) / 2;
      this.data.forEach((row, place) => row.splice(at, 0, place ? null : between));
    }
  }

  decide(decision) {
    this.decisions.push(decision);
    this.step(decision);
  }

  // Without a sample at the time of a decision, the line would step later than its mark.
  step({ applied, time, after }) {
    const at = this.data[0].findLastIndex(earlier => earlier < time) + 1;
    if (!applied || at === 0) return;
    this.data.forEach(row => row.splice(at, 0, row[at - 1]));
    this.data[0][at] = time;
    this.data[4][at] = after;
  }

  add(time, { running, waiting, ceiling, limit }) {
    if (time <= this.data[0].at(-1)) return;
    [time, running, waiting, ceiling, limit].forEach((value, row) => this.data[row].push(value));
    if (this.data[0].length > KEPT) this.data.forEach(row => row.splice(0, KEPT / 6));
    this.decisions = this.decisions.filter(decision => decision.time >= this.data[0][0]);
  }

  // A chart in a hidden tab, or above or below the visible part of the page, is not drawn.
  show() {
    if (document.hidden || !this.plot) return;
    const { top, bottom } = this.box.getBoundingClientRect();
    if (bottom > 0 && top < innerHeight) this.plot.setData(this.data);
  }

  // Whether all tokens were in use most of the time lately. With the newest sample alone, the
  // answer would change all the time.
  isFull() {
    const [running, limits] = [this.data[1].slice(-6), this.data[4].slice(-6)];
    const full = running.filter((value, at) => limits[at] !== null && value >= limits[at]);
    return 2 * full.length >= running.length && running.length > 0;
  }

  end() {
    this.resized?.disconnect();
    this.plot?.destroy();
  }
}

// The median of the differences between successive times.
function median(times) {
  const steps = times.slice(1).map((time, at) => time - times[at]).sort((one, other) => one - other);
  return steps[steps.length >> 1] ?? 0;
}

function makePlot(chart) {
  const line = (name, more) => ({
    stroke: () => colour(name), width: 1.5, points: { show: false }, ...more });
  const axis = more => ({
    stroke: () => colour("--soft"), grid: { stroke: () => colour("--line"), width: 1 },
    ticks: { show: false }, font: "11px system-ui", ...more });
  const stepped = uPlot.paths.stepped({ align: 1 });
  const times = ({ scales: { x } }, seconds) => seconds.map(
    time => x.max - x.min > 2 * DAY ? date(time) : clock(time));
  return new uPlot({
    width: chart.box.clientWidth, height: HEIGHT, legend: { show: false }, padding: [8, 26, 0, 0],
    cursor: { sync: { key: "time" }, y: false },
    scales: { y: { range: (_, low, high) => [0, Math.max(1, high * 1.15)] } },
    axes: [
      axis({ size: 24, space: 80, values: times }),
      axis({ size: 38, space: 30, incrs: STEPS })],
    series: [
      {}, line("--running", { fill: () => colour("--area") }),
      line("--waiting", { dash: [4, 3] }), line("--ceiling", { dash: [2, 4], width: 1 }),
      line("--limit", { paths: stepped })],
    hooks: { draw: [plot => drawMarks(plot, chart.decisions)] },
  }, chart.data, chart.box);
}

// A mark for each decision that was applied. It points up or down, as the limit went.
function drawMarks(plot, decisions) {
  const canvas = plot.ctx;
  const size = 4 * devicePixelRatio;
  canvas.save();
  canvas.fillStyle = colour("--mark");
  for (const { applied, before, after, time } of decisions) {
    if (!applied || after === null || time < plot.scales.x.min) continue;
    const x = plot.valToPos(time, "x", true);
    const y = plot.valToPos(after, "y", true);
    const tip = after > before ? -size : size;
    canvas.beginPath();
    canvas.moveTo(x, y + tip);
    canvas.lineTo(x - size, y - tip);
    canvas.lineTo(x + size, y - tip);
    canvas.closePath();
    canvas.fill();
  }
  canvas.restore();
}
