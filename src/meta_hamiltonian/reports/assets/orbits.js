"use strict";
// The method of meta_hamiltonian/dynamics/dop853.py and solver.py for one orbit. Coefficients come with the page.

/** Measured inputs at a time: linear between instants, 0 before the first and after the last. */
function inputsAt(signal, t) {
  const {t: times, u} = signal;
  if (!times.length || t < times[0] || t > times[times.length - 1]) return u.length ? u[0].map(() => 0) : [];
  let low = 0, high = times.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (times[middle] <= t) low = middle; else high = middle; }
  const part = (t - times[low]) / (times[high] - times[low]);
  return u[low].map((value, k) => value + part * (u[high][k] - value));
}

/** The states at the instants, as far as the orbit goes, and why it ends early (empty where it does not). */
function follow(system, method, start, instants, tolerance, sizes, signal) {
  const n = start.length, end = instants[instants.length - 1];
  const rate = (x, t) => system.field(signal.t.length ? [...x, ...inputsAt(signal, t)] : x);
  const sum = (x, h, weights, k, count) => x.map((value, j) => {
    let total = 0;
    for (let i = 0; i < count; i++) total += weights[i] * k[i][j];
    return value + h * total;
  });
  const size = x => Math.hypot(...x) / Math.sqrt(n);
  let x = Float64Array.from(start), time = instants[0], k0 = rate(x, time), states = [Array.from(x)];
  if (system.outside(x)[0]) return {states, reason: "it starts outside the region that orbits are followed in"};
  const first = x.map((v, j) => v / (tolerance * (sizes[j] + Math.abs(v))));
  const speed = size(k0.map((v, j) => v / (tolerance * (sizes[j] + Math.abs(x[j])))));
  let h = size(first) > 1e-5 && speed > 1e-5 ? 0.01 * size(first) / speed : 1e-6, corner = 0, steps = 0, finite = true;
  while (time < end) {
    if (++steps > method.most || h < 1e-13 * (end - instants[0])) {
      return {states, reason: finite ? "its steps became too short to follow it" : "its field is not a finite number there"};
    }
    while (corner < signal.t.length && signal.t[corner] <= time + 1e-13 * Math.abs(time)) corner++;
    let dt = Math.min(h, end - time), cut = false;
    if (corner < signal.t.length && signal.t[corner] - time < dt) { dt = signal.t[corner] - time; cut = true; }
    const k = [k0], stages = method.A.length;
    for (let i = 1; i < stages; i++) k.push(rate(sum(x, dt, method.A[i], k, i), time + method.C[i] * dt));
    const next = sum(x, dt, method.B, k, stages);
    k.push(rate(next, time + dt));
    let low = 0, high = 0;
    for (let j = 0; j < n; j++) {
      const scale = tolerance * (sizes[j] + Math.max(Math.abs(x[j]), Math.abs(next[j])));
      let third = 0, fifth = 0;
      for (let i = 0; i <= stages; i++) { third += method.E3[i] * k[i][j]; fifth += method.E5[i] * k[i][j]; }
      low += (third / scale) ** 2; high += (fifth / scale) ** 2;
    }
    const both = (high + 0.01 * low) * n, error = both === 0 ? 0 : dt * high / Math.sqrt(both);
    finite = Number.isFinite(error);
    const factor = Math.min(10, Math.max(0.2, 0.9 * Math.max(error, 1e-16) ** (-1 / 8) || 0.2));
    if (!(error <= 1)) { h = dt * Math.min(factor, 1); continue; }
    if (states.length < instants.length && instants[states.length] <= time + dt) {
      for (let i = 0; i < method.extra.length; i++) {
        k.push(rate(sum(x, dt, method.extra[i], k, k.length), time + method.C_extra[i] * dt));
      }
      const change = next.map((value, j) => value - x[j]);
      const parts = [change, change.map((c, j) => dt * k[0][j] - c),
        change.map((c, j) => 2 * c - dt * (k[stages][j] + k[0][j])),
        ...method.D.map(row => sum(new Float64Array(n), dt, row, k, k.length))];
      while (states.length < instants.length && instants[states.length] <= time + dt) {
        const part = (instants[states.length] - time) / dt;
        const total = x.map((value, j) => {
          let added = 0;
          for (let i = parts.length - 1, turn = 0; i >= 0; i--, turn++) {
            added = (added + parts[i][j]) * (turn % 2 === 0 ? part : 1 - part);
          }
          return value + added;
        });
        if (system.outside(total)[0]) break;
        states.push(Array.from(total));
      }
    }
    if (system.outside(next)[0]) return {states, reason: "it leaves the region that orbits are followed in"};
    if (!k[stages].every(Number.isFinite)) return {states, reason: "its field is not a finite number there"};
    time += dt; x = next; k0 = k[stages];
    if (cut) { h = Math.max(h, dt * factor); } else { h = dt * factor; }
  }
  while (states.length < instants.length) states.push(Array.from(x));
  return {states, reason: ""};
}
