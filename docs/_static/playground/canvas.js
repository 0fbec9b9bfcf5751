"use strict";

/* What the map and the charts share: sharp canvases, colours of the theme, markers. */
(function (Playground) {
  /* One look for each optimizer of a page: a colour and a shape. The colours stand in playground.css. */
  const SHAPES = ["circle", "square", "triangle", "diamond", "down", "cross"];

  /* Colours and font as the page's style gives them now. */
  function theme(element) {
    const style = getComputedStyle(element);
    const read = (name) => style.getPropertyValue(`--pg-${name}`).trim();
    return {
      runs: SHAPES.map((_, i) => read(`run-${i}`)),
      ink: read("ink"),
      muted: read("muted"),
      line: read("line"),
      paper: read("paper"),
      low: read("low"),
      high: read("high"),
      contour: read("contour"),
      font: style.fontFamily,
    };
  }

  /* Fit the canvas's pixels to its size on the screen; returns a context in CSS pixels. */
  function prepare(canvas) {
    const ratio = globalThis.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return { context, width, height };
  }

  /* Outline of a marker of radius r around (x, y). */
  const OUTLINES = {
    square: [[-0.85, -0.85], [0.85, -0.85], [0.85, 0.85], [-0.85, 0.85]],
    triangle: [[0, -1.15], [1.05, 0.8], [-1.05, 0.8]],
    diamond: [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]],
    down: [[0, 1.15], [1.05, -0.8], [-1.05, -0.8]],
    cross: [
      [-0.4, -1.1], [0.4, -1.1], [0.4, -0.4], [1.1, -0.4], [1.1, 0.4], [0.4, 0.4],
      [0.4, 1.1], [-0.4, 1.1], [-0.4, 0.4], [-1.1, 0.4], [-1.1, -0.4], [-0.4, -0.4],
    ],
  };

  function marker(context, shape, x, y, r) {
    context.beginPath();
    if (shape === "circle") context.arc(x, y, r, 0, 2 * Math.PI);
    else for (const [dx, dy] of OUTLINES[shape]) context.lineTo(x + r * dx, y + r * dy);
    context.closePath();
  }

  /* The same marker as an SVG picture, for the page. */
  function swatch(index) {
    const shape = SHAPES[index];
    const inside =
      shape === "circle"
        ? '<circle r="5"/>'
        : `<polygon points="${OUTLINES[shape].map(([x, y]) => `${5 * x},${5 * y}`).join(" ")}"/>`;
    return (
      `<svg class="pg-swatch" viewBox="-7 -7 14 14" aria-hidden="true" ` +
      `style="fill: var(--pg-run-${index})">${inside}</svg>`
    );
  }

  /* A number in at most three digits: 0.0123, 1.2e-5. */
  function short(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e4 || size < 1e-3) return value.toExponential(1).replace(".0e", "e").replace("e+", "e");
    return String(Number(value.toPrecision(3)));
  }

  Object.assign(Playground, { SHAPES, marker, prepare, short, swatch, theme });
})((globalThis.Playground ??= {}));
