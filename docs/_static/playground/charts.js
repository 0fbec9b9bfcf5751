"use strict";

/* Line charts of values over steps: a logarithmic axis where all are above 0, else a linear one. */
(function (Playground) {
  const { prepare, short } = Playground;
  const MARGIN = { left: 46, right: 10, top: 8, bottom: 22 };
  const DECADES = 6; // at most, below the largest value

  /* Range and ticks of a logarithmic axis; values of 0 are left out. */
  function logarithmic(values) {
    const positive = values.filter((value) => value > 0);
    const high = Math.log10(Math.max(...positive, 1e-300));
    const low = Math.max(Math.log10(Math.min(...positive)), high - DECADES);
    const [from, to] = high - low < 0.5 ? [low - 0.3, high + 0.3] : [low - 0.04 * (high - low), high + 0.04 * (high - low)];
    const [first, last] = [Math.ceil(from), Math.floor(to)];
    const every = Math.max(1, Math.ceil((last - first + 1) / 5));
    let ticks = [];
    for (let decade = first; decade <= last; decade++) if (decade % every === 0) ticks.push(10 ** decade);
    if (ticks.length < 2) {
      ticks = [];
      for (let decade = Math.floor(from); decade <= last; decade++)
        for (const digit of [1, 2, 5]) ticks.push(digit * 10 ** decade);
    }
    return { place: (value) => (Math.log10(value) - from) / (to - from), ticks, shows: (value) => value > 0 };
  }

  function linear(values) {
    const [least, most] = [Math.min(0, ...values), Math.max(0, ...values)];
    const room = 0.06 * (most - least || 1);
    const [from, to] = [least - room, most + room];
    const raw = (to - from) / 4;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((digit) => digit * unit).find((size) => size >= raw);
    const ticks = [];
    for (let k = Math.ceil(from / step); k * step <= to; k++) ticks.push(k * step);
    return { place: (value) => (value - from) / (to - from), ticks, shows: () => true };
  }

  /* `lines`: { colour, dashed, first, values }; values[i] belongs to step first + i. */
  function drawChart(canvas, lines, { now, steps, colours }) {
    const { context, width, height } = prepare(canvas);
    if (width === 0) return;
    const values = lines.flatMap((line) => line.values).filter(Number.isFinite);
    context.font = `11px ${colours.font}`;
    if (values.length === 0) {
      context.fillStyle = colours.muted;
      context.textAlign = "center";
      context.fillText("nothing to show", width / 2, height / 2);
      return;
    }
    const positive = values.every((value) => value >= 0) && values.some((value) => value > 0);
    const { place, ticks, shows } = positive ? logarithmic(values) : linear(values);
    const [w, h] = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
    const toX = (step) => MARGIN.left + (step / steps) * w;
    const toY = (value) => MARGIN.top + (1 - place(value)) * h;

    context.lineWidth = 1;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const tick of ticks) {
      const y = Math.round(toY(tick)) + 0.5;
      if (y < MARGIN.top || y > MARGIN.top + h) continue;
      context.strokeStyle = colours.line;
      context.beginPath();
      context.moveTo(MARGIN.left, y);
      context.lineTo(MARGIN.left + w, y);
      context.stroke();
      context.fillStyle = colours.muted;
      context.fillText(short(Number(tick.toPrecision(3))), MARGIN.left - 6, y);
    }
    context.textBaseline = "alphabetic";
    for (const [step, align] of [[0, "left"], [steps, "right"]]) {
      context.textAlign = align;
      context.fillText(String(step), toX(step), height - 6);
    }
    context.textAlign = "center";
    context.fillText("step", MARGIN.left + w / 2, height - 6);

    context.save();
    context.beginPath();
    context.rect(MARGIN.left, 0, w + MARGIN.right, MARGIN.top + h + 1);
    context.clip();
    context.lineJoin = "round";
    for (const line of lines) {
      context.strokeStyle = line.colour;
      context.setLineDash(line.dashed ? [4, 3] : []);
      for (const [from, to, alpha] of [[0, now, 1], [now, steps, 0.35]]) {
        context.globalAlpha = alpha;
        context.lineWidth = 1.75;
        context.beginPath();
        let pen = false;
        line.values.forEach((value, i) => {
          const step = line.first + i;
          if (step < from || step > to) return;
          const drawn = Number.isFinite(value) && shows(value);
          if (drawn && pen) context.lineTo(toX(step), toY(value));
          else if (drawn) context.moveTo(toX(step), toY(value));
          pen = drawn;
        });
        context.stroke();
      }
    }
    context.globalAlpha = 1;
    context.setLineDash([]);
    context.strokeStyle = colours.muted;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(toX(now), MARGIN.top);
    context.lineTo(toX(now), MARGIN.top + h);
    context.stroke();
    context.restore();
  }

  /* The step at a place of the chart. */
  function stepAt(canvas, x, steps) {
    const share = (x - MARGIN.left) / (canvas.clientWidth - MARGIN.left - MARGIN.right);
    return Math.max(0, Math.min(steps, Math.round(share * steps)));
  }

  Object.assign(Playground, { drawChart, stepAt });
})((globalThis.Playground ??= {}));
