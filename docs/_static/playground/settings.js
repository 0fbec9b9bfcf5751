"use strict";

/* Settings: what the page shows, as one object, and as the part of the address behind the #.

   { surface, start: [x, y], steps, noise, seed, measure, runs: [{ optimizer, options }, ...] } */
(function (Playground) {
  const { OPTIMIZERS, SURFACES, PRESETS, PRESET_OF, withDefaults } = Playground;

  const MEASURES = ["move", "rate"];
  const MOST_RUNS = 6;
  const MOST_STEPS = 1000;

  /* What a number of each kind must be; anyprop's own checks. */
  const KINDS = {
    positive: { test: (value) => value > 0, text: "above 0" },
    "non-negative": { test: (value) => value >= 0, text: "at least 0" },
    fraction: { test: (value) => value >= 0 && value < 1, text: "at least 0 and below 1" },
    "below 1": { test: (value) => value > 0 && value < 1, text: "above 0 and below 1" },
    "above 1": { test: (value) => value > 1, text: "above 1" },
    any: { test: () => true, text: "a number" },
    "whole number": { test: (value) => Number.isInteger(value) && value >= 0, text: "a whole number" },
    steps: {
      test: (value) => Number.isInteger(value) && value >= 1 && value <= MOST_STEPS,
      text: `a whole number from 1 to ${MOST_STEPS}`,
    },
  };

  /* Read a number of a kind; null where the text is none. */
  function parse(kind, text) {
    const value = text.trim() === "" ? NaN : Number(text);
    return Number.isFinite(value) && KINDS[kind].test(value) ? value : null;
  }

  function onSurface(surface) {
    const { start, steps, noise } = SURFACES[surface];
    return { surface, start: [...start], steps, noise, seed: 1, measure: "move" };
  }

  function ofPreset(name) {
    const { label, text, runs, ...given } = PRESETS[name];
    return {
      ...onSurface(given.surface),
      ...given,
      runs: runs.map(([optimizer, options]) => ({ optimizer, options: withDefaults(optimizer, options) })),
    };
  }

  /* An optimizer with settings that suit the surface. */
  function suggested(optimizer, surface) {
    const given = OPTIMIZERS[optimizer].suggest(SURFACES[surface].rates);
    return { optimizer, options: withDefaults(optimizer, given) };
  }

  /* The options that differ from anyprop's defaults; the learning rate always. */
  function changed({ optimizer, options }) {
    const known = OPTIMIZERS[optimizer].options;
    return Object.entries(options).filter(
      ([name, value]) => name === "lr" || value !== known[name].value,
    );
  }

  /* The line of Python that makes the optimizer. */
  function python(run) {
    const write = (value) => (value === true ? "True" : value === false ? "False" : String(value));
    const given = changed(run).map(([name, value]) => `${name}=${write(value)}`);
    return `ap.${OPTIMIZERS[run.optimizer].name}(${given.join(", ")})`;
  }

  function toHash(settings) {
    const { surface, start, steps, noise, seed, measure, runs } = settings;
    const pairs = Object.entries({ surface, start: start.join(","), steps, noise, seed, measure });
    for (const run of runs) {
      const options = changed(run).map(([name, value]) => `${name}:${value}`);
      pairs.push([run.optimizer, options.join(",")]);
    }
    return "#" + pairs.map((pair) => pair.join("=")).join("&");
  }

  /* The example that an address names: #preset=cycle, or that of #optimizer=adagrad; null if none. */
  function presetIn(hash) {
    const [key, name] = hash.replace(/^#/, "").split("=");
    const preset = key === "optimizer" && Object.hasOwn(PRESET_OF, name) ? PRESET_OF[name] : name;
    return (key === "preset" || key === "optimizer") && Object.hasOwn(PRESETS, preset) ? preset : null;
  }

  /* Read the address. What is missing takes the surface's own value; what cannot be understood is
     listed in `refused`. */
  function fromHash(hash) {
    const pairs = hash
      .replace(/^#/, "")
      .split("&")
      .filter(Boolean)
      .map((pair) => {
        const [key, ...rest] = pair.split("=");
        return [key, decode(rest.join("="))];
      });
    const named = Object.fromEntries(pairs);
    const refused = [];
    const surface = Object.hasOwn(SURFACES, named.surface) ? named.surface : "valley";
    const settings = { ...onSurface(surface), runs: [] };
    for (const [key, text] of pairs) {
      if (Object.hasOwn(OPTIMIZERS, key)) {
        if (settings.runs.length < MOST_RUNS) settings.runs.push(readRun(key, text, refused));
        else refused.push(key);
      } else if (key === "start") {
        const point = text.split(",").map((part) => parse("any", part));
        if (point.length === 2 && !point.includes(null)) settings.start = point;
        else refused.push(`start=${text}`);
      } else if (Object.hasOwn(NUMBERS, key)) {
        const value = parse(NUMBERS[key], text);
        if (value === null) refused.push(`${key}=${text}`);
        else settings[key] = value;
      } else if (key === "optimizer" && Object.hasOwn(OPTIMIZERS, text)) {
        settings.runs = [...new Set([text, "rmsprop"])].map((name) => suggested(name, surface));
      } else if (key === "measure" && MEASURES.includes(text)) settings.measure = text;
      else if (key !== "surface" || text !== surface) refused.push(`${key}=${text}`);
    }
    if (settings.runs.length === 0) settings.runs = ofPreset("three").runs;
    return { settings, refused };
  }

  const NUMBERS = { steps: "steps", noise: "non-negative", seed: "whole number" };

  function decode(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  }

  function readRun(optimizer, text, refused) {
    const given = {};
    for (const pair of text.split(",").filter(Boolean)) {
      const [name, value = ""] = pair.split(":");
      const option = Object.hasOwn(OPTIMIZERS[optimizer].options, name)
        ? OPTIMIZERS[optimizer].options[name]
        : null;
      if (option?.kind === "flag" && (value === "true" || value === "false")) {
        given[name] = value === "true";
      } else if (option && option.kind !== "flag" && parse(option.kind, value) !== null) {
        given[name] = parse(option.kind, value);
      } else refused.push(`${optimizer}=${pair}`);
    }
    const options = withDefaults(optimizer, given);
    if (!OPTIMIZERS[optimizer].check?.(options)) return { optimizer, options };
    refused.push(`${optimizer}=${text}`);
    return { optimizer, options: withDefaults(optimizer) };
  }

  Object.assign(Playground, {
    KINDS, MOST_RUNS, MOST_STEPS, fromHash, ofPreset, onSurface, parse, presetIn, python, suggested, toHash,
  });
})((globalThis.Playground ??= {}));
