"use strict";
// The phase portrait: energy lines, directions, observations, orbits, in a plane of two coordinates.

/** Round numbers inside an interval, about so many of them. */
function ticks(low, high, about) {
  const raw = (high - low) / about, size = 10 ** Math.floor(Math.log10(raw));
  const step = size * [1, 2, 5, 10].find(f => f * size >= raw), found = [];
  for (let i = Math.ceil(low / step); i * step <= high + 1e-9 * step; i++) found.push(+(i * step).toPrecision(12));
  return found;
}

/** The line along which a function on a grid has one value, as the d of a path; by marching squares. */
function contour(values, count, level, place) {
  let path = "";
  for (let i = 0; i + 1 < count; i++) for (let j = 0; j + 1 < count; j++) {
    const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]], cuts = [];
    for (let e = 0; e < 4; e++) {
      const [a, b] = [corners[e], corners[(e + 1) % 4]];
      const [u, v] = [values[a[0] * count + a[1]] - level, values[b[0] * count + b[1]] - level];
      if (u < 0 !== v < 0 && Number.isFinite(u + v)) {
        const part = u / (u - v);
        cuts.push(place(a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1])));
      }
    }
    for (let c = 0; c + 1 < cuts.length; c += 2) path += `M${cuts[c]}L${cuts[c + 1]}`;
  }
  return path;
}

class Portrait {
  /** space: low, high, turns, centre of all coordinates, their labels, and what was observed. */
  constructor(svg, space) { this.svg = svg; this.space = space; this.axes = space.planes[0]; this.layout(); }

  layout() {
    this.width = Math.max(260, this.svg.parentElement.clientWidth);
    this.height = Math.round(Math.min(0.8 * this.width, 460));
    this.left = 58; this.right = 12; this.top = 10; this.bottom = 44;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.style.height = `${this.height}px`;
  }

  range(which) { const i = this.axes[which]; return [this.space.low[i], this.space.high[i]]; }

  /** From a value of a coordinate of the plane to pixels, and back. */
  across(value) {
    const [low, high] = this.range(0);
    return this.left + (value - low) / (high - low) * (this.width - this.left - this.right);
  }

  along(value) {
    const [low, high] = this.range(1);
    return this.height - this.bottom - (value - low) / (high - low) * (this.height - this.top - this.bottom);
  }

  state(px, py) {
    const [a, b] = this.range(0), [c, d] = this.range(1);
    const within = part => Math.min(1, Math.max(0, part));
    return [
      a + within((px - this.left) / (this.width - this.left - this.right)) * (b - a),
      c + within((this.height - this.bottom - py) / (this.height - this.top - this.bottom)) * (d - c),
    ];
  }

  /** Angles where figures show them. */
  wrapped(x) {
    return this.axes.map(i => this.space.turns[i] && Math.abs(x[i] - this.space.centre[i]) > this.space.half[i]
      ? x[i] - 2 * Math.PI * Math.round((x[i] - this.space.centre[i]) / (2 * Math.PI)) : x[i]);
  }

  /** Everything that does not move with the pointer. */
  background(system, through, lowest) {
    const point = (u, v) => { const x = [...through]; [x[this.axes[0]], x[this.axes[1]]] = [u, v]; return x; };
    const [a, b] = this.range(0), [c, d] = this.range(1), parts = [];
    if (system.energy) {
      const count = 61, values = new Float64Array(count * count);
      for (let i = 0; i < count; i++) for (let j = 0; j < count; j++) {
        values[i * count + j] = system.energy(point(a + i / (count - 1) * (b - a), c + j / (count - 1) * (d - c)))[0] - lowest;
      }
      const finite = Array.from(values).filter(Number.isFinite), low = Math.min(...finite), high = Math.max(...finite);
      const place = (i, j) => [this.across(a + i / (count - 1) * (b - a)), this.along(c + j / (count - 1) * (d - c))]
        .map(v => v.toFixed(1));
      for (let l = 1; l <= 14; l++) {
        const path = contour(values, count, low + (high - low) * (l / 15) ** 2, place);
        parts.push(`<path class="level" d="${path}" style="opacity:${(0.35 + 0.5 * l / 14).toFixed(2)}"/>`);
      }
    }
    let arrows = "";
    const columns = Math.round(this.width / 36), rows = Math.round(this.height / 36);
    for (let i = 0; i < columns; i++) for (let j = 0; j < rows; j++) {
      const u = a + (i + 0.5) / columns * (b - a), v = c + (j + 0.5) / rows * (d - c);
      const rate = system.field(point(u, v));
      const dx = this.across(u + rate[this.axes[0]]) - this.across(u), dy = this.along(v + rate[this.axes[1]]) - this.along(v);
      const size = Math.hypot(dx, dy) || 1, [x, y] = [this.across(u), this.along(v)], [ex, ey] = [9 * dx / size, 9 * dy / size];
      if (!Number.isFinite(ex + ey)) continue;
      arrows += `M${(x - ex).toFixed(1)} ${(y - ey).toFixed(1)}L${(x + ex).toFixed(1)} ${(y + ey).toFixed(1)}`
        + `l${(-0.45 * ex - 0.3 * ey).toFixed(1)} ${(-0.45 * ey + 0.3 * ex).toFixed(1)}`;
    }
    parts.push(`<path class="arrows" d="${arrows}"/>`);
    parts.push(this.space.seen.map(x => {
      const [u, v] = this.wrapped(x);
      return `<circle class="seen" cx="${this.across(u).toFixed(1)}" cy="${this.along(v).toFixed(1)}" r="2.5"/>`;
    }).join(""));
    this.still = parts.join("");
    this.frame = this.scales();
  }

  scales() {
    const [x0, x1, y0, y1] = [this.left, this.width - this.right, this.top, this.height - this.bottom], parts = [];
    for (const value of ticks(...this.range(0), this.width / 80)) {
      const x = this.across(value).toFixed(1);
      parts.push(`<path d="M${x} ${y1}v5"/><text x="${x}" y="${y1 + 18}" text-anchor="middle">${value}</text>`);
    }
    for (const value of ticks(...this.range(1), this.height / 60)) {
      const y = this.along(value);
      parts.push(`<path d="M${x0} ${y.toFixed(1)}h-5"/><text x="${x0 - 8}" y="${(y + 4).toFixed(1)}" text-anchor="end">${value}</text>`);
    }
    const [across, along] = this.axes.map(i => this.space.labels[i]), middle = (y0 + y1) / 2;
    parts.push(`<text x="${(x0 + x1) / 2}" y="${this.height - 6}" text-anchor="middle">${across}</text>`);
    parts.push(`<text transform="translate(13 ${middle}) rotate(-90)" text-anchor="middle">${along}</text>`);
    return `<g class="scales"><rect x="${x0}" y="${y0}" width="${x1 - x0}" height="${y1 - y0}"/>${parts.join("")}</g>`;
  }

  /** An orbit without lines across the portrait where an angle is wrapped. */
  line(states) {
    let path = "", before = null;
    for (const x of states) {
      const at = this.wrapped(x);
      const jumps = before && this.axes.some((i, k) => this.space.turns[i] && Math.abs(at[k] - before[k]) > this.space.half[i] / 2);
      path += `${before && !jumps ? "L" : "M"}${this.across(at[0]).toFixed(1)} ${this.along(at[1]).toFixed(1)}`;
      before = at;
    }
    return path;
  }

  draw(orbit, others, marked) {
    const spot = (x, name, r) => {
      const [u, v] = this.wrapped(x);
      return `<circle class="${name}" cx="${this.across(u).toFixed(1)}" cy="${this.along(v).toFixed(1)}" r="${r}"/>`;
    };
    const lines = others.map(states => `<path class="other" d="${this.line(states)}"/>`).join("");
    this.svg.innerHTML = `<defs><clipPath id="inside"><rect x="${this.left}" y="${this.top}" `
      + `width="${this.width - this.left - this.right}" height="${this.height - this.top - this.bottom}"/></clipPath></defs>`
      + `<g clip-path="url(#inside)">${this.still}${lines}<path class="orbit" d="${this.line(orbit)}"/>`
      + `${spot(orbit[0], "start", 5)}${marked ? spot(marked, "marked", 6) : ""}</g>${this.frame}`;
  }
}
