"use strict";
// What a reader does with the report: choose a state, follow its orbit, read it off.

const page = JSON.parse(document.getElementById("system").textContent);
const section = document.getElementById("explore"), by = name => document.getElementById(name);
const space = page.space, system = machine(page.program);
const stages = page.stages.map(s => ({...s, system: numbers(s.system), samples: s.samples.map(numbers)}));
const digits = value => Number.isFinite(value) ? String(+value.toPrecision(4)) : "–";
const words = x => `(${x.map(digits).join(", ")})`;

/** The largest difference from what Python found at some states, as a part of the largest value. */
function difference() {
  system.choose(numbers(page.system));
  const still = new Array(page.program.state - space.low.length).fill(0);
  let worst = 0;
  for (const [name, shift] of [["field", 0], ["energy", page.lowest]]) {
    if (!page.check[name]) continue;
    const size = Math.max(...page.check[name].flat().map(Math.abs));
    page.check.x.forEach((x, i) => [page.check[name][i]].flat().forEach((value, j) => {
      const error = Math.abs(system[name]([...x, ...still])[j] - shift - value) / size;
      worst = error <= worst ? worst : error;
    }));
  }
  return worst;
}

/** The orbit of one system from a state, at evenly spaced times. */
function orbit(own, start, times, tolerance, most) {
  system.choose(own);
  return follow(system, {...page.method, most}, start, times, tolerance, space.sizes, page.signal);
}

function energies(own, states) {
  system.choose(own);
  return states.map(x => system.energy(x)[0]);
}

/** The smallest and the largest of several, instant by instant; null where one of them has ended. */
function range(rows, count) {
  const ends = [[], []];
  for (let i = 0; i < count; i++) {
    const values = rows.map(row => row[i]);
    const all = values.every(Number.isFinite);
    ends[0].push(all ? Math.min(...values) : null);
    ends[1].push(all ? Math.max(...values) : null);
  }
  return ends;
}

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

class Explorer {
  constructor() {
    this.portrait = new Portrait(by("portrait"), space);
    this.stage = stages.length - 1;
    this.pointer = [...space.start];
    this.plots = [];
    this.controls();
    this.redraw();
    this.show(page.prediction);
    new ResizeObserver(() => {
      if (Math.abs(by("portrait").parentElement.clientWidth - this.portrait.width) > 2) { this.redraw(); this.replot(); }
    }).observe(by("portrait").parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.replot());
  }

  controls() {
    const svg = by("portrait"), planes = by("plane"), slider = by("stage"), read = by("read");
    planes.innerHTML = space.planes.map((p, i) => `<option value="${i}">${p.map(k => space.names[k]).join(", ")}</option>`).join("");
    planes.parentElement.hidden = space.planes.length < 2;
    planes.onchange = () => { this.portrait.axes = space.planes[+planes.value]; this.redraw(); this.replot(); };
    slider.max = stages.length - 1; slider.value = this.stage;
    slider.closest("p").hidden = stages.length < 2;
    slider.oninput = () => { this.stage = +slider.value; this.redraw(); this.follow(this.shown.x[0]); };
    read.oninput = () => this.mark(+read.value);
    by("fields").innerHTML = space.names.map((name, i) =>
      `<label>${space.labels[i]} <input type="number" step="any" id="at${i}"></label>`).join(" ");
    by("from").onsubmit = event => {
      event.preventDefault();
      this.follow(space.names.map((_, i) => +by(`at${i}`).value));
    };
    by("back").onclick = () => this.show(page.prediction);
    by("whole").onclick = () => this.plots.forEach(plot => plot.setData(plot.data));
    by("horizon").value = +(page.times[1] - page.times[0]).toPrecision(6);
    svg.onclick = event => {
      const box = svg.getBoundingClientRect(), scale = this.portrait.width / box.width;
      this.choose(this.portrait.state((event.clientX - box.left) * scale, (event.clientY - box.top) * scale));
      this.follow(this.pointer);
    };
    svg.onkeydown = event => {
      const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key];
      if (event.key === "Enter" || event.key === " ") this.follow(this.pointer);
      else if (!step) return;
      else {
        const at = this.portrait.axes.map((i, k) => {
          const [low, high] = this.portrait.range(k);
          return Math.min(high, Math.max(low, this.pointer[i] + step[k] * (high - low) / (event.shiftKey ? 200 : 40)));
        });
        this.choose(at);
        this.paint(this.pointer);
      }
      event.preventDefault();
    };
  }

  /** Another state in the plane; other coordinates stay as in the report's slice. */
  choose([u, v]) {
    this.pointer = [...space.start];
    [this.pointer[this.portrait.axes[0]], this.pointer[this.portrait.axes[1]]] = [u, v];
    this.fill(this.pointer);
  }

  fill(x) { x.forEach((value, i) => { by(`at${i}`).value = +value.toPrecision(6); }); }

  redraw() {
    system.choose(stages[this.stage].system);
    this.portrait.layout();
    const still = new Array(page.program.state - space.low.length).fill(0);
    this.portrait.background(system, [...space.start, ...still], stages[this.stage].lowest);
    by("stage").setAttribute("aria-valuetext", stages[this.stage].label);
    by("stage-words").textContent = stages[this.stage].label;
    if (this.shown) this.paint();
  }

  paint(marked) { this.portrait.draw(this.shown.x, this.shown.others, marked); }

  /** The orbit from a state, at once, and then those of the other systems that the observations allow. */
  async follow(start) {
    const token = this.token = {}, {system: own, samples} = stages[this.stage], time = +by("horizon").value;
    if (!start.every(Number.isFinite) || !(time > 0)) { by("said").textContent = "Give a number for each coordinate, and a time above 0."; return; }
    const count = Math.min(2001, Math.max(page.instants, Math.ceil(page.instants * time / (page.times[1] - page.times[0]))));
    const t = Array.from({length: count}, (_, i) => page.times[0] + time * i / (count - 1));
    const found = orbit(own, start, t, page.tolerance, 20000), x = found.states, n = x.length;
    const ends = n < count ? ` It ends at t = ${digits(t[n - 1])}: ${found.reason}.` : "";
    const driven = page.signal.t.length ? ` The measured inputs act on it from t = ${digits(t[0])} on.` : "";
    const shown = {t: t.slice(0, n), x, others: [], bands: [], energy: null, energyBand: null, title: `The orbit from ${words([...start])}.${driven}${ends}`};
    if (system.energy) shown.energy = energies(own, x).map(value => value - stages[this.stage].lowest);
    this.show(shown, samples.length ? " The band is being computed." : "");
    const rows = [];
    for (const sample of samples) {
      await new Promise(resolve => setTimeout(resolve));
      if (this.token !== token) return;
      rows.push(orbit(sample, start, shown.t, page.coarse, 4000).states);
    }
    if (!samples.length) return;
    shown.others = rows;
    shown.bands = space.names.map((_, j) => range(rows.map(row => row.map(x => x[j])), n));
    if (shown.energy) {
      const changes = samples.map(sample => { const e = energies(sample, x); return e.map(v => v - e[0] + shown.energy[0]); });
      shown.energyBand = range(changes, n);
    }
    this.show(shown, ` Shaded: from the smallest to the largest of ${samples.length} systems that the observations allow. The true orbit is inside at each instant with a probability of ${Math.round(100 * (samples.length - 1) / (samples.length + 1))} %, if the family is the right one.`);
  }

  show(shown, more = "") {
    if (shown === page.prediction) this.token = {};
    this.shown = shown;
    by("said").textContent = shown.title + more;
    this.fill([...shown.x[0]]);
    this.paint();
    this.replot();
  }

  /** Time against every coordinate of the plane, and the energy. */
  replot() {
    const {t, x, bands, energy, energyBand} = this.shown, read = by("read");
    const rows = this.portrait.axes.map(i => [space.names[i], space.labels[i], x.map(state => state[i]), bands[i]]);
    if (energy) rows.push(["H", space.energy, energy, energyBand]);
    this.plots.forEach(plot => plot.destroy());
    this.plots = rows.map((row, i) => this.plot(...row, t, i === rows.length - 1));
    [read.min, read.max, read.step, read.value] = [0, t.length - 1, 1, 0];
    by("value").textContent = "";
  }

  plot(name, label, values, band, t, last) {
    const blue = colour("--prediction"), grey = colour("--axis"), grid = {stroke: "rgba(128,128,128,.25)", width: 1};
    // Numbers such as 1e-12 too, which uPlot rounds to 0.
    const ticks = (_, all) => all.map(v => v == null ? "" : String(+v.toPrecision(6)));
    const axis = {stroke: grey, grid, ticks: grid, font: "12px system-ui", values: ticks}, data = [t, values];
    const series = [{label: "t", value: (_, v) => v == null ? "–" : digits(v)},
      {label: name, stroke: blue, width: 1.6, pxAlign: 0, value: (_, v) => v == null ? "–" : digits(v)}];
    const options = {
      width: Math.max(240, by("plots").clientWidth), height: last ? 190 : 165, scales: {x: {time: false}}, series,
      cursor: {sync: {key: "orbit"}, drag: {x: true, y: false}},
      axes: [{...axis, label: last ? space.time : undefined, labelSize: 18, labelFont: "12px system-ui"},
        {...axis, label, labelSize: 18, labelFont: "12px system-ui", size: 58}],
    };
    if (band) {
      const edge = {stroke: "transparent", pxAlign: 0, points: {show: false}, value: (_, v) => v == null ? "–" : digits(v)};
      series.push({...edge, label: "at least"}, {...edge, label: "at most"});
      options.bands = [{series: [3, 2], fill: colour("--band")}];
      data.push(...band);
    }
    return new uPlot(options, data, by("plots"));
  }

  mark(i) {
    const {t, x, energy} = this.shown;
    by("value").textContent = `t = ${digits(t[i])}: ${space.names.map((name, j) => `${name} = ${digits(x[i][j])}`).join(", ")}${energy ? `, H = ${digits(energy[i])}` : ""}`;
    this.plots.forEach(plot => plot.setCursor({left: plot.valToPos(t[i], "x"), top: 10}, false));
    this.paint(x[i]);
  }
}

const worst = difference();
window.report = {difference: worst, orbit: (start, times) => orbit(numbers(page.system), start, times, page.tolerance, 20000)};
if (worst <= 1e-6) {
  section.hidden = false;
  window.report.explorer = new Explorer();
} else {
  by("refused").textContent = `What this browser computes differs from what Python found by ${worst.toPrecision(2)}, so that no orbits are offered.`;
  by("refused").hidden = false;
}
