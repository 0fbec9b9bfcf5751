"use strict";

/* The map: contour lines of a surface, and the paths on it. */
(function (Playground) {
  const { SHAPES, SURFACES, marker, prepare } = Playground;
  const LEVELS = 16;
  const CELL = 4; // CSS pixels between the points at which the surface is looked at

  /* Turns points of the surface into points of the canvas, and back. */
  function frame(surface, width, height) {
    const [left, right, bottom, top] = SURFACES[surface].view;
    const within = (value) => Math.max(-1e4, Math.min(1e4, value)); // far outside, drawing may fail
    return {
      toCanvas: ([x, y]) => [
        within(((x - left) / (right - left)) * width),
        within(((top - y) / (top - bottom)) * height),
      ],
      toPoint: (x, y) => [
        left + (x / width) * (right - left),
        top - (y / height) * (top - bottom),
      ],
    };
  }

  /* Heights on a grid, and the levels of the lines: dense near the bottom. */
  function sample(surface, width, height) {
    const { f, bend, lowest } = SURFACES[surface];
    const { toPoint } = frame(surface, width, height);
    const columns = Math.ceil(width / CELL) + 1;
    const rows = Math.ceil(height / CELL) + 1;
    const grid = Array.from({ length: rows }, (_, r) =>
      Array.from({ length: columns }, (_, c) => f(...toPoint(c * CELL, r * CELL))),
    );
    const highest = Math.max(...grid.map((row) => Math.max(...row)));
    const levels = Array.from(
      { length: LEVELS },
      (_, i) => lowest + (highest - lowest) * ((i + 0.5) / LEVELS) ** bend,
    );
    return { grid, levels, lowest, highest };
  }

  /* Bands of colour between the levels, at one pixel per grid cell, smoothed by scaling. */
  function shade({ grid, lowest, highest }, bend, { low, high }) {
    const small = document.createElement("canvas");
    [small.width, small.height] = [grid[0].length, grid.length];
    const context = small.getContext("2d");
    const image = context.createImageData(small.width, small.height);
    const [from, to] = [rgb(low), rgb(high)];
    grid.flat().forEach((value, i) => {
      const share = Math.max(0, (value - lowest) / (highest - lowest)) ** (1 / bend);
      for (let k = 0; k < 3; k++) image.data[4 * i + k] = from[k] + share * (to[k] - from[k]);
      image.data[4 * i + 3] = 255;
    });
    context.putImageData(image, 0, 0);
    return small;
  }

  function rgb(hex) {
    return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  }

  /* Marching squares: where the surface crosses `level`, cell by cell. */
  function contour(context, grid, level) {
    const cross = (a, b) => (level - a) / (b - a);
    context.beginPath();
    for (let r = 0; r + 1 < grid.length; r++) {
      for (let c = 0; c + 1 < grid[0].length; c++) {
        const [a, b, d, e] = [grid[r][c], grid[r][c + 1], grid[r + 1][c + 1], grid[r + 1][c]];
        const ends = [];
        if (a < level !== b < level) ends.push([c + cross(a, b), r]);
        if (b < level !== d < level) ends.push([c + 1, r + cross(b, d)]);
        if (e < level !== d < level) ends.push([c + cross(e, d), r + 1]);
        if (a < level !== e < level) ends.push([c, r + cross(a, e)]);
        for (let i = 0; i + 1 < ends.length; i += 2) {
          context.moveTo(ends[i][0] * CELL, ends[i][1] * CELL);
          context.lineTo(ends[i + 1][0] * CELL, ends[i + 1][1] * CELL);
        }
      }
    }
    context.stroke();
  }

  /* Draw the surface, once for each size and theme. */
  function drawSurface(canvas, surface, colours) {
    const { context, width, height } = prepare(canvas);
    if (width === 0) return;
    const { bend, minima, lowest, f } = SURFACES[surface];
    const samples = sample(surface, width, height);
    context.imageSmoothingEnabled = true;
    const picture = shade(samples, bend, colours);
    const [columns, rows] = [picture.width, picture.height];
    // the picture's pixels are the grid's points: their centres lie CELL apart, the first at 0
    context.drawImage(picture, -CELL / 2, -CELL / 2, columns * CELL, rows * CELL);
    context.strokeStyle = colours.contour;
    context.lineWidth = 1;
    for (const level of samples.levels) contour(context, samples.grid, level);
    const { toCanvas } = frame(surface, width, height);
    context.strokeStyle = colours.ink;
    context.lineWidth = 2.5;
    for (const [x, y] of minima.map(toCanvas)) {
      context.beginPath();
      context.moveTo(x - 7, y);
      context.lineTo(x + 7, y);
      context.moveTo(x, y - 7);
      context.lineTo(x, y + 7);
      context.stroke();
    }
  }

  /* Draw the paths up to step `now`, and what is still to come in a lighter tone. */
  function drawPaths(canvas, surface, runs, now, colours) {
    const { context, width, height } = prepare(canvas);
    const { toCanvas } = frame(surface, width, height);
    context.lineJoin = "round";
    const paths = runs.map(({ points }, i) => [i, points.map(toCanvas)]).reverse(); // the first on top
    for (const [i, path] of paths) {
      context.strokeStyle = context.fillStyle = colours.runs[i];
      context.globalAlpha = 0.35;
      context.lineWidth = 1.25;
      line(context, path.slice(now));
      context.globalAlpha = 1;
      context.lineWidth = 2;
      const walked = path.slice(0, now + 1);
      line(context, walked);
      let last = [-Infinity, -Infinity];
      for (const [x, y] of walked) {
        if (Math.hypot(x - last[0], y - last[1]) < 7) continue; // dots that touch say nothing
        last = [x, y];
        context.beginPath();
        context.arc(x, y, 2.4, 0, 2 * Math.PI);
        context.fill();
      }
    }
    for (const [i, path] of paths) {
      const [x, y] = path[Math.min(now, path.length - 1)];
      marker(context, SHAPES[i], x, y, 6);
      context.fillStyle = colours.runs[i];
      context.strokeStyle = colours.paper;
      context.lineWidth = 2;
      context.stroke();
      context.fill();
    }
  }

  function line(context, path) {
    context.beginPath();
    for (const point of path) context.lineTo(...point);
    context.stroke();
  }

  Object.assign(Playground, { drawPaths, drawSurface, frame });
})((globalThis.Playground ??= {}));
