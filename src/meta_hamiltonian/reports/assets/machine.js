"use strict";
// Runs what meta_hamiltonian/inference/program.py wrote down: operations on numbers in one long memory.

const loops = (() => {
  const one = f => (m, o, n, a) => { for (let i = 0; i < n; i++) m[o + i] = f(m[a[i]]); };
  const two = f => (m, o, n, a, b) => { for (let i = 0; i < n; i++) m[o + i] = f(m[a[i]], m[b[i]]); };
  const even = x => { const r = Math.round(x); return r - x === 0.5 && r % 2 !== 0 ? r - 1 : r; };
  const softplus = x => x > 20 ? x : Math.log1p(Math.exp(x));
  const sigmoid = x => x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
  const unary = {
    neg: x => -x, sin: Math.sin, cos: Math.cos, tan: Math.tan, tanh: Math.tanh, sinh: Math.sinh, cosh: Math.cosh,
    exp: Math.exp, expm1: Math.expm1, log: Math.log, log1p: Math.log1p, sqrt: Math.sqrt, rsqrt: x => 1 / Math.sqrt(x),
    abs: Math.abs, sign: Math.sign, reciprocal: x => 1 / x, sigmoid, silu: x => x * sigmoid(x), softplus,
    atan: Math.atan, round: even, floor: Math.floor,
  };
  const binary = {
    atan2: Math.atan2, pow: Math.pow, maximum: Math.max, minimum: Math.min,
    gt: (x, y) => +(x > y), lt: (x, y) => +(x < y), ge: (x, y) => +(x >= y), le: (x, y) => +(x <= y),
    eq: (x, y) => +(x === y), ne: (x, y) => +(x !== y), remainder: (x, y) => x - y * Math.floor(x / y),
    logaddexp: (x, y) => Math.max(x, y) + Math.log1p(Math.exp(-Math.abs(x - y))),
  };
  const found = {
    // The frequent ones without a call.
    add: (m, o, n, a, b) => { for (let i = 0; i < n; i++) m[o + i] = m[a[i]] + m[b[i]]; },
    sub: (m, o, n, a, b) => { for (let i = 0; i < n; i++) m[o + i] = m[a[i]] - m[b[i]]; },
    mul: (m, o, n, a, b) => { for (let i = 0; i < n; i++) m[o + i] = m[a[i]] * m[b[i]]; },
    div: (m, o, n, a, b) => { for (let i = 0; i < n; i++) m[o + i] = m[a[i]] / m[b[i]]; },
    where: (m, o, n, a, b, c) => { for (let i = 0; i < n; i++) m[o + i] = m[a[i]] ? m[b[i]] : m[c[i]]; },
    dot: (m, o, n, a, b) => {
      for (let i = 0, j = 0, k = a.length / n; i < n; i++) {
        let total = 0;
        for (const end = j + k; j < end; j++) total += m[a[j]] * m[b[j]];
        m[o + i] = total;
      }
    },
    sum: (m, o, n, a) => {
      for (let i = 0, j = 0, k = a.length / n; i < n; i++) {
        let total = 0;
        for (const end = j + k; j < end; j++) total += m[a[j]];
        m[o + i] = total;
      }
    },
  };
  for (const name in unary) found[name] = one(unary[name]);
  for (const name in binary) found[name] = two(binary[name]);
  return found;
})();

/** Numbers in float64 from base64. */
function numbers(text) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  return new Float64Array(bytes.buffer);
}

/** The functions of a program; `choose` first gives a system's own numbers. */
function machine(program) {
  const memory = new Float64Array(program.size);
  memory.set(numbers(program.constants), program.state + program.own);
  const table = t => {
    if (t.places) return Int32Array.from(t.places);
    let places = [t.first];
    t.shape.forEach((n, d) => {
      places = places.flatMap(p => Array.from({length: n}, (_, i) => p + i * t.strides[d]));
    });
    return Int32Array.from(places);
  };
  const ready = steps => steps.map(([name, out, ...tables]) =>
    [loops[name], out, tables[0].shape[0], ...tables.map(table)]);
  const run = steps => { for (const s of steps) s[0](memory, s[1], s[2], s[3], s[4], s[5]); };
  const setup = ready(program.setup);
  const functions = {choose(own) { memory.set(own, program.state); run(setup); }};
  for (const name of program.functions) {
    const steps = ready(program[name].steps), out = program[name].out;
    functions[name] = state => {
      memory.set(state);
      run(steps);
      return Float64Array.from(out, place => memory[place]);
    };
  }
  return functions;
}
