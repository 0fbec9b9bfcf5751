"use strict";

/* A run: an optimizer follows the gradient of a surface, step by step, and everything is noted. */
(function (Playground) {
  /* Standard normal numbers from a seed: mulberry32 for uniform ones, Box and Muller's for these. */
  function normals(seed) {
    let state = seed >>> 0;
    const uniform = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let z = Math.imul(state ^ (state >>> 15), state | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return (((z ^ (z >>> 14)) >>> 0) + 0.5) / 4294967296;
    };
    return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  }

  /* Follow one optimizer from `start`.

     Returns points[t] and heights[t] for t = 0, 1, ..., and for the steps t = 1, 2, ..., at the index
     t - 1: gradients, slots by name, and moves, each a pair of numbers for x and y. A run ends early,
     with `diverged` set to the step, where its next point would not be finite. The noise depends on
     the seed and the step alone, so every optimizer meets the same. */
  Playground.run = function ({ optimizer, options, surface, start, steps, noise = 0, seed = 1 }) {
    const { rule, slots: first } = Playground.OPTIMIZERS[optimizer];
    const { f, gradient, error = () => [0, 0] } = Playground.SURFACES[surface];
    const normal = normals(seed);
    const states = [first(options), first(options)];
    const result = {
      points: [[...start]],
      heights: [f(...start)],
      gradients: [],
      moves: [],
      slots: Object.fromEntries(Object.keys(states[0]).map((name) => [name, []])),
      diverged: null,
    };
    for (let t = 1; t <= steps; t++) {
      const before = result.points[t - 1];
      const off = error(t);
      const g = gradient(...before).map((entry, i) => entry + off[i] + noise * normal());
      const after = before.map((p, i) => {
        const { p: moved, ...slots } = rule(p, g[i], states[i], t, options);
        states[i] = slots;
        return moved;
      });
      if (!after.every(Number.isFinite) || !Number.isFinite(f(...after))) {
        result.diverged = t;
        break;
      }
      result.points.push(after);
      result.heights.push(f(...after));
      result.gradients.push(g);
      result.moves.push(after.map((p, i) => p - before[i]));
      for (const [name, values] of Object.entries(result.slots)) {
        values.push(states.map((slots) => slots[name]));
      }
    }
    return result;
  };
})((globalThis.Playground ??= {}));
