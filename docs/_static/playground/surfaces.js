"use strict";

/* Surfaces to walk on: functions of a point (x, y), their gradients, and what part of them to show.

   view       [left, right, bottom, top], in the proportions of the map, 16 to 10
   bend       how much denser the contour lines lie near the bottom: 1 for equal distances
   lowest     the least value; `minima` are the points that have it
   start      where a path begins, and `rates`: learning rates that suit the surface, for rules that
              step along the gradient itself, for those with a velocity, and for those that scale it
   noise      standard deviation of what is added to each entry of the gradient
   error      what the gradient of step t is off by, apart from noise; its mean is 0 */
(function (Playground) {
  const TURN = Math.SQRT1_2; // cos and sin of 45 degrees

  Playground.SURFACES = {
    // f = x^2 / 20 + y^2
    valley: {
      label: "Long valley",
      equation: "x²/20 + y²",
      text: "Twenty times steeper across than along: a step that is safe in y is far too short in x.",
      f: (x, y) => (x * x) / 20 + y * y,
      gradient: (x, y) => [x / 10, 2 * y],
      view: [-8.4, 4.4, -4, 4],
      bend: 2,
      lowest: 0,
      minima: [[0, 0]],
      start: [-7, 2],
      rates: { plain: 0.9, velocity: 0.1, scaled: 0.3 },
      noise: 0,
      steps: 60,
    },

    // f = u^2 / 20 + v^2 with u = (x + y) / sqrt(2), v = (y - x) / sqrt(2)
    diagonal: {
      label: "Valley turned by 45°",
      equation: "u²/20 + v², u = (x + y)/√2, v = (y − x)/√2",
      text: "The same valley, turned. SGD and momentum do not notice; rules that scale x and y apart do.",
      f: (x, y) => ((x + y) * TURN) ** 2 / 20 + ((y - x) * TURN) ** 2,
      gradient: (x, y) => {
        const u = (x + y) * TURN;
        const v = (y - x) * TURN;
        return [(u / 10 - 2 * v) * TURN, (u / 10 + 2 * v) * TURN];
      },
      view: [-8, 4.8, -5.5, 2.5],
      bend: 2,
      lowest: 0,
      minima: [[0, 0]],
      start: [-6, -3],
      rates: { plain: 0.9, velocity: 0.1, scaled: 0.3 },
      noise: 0,
      steps: 60,
    },

    // f = (1 - x)^2 + 20 (y - x^2)^2
    ravine: {
      label: "Curved ravine (Rosenbrock)",
      equation: "(1 − x)² + 20 (y − x²)²",
      text: "Steep walls around a flat, curved floor. The minimum lies far along the floor, at (1, 1).",
      f: (x, y) => (1 - x) ** 2 + 20 * (y - x * x) ** 2,
      gradient: (x, y) => [-2 * (1 - x) - 80 * x * (y - x * x), 40 * (y - x * x)],
      view: [-2, 2, -0.6, 1.9],
      bend: 4,
      lowest: 0,
      minima: [[1, 1]],
      start: [-1.2, 0.4],
      rates: { plain: 0.008, velocity: 0.002, scaled: 0.02 },
      noise: 0,
      steps: 300,
    },

    // f = x^2 / 2 - y^2 / 2 + y^4 / 16
    saddle: {
      label: "Saddle",
      equation: "x²/2 − y²/2 + y⁴/16",
      text: "The gradient leads to the saddle at (0, 0) and vanishes there; the minima lie at y = 2 and y = −2.",
      f: (x, y) => (x * x) / 2 - (y * y) / 2 + (y * y * y * y) / 16,
      gradient: (x, y) => [x, -y + (y * y * y) / 4],
      view: [-4.8, 4.8, -3, 3],
      bend: 1.5,
      lowest: -1,
      minima: [[0, -2], [0, 2]],
      start: [-4, 0.001],
      rates: { plain: 0.2, velocity: 0.05, scaled: 0.1 },
      noise: 0,
      steps: 80,
    },

    // f = 1 - exp(-(x^2 + y^2) / 2)
    plateau: {
      label: "Plateau",
      equation: "1 − exp(−(x² + y²)/2)",
      text: "A hole in a plain so flat that far from it the gradient is next to nothing.",
      f: (x, y) => 1 - Math.exp(-(x * x + y * y) / 2),
      gradient: (x, y) => {
        const e = Math.exp(-(x * x + y * y) / 2);
        return [x * e, y * e];
      },
      view: [-6.4, 3.2, -2.5, 3.5],
      bend: 1,
      lowest: 0,
      minima: [[0, 0]],
      start: [-5, 2],
      rates: { plain: 1, velocity: 0.5, scaled: 0.1 },
      noise: 0,
      steps: 120,
    },

    // f = |x| / 4 + |y|; its gradient at 0 is taken as 0
    kink: {
      label: "Kink",
      equation: "|x|/4 + |y|",
      text: "The slope stays the same up to the bottom, so a step of fixed length never settles there.",
      f: (x, y) => Math.abs(x) / 4 + Math.abs(y),
      gradient: (x, y) => [Math.sign(x) / 4, Math.sign(y)],
      view: [-8.4, 4.4, -4, 4],
      bend: 1,
      lowest: 0,
      minima: [[0, 0]],
      start: [-7, 2.5],
      rates: { plain: 0.3, velocity: 0.05, scaled: 0.2 },
      noise: 0,
      steps: 120,
    },

    // f = x^2 / 2 + y^2 / 2
    noisy: {
      label: "Noisy bowl",
      equation: "x²/2 + y²/2",
      text: "Each gradient is off by a random amount, as that of a small batch is.",
      f: (x, y) => (x * x) / 2 + (y * y) / 2,
      gradient: (x, y) => [x, y],
      view: [-5.6, 4, -3, 3],
      bend: 2,
      lowest: 0,
      minima: [[0, 0]],
      start: [-4.5, 2],
      rates: { plain: 0.1, velocity: 0.02, scaled: 0.1 },
      noise: 2,
      steps: 200,
    },

    // f = x^2 / 2 + y^2 / 2, and an error in x: 300 in one step of 101, -3 in the others
    rare: {
      label: "Rare large gradient",
      equation: "x²/2 + y²/2",
      text: "In one step of 101 the slope in x is 300 too large, in the others 3 too small.",
      f: (x, y) => (x * x) / 2 + (y * y) / 2,
      gradient: (x, y) => [x, y],
      error: (t) => [t % 101 === 1 ? 300 : -3, 0],
      view: [-5.6, 4, -3, 3],
      bend: 2,
      lowest: 0,
      minima: [[0, 0]],
      start: [-4.5, 2],
      rates: { plain: 0.003, velocity: 0.0003, scaled: 0.05 },
      noise: 0,
      steps: 1000,
    },
  };
})((globalThis.Playground ??= {}));
