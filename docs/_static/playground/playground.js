"use strict";

/* The page: builds its controls into #pg and keeps map, charts, table and address together. */
(function (Playground) {
  const {
    MOST_RUNS, OPTIMIZERS, PRESETS, SURFACES,
    card, drawChart, drawPaths, drawSurface, el, frame, fromHash, newId, number, ofPreset, onSurface,
    presetIn, python, run, short, stepAt, suggested, swatch, theme, toHash,
  } = Playground;

  const SPEEDS = { slow: 20, medium: 8, fast: 3 }; // seconds for all steps
  const SLOTS = {
    h: "h: squares of gradients",
    v: "v: velocity; in Adam, mean square",
    m: "m: mean gradient",
    a: "a: mean gradient",
    d: "d: squares of steps; in Rprop, step",
    w: "w: largest v",
    u: "u: largest recent |g|",
    prev: "prev: gradient before",
  };
  const MEASURES = {
    move: { label: "Step |Δp|", of: (move) => Math.abs(move) },
    rate: { label: "Rate |Δp / g|", of: (move, g) => Math.abs(move / g) },
  };

  function start(root) {
    let settings;
    let results = [];
    let now = 0;
    let slot = "h";
    let preset = null;
    let colours;
    let playing = null; // the time and step at which playing began
    let drawn = { surface: null };
    let waiting = null; // the timer after which the address is written
    const opened = new Set(); // cards whose further options are shown

    // --- elements

    const presets = el("div", { class: "pg-presets", role: "group", "aria-label": "Examples" });
    for (const [name, { label }] of Object.entries(PRESETS)) {
      presets.append(el("button", { type: "button", "data-preset": name, onclick: () => choose(name) }, label));
    }
    const caption = el("p", { class: "pg-caption", "aria-live": "polite" });
    const refusal = el("p", { class: "pg-error", role: "alert", hidden: true });

    const ground = el("canvas", { class: "pg-ground", "aria-hidden": "true" });
    const paths = el("canvas", { class: "pg-paths", role: "img" });
    const handle = el("button", {
      type: "button", class: "pg-handle", title: "Start: drag, or move with the arrow keys",
      onpointerdown: grab, onpointermove: drag, onkeydown: nudge,
    });
    const map = el("div", { class: "pg-map" }, ground, paths, handle);
    const legend = el("ul", { class: "pg-legend", "aria-label": "Markers on the map" });

    const playButton = el("button", { type: "button", class: "pg-play", onclick: toggle });
    const back = el("button", { type: "button", "aria-label": "One step back", title: "One step back", onclick: () => step(-1) }, "◂");
    const on = el("button", { type: "button", "aria-label": "One step on", title: "One step on", onclick: () => step(1) }, "▸");
    const scrubber = el("input", {
      type: "range", class: "pg-slider", min: "0", step: "1", "aria-label": "Step",
      oninput: () => { pause(); seek(Number(scrubber.value)); },
    });
    const counter = el("span", { class: "pg-counter" });
    const speed = el("select", { "aria-label": "Speed" },
      ...Object.keys(SPEEDS).map((name) => el("option", { value: name, selected: name === "medium" }, name)));
    const transport = el("div", { class: "pg-transport", role: "group", "aria-label": "Play" },
      playButton, back, on, scrubber, counter, speed);

    const rows = el("tbody");
    const table = el("table", { class: "pg-table" },
      el("caption", { class: "pg-hidden" }, "Where each optimizer is at the step shown"),
      el("thead", {}, el("tr", {}, ...["Optimizer", "x", "y", "height"].map((text) => el("th", { scope: "col" }, text)))),
      rows);
    const status = el("p", { class: "pg-hidden", role: "status" });

    const surfaceId = newId();
    const surface = el("select", {
      id: surfaceId,
      onchange: () => {
        const runs = settings.runs.map((given) => {
          const { lr } = suggested(given.optimizer, surface.value).options;
          return { ...given, options: { ...given.options, lr } };
        });
        show({ ...onSurface(surface.value), measure: settings.measure, runs });
      },
    }, ...Object.entries(SURFACES).map(([name, { label }]) => el("option", { value: name }, label)));
    const equation = el("p", { class: "pg-equation" });
    const setNumber = (name) => (value) => { settings[name] = value; edited(); return null; };
    const setStart = (i) => (value) => { settings.start[i] = value; edited(); return null; };
    const noiseScale = { toValue: (share) => 5 * share, toShare: (value) => value / 5 };
    const fields = {
      x: number({ name: "start x", kind: "any", value: 0, owner: "", set: setStart(0) }),
      y: number({ name: "start y", kind: "any", value: 0, owner: "", set: setStart(1) }),
      steps: number({ name: "steps", kind: "steps", value: 1, owner: "", set: setNumber("steps") }),
      seed: number({ name: "seed", kind: "whole number", value: 1, owner: "", set: setNumber("seed") }),
      noise: number({ name: "noise", kind: "non-negative", value: 0, scale: noiseScale, owner: "Gradient", set: setNumber("noise") }),
    };
    const setting = el("section", { class: "pg-setting", "aria-label": "Surface and start" },
      el("div", { class: "pg-option" }, el("label", { for: surfaceId }, "surface"), surface), equation,
      el("div", { class: "pg-pair" }, fields.x.row, fields.y.row),
      el("div", { class: "pg-pair" }, fields.steps.row, fields.seed.row),
      fields.noise.row);

    const cards = el("ul", { class: "pg-cards", "aria-label": "Optimizers" });
    const add = el("button", { type: "button", class: "pg-add", onclick: addRun }, "+ Add an optimizer");
    const copy = el("button", { type: "button", class: "pg-add", onclick: copyLink }, "Copy link");

    const slotChoice = el("select", { "aria-label": "What to show of the optimizer's memory",
      onchange: () => { slot = slotChoice.value; draw(); } });
    const measureChoice = el("select", { "aria-label": "What to show of each step",
      onchange: () => { settings.measure = measureChoice.value; edited(); } },
      ...Object.entries(MEASURES).map(([name, { label }]) => el("option", { value: name }, label)));
    const chart = (title, label) => {
      const canvas = el("canvas", {
        role: "img", "aria-label": label,
        onpointerdown: (event) => { canvas.setPointerCapture(event.pointerId); scrub(event); },
        onpointermove: (event) => { if (canvas.hasPointerCapture(event.pointerId)) scrub(event); },
      });
      const scrub = ({ offsetX }) => { pause(); seek(stepAt(canvas, offsetX, settings.steps)); };
      return { canvas, figure: el("figure", { class: "pg-chart" }, el("figcaption", {}, title), canvas) };
    };
    const heights = chart("Height above the minimum", "Chart of the height above the minimum over the steps");
    const memory = chart(slotChoice, "Chart of what the optimizers remember, over the steps");
    const moves = chart(measureChoice, "Chart of the size of the steps, over the steps");
    const key = el("p", { class: "pg-key" }, el("span", { class: "pg-solid" }), "x", el("span", { class: "pg-dashed" }), "y");

    root.replaceChildren(
      presets, caption, refusal,
      el("div", { class: "pg-top" },
        el("div", { class: "pg-stage" }, legend, map, transport, table, status,
          el("div", { class: "pg-charts" }, heights.figure, memory.figure, moves.figure), key),
        el("div", { class: "pg-panel" }, setting, cards, el("div", { class: "pg-actions" }, add, copy))));

    // --- settings

    function show(next, { name = null, keepStep = false } = {}) {
      settings = next;
      preset = name;
      opened.clear();
      pause();
      makeCards();
      compute();
      if (!keepStep) now = settings.steps;
      describe();
      fillFields();
      remember();
      draw();
      announce();
    }

    function choose(name) {
      show(ofPreset(name), { name });
    }

    /* A setting has been changed by hand. */
    function edited() {
      const atEnd = now >= Number(scrubber.max);
      preset = null;
      compute();
      now = atEnd ? settings.steps : Math.min(now, settings.steps);
      describe();
      remember();
      later();
    }

    function compute() {
      results = settings.runs.map((given) => run({ ...settings, ...given }));
    }

    /* Write the address once a change has come to rest: browsers refuse more than 100 in 30 s. */
    function remember() {
      clearTimeout(waiting);
      waiting = setTimeout(writeAddress, 300);
    }

    function writeAddress() {
      clearTimeout(waiting);
      history.replaceState(null, "", toHash(settings));
    }

    function fillFields() {
      surface.value = settings.surface;
      measureChoice.value = settings.measure;
      fillStart();
      for (const name of ["steps", "seed", "noise"]) fields[name].setValue(settings[name]);
    }

    function fillStart() {
      ["x", "y"].forEach((name, i) => fields[name].setValue(settings.start[i]));
    }

    function describe() {
      refusal.hidden = true; // it was about the address that was read before
      caption.textContent = preset ? PRESETS[preset].text : SURFACES[settings.surface].text;
      equation.textContent = `f = ${SURFACES[settings.surface].equation}`;
      for (const button of presets.children) {
        button.setAttribute("aria-pressed", String(button.dataset.preset === preset));
      }
      fields.seed.row.toggleAttribute("hidden", settings.noise === 0);
    }

    function makeCards() {
      cards.replaceChildren(...settings.runs.map((given, i) => card(i, given, {
        surface: settings.surface,
        removable: settings.runs.length > 1,
        open: opened.has(i),
        changed: (next, another = false) => {
          settings.runs[i] = next;
          if (another) { opened.delete(i); makeCards(); cards.children[i].querySelector("select").focus(); }
          edited();
        },
        removed: () => {
          settings.runs.splice(i, 1);
          opened.clear();
          makeCards();
          edited();
          cards.children[Math.min(i, settings.runs.length - 1)].querySelector("select").focus();
        },
        toggled: (open) => (open ? opened.add(i) : opened.delete(i)),
      })));
      add.disabled = settings.runs.length >= MOST_RUNS;
    }

    function addRun() {
      const used = settings.runs.map(({ optimizer }) => optimizer);
      const next = ["rmsprop", "adagrad", "sgd", "momentum", "adam", "nesterov"].find((name) => !used.includes(name));
      settings.runs.push(suggested(next ?? "rmsprop", settings.surface));
      makeCards();
      edited();
      cards.lastChild.querySelector("select").focus();
    }

    async function copyLink() {
      writeAddress();
      try {
        await navigator.clipboard.writeText(location.href);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Copy it from the address bar";
      }
      setTimeout(() => (copy.textContent = "Copy link"), 2000);
    }

    // --- drawing

    let frameAsked = false;
    function later() {
      if (frameAsked) return;
      frameAsked = true;
      requestAnimationFrame(() => { frameAsked = false; draw(); });
    }

    function draw() {
      colours ??= theme(root);
      const size = `${map.clientWidth}x${map.clientHeight}@${devicePixelRatio}`;
      if (drawn.surface !== settings.surface || drawn.size !== size || drawn.colours !== colours) {
        drawSurface(ground, settings.surface, colours);
        drawn = { surface: settings.surface, size, colours };
      }
      drawPaths(paths, settings.surface, results, now, colours);
      placeHandle();
      scrubber.max = String(settings.steps);
      scrubber.value = String(now);
      scrubber.setAttribute("aria-valuetext", `step ${now} of ${settings.steps}`);
      counter.textContent = `${now} / ${settings.steps}`;
      fillLegend();
      fillTable();
      drawCharts();
    }

    function drawCharts() {
      const { lowest } = SURFACES[settings.surface];
      const common = { now, steps: settings.steps, colours };
      const both = (pick) => results.flatMap((result, i) => [0, 1].map((axis) => ({
        colour: colours.runs[i], dashed: axis === 1, first: 1, values: pick(result, axis) ?? [],
      })));
      drawChart(heights.canvas, results.map((result, i) => ({
        colour: colours.runs[i], first: 0, values: result.heights.map((height) => height - lowest),
      })), common);

      const names = [...new Set(results.flatMap((result) => Object.keys(result.slots)))];
      if (!names.includes(slot)) slot = names[0] ?? "h";
      if (slotChoice.dataset.names !== names.join()) {
        slotChoice.dataset.names = names.join();
        slotChoice.replaceChildren(...(names.length ? names : ["none"]).map((name) =>
          el("option", { value: name }, SLOTS[name] ?? "no memory")));
      }
      slotChoice.value = names.length ? slot : "none";
      drawChart(memory.canvas, both((result, axis) => result.slots[slot]?.map((pair) => pair[axis])), common);

      const { of } = MEASURES[settings.measure];
      drawChart(moves.canvas, both((result, axis) =>
        result.moves.map((move, t) => of(move[axis], result.gradients[t][axis]))), common);
    }

    /* Whose marker is whose, above the map, where one looks for it. */
    function fillLegend() {
      legend.replaceChildren(...settings.runs.map((given, i) => {
        const entry = el("li");
        entry.innerHTML = swatch(i);
        entry.append(...title(given));
        return entry;
      }), el("li", { class: "pg-muted" }, "○ start (drag it)"), el("li", { class: "pg-muted" }, "+ minimum"));
    }

    function fillTable() {
      const cell = (text) => el("td", {}, text);
      rows.replaceChildren(...results.map((result, i) => {
        const last = Math.min(now, result.points.length - 1);
        const name = el("th", { scope: "row" });
        name.innerHTML = swatch(i);
        name.append(...title(settings.runs[i]));
        if (result.diverged !== null && now >= result.diverged) {
          return el("tr", {}, name, el("td", { colspan: "3" }, `diverged at step ${result.diverged}`));
        }
        const height = result.heights[last] - SURFACES[settings.surface].lowest;
        return el("tr", {}, name, ...[...result.points[last], height].map((value) => cell(short(value).replaceAll("-", "−"))));
      }));
    }

    /* The optimizer's name, and its options where the page has several of its kind. */
    function title(given) {
      const { name } = OPTIMIZERS[given.optimizer];
      const alone = settings.runs.filter(({ optimizer }) => optimizer === given.optimizer).length === 1;
      return alone ? [name] : [`${name} `, el("small", {}, python(given).replace(/.*\((.*)\)/, "$1"))];
    }

    function announce() {
      const places = [...rows.children].map((row) => [...row.children].map((part) => part.textContent).join(" "));
      status.textContent = `Step ${now} of ${settings.steps}. ${places.join("; ")}.`;
      const names = settings.runs.map(({ optimizer }) => OPTIMIZERS[optimizer].name).join(", ");
      paths.setAttribute("aria-label", `Contour map of ${SURFACES[settings.surface].equation} with the paths of ${names}.`);
    }

    // --- time

    function seek(step) {
      now = Math.max(0, Math.min(settings.steps, step));
      draw();
      if (!playing) announce();
    }

    function step(by) {
      pause();
      seek(now + by);
    }

    function toggle() {
      if (playing) return pause();
      if (now >= settings.steps) seek(0);
      playing = { time: performance.now(), from: now };
      label();
      requestAnimationFrame(tick);
    }

    function tick(time) {
      if (!playing) return;
      const share = (time - playing.time) / 1000 / SPEEDS[speed.value];
      const done = playing.from + Math.floor(share * settings.steps);
      if (done !== now && done >= playing.from) seek(done);
      if (now >= settings.steps) pause();
      else requestAnimationFrame(tick);
    }

    speed.addEventListener("change", () => { if (playing) playing = { time: performance.now(), from: now }; });

    function pause() {
      const was = playing;
      playing = null;
      label();
      if (was) announce();
    }

    function label() {
      playButton.textContent = playing ? "Pause" : "Play";
    }

    // --- the start point

    function placeHandle() {
      const { toCanvas } = frame(settings.surface, map.clientWidth, map.clientHeight);
      const [x, y] = toCanvas(settings.start);
      handle.style.left = `${Math.max(0, Math.min(map.clientWidth, x))}px`;
      handle.style.top = `${Math.max(0, Math.min(map.clientHeight, y))}px`;
      handle.setAttribute("aria-label", `Start point, x ${settings.start[0]}, y ${settings.start[1]}; the arrow keys move it`);
    }

    function moveStart(point) {
      const [left, right, bottom, top] = SURFACES[settings.surface].view;
      const digits = Math.ceil(-Math.log10((right - left) / 300)); // as fine as a pointer can tell
      const tidy = (value, low, high) => Number(Math.max(low, Math.min(high, value)).toFixed(digits));
      settings.start = [tidy(point[0], left, right), tidy(point[1], bottom, top)];
      fillStart();
      edited();
    }

    function grab(event) {
      pause();
      handle.setPointerCapture(event.pointerId);
    }

    function drag(event) {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = map.getBoundingClientRect();
      const { toPoint } = frame(settings.surface, box.width, box.height);
      moveStart(toPoint(event.clientX - box.left, event.clientY - box.top));
    }

    function nudge(event) {
      const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!direction) return;
      event.preventDefault();
      const [left, right] = SURFACES[settings.surface].view;
      const by = (event.shiftKey ? 0.05 : 0.005) * (right - left);
      moveStart(settings.start.map((value, i) => value + by * direction[i]));
    }

    // --- what changes from outside

    function recolour() {
      colours = undefined;
      later();
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
    new MutationObserver(recolour).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    new ResizeObserver(later).observe(root);

    function readAddress() {
      if (location.hash.length <= 1 || !location.hash.includes("=")) return choose("three");
      const named = presetIn(location.hash);
      if (named) return choose(named);
      const { settings: next, refused } = fromHash(location.hash);
      show(next);
      refusal.textContent = refused.length ? `Not understood in the address, left out: ${refused.join(", ")}.` : "";
      refusal.hidden = refused.length === 0;
    }
    addEventListener("hashchange", readAddress);
    readAddress();
  }

  start(document.getElementById("pg"));
})((globalThis.Playground ??= {}));
