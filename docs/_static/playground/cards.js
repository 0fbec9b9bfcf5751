"use strict";

/* The controls of the optimizers: a card for each, with a slider and a field for each number. */
(function (Playground) {
  const { KINDS, OPTIMIZERS, SHAPES, parse, python, suggested, swatch } = Playground;

  /* Make an element: attributes, event listeners (functions under "on..."), children. */
  function el(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  let made = 0;
  const newId = () => `pg-${++made}`;

  /* How a slider's position, 0 to 1, stands for a number: by powers of ten, or by the powers of ten
     of what is missing to 1, so that 0.9, 0.99 and 0.999 are equally far apart. */
  function powers(low, high) {
    return {
      toValue: (share) => 10 ** (low + share * (high - low)),
      toShare: (value) => (Math.log10(value) - low) / (high - low),
    };
  }
  const SCALES = {
    lr: powers(-4, 1),
    eps: powers(-16, 0),
    positive: powers(-8, 2),
    fraction: {
      toValue: (share) => 1 - 10 ** (-4 * share),
      toShare: (value) => -Math.log10(1 - value) / 4,
    },
    "below 1": { toValue: (share) => 0.01 + 0.98 * share, toShare: (value) => (value - 0.01) / 0.98 },
    "above 1": { toValue: (share) => 1.01 + 1.99 * share, toShare: (value) => (value - 1.01) / 1.99 },
    "non-negative": { toValue: (share) => 2 * share, toShare: (value) => value / 2 },
  };

  /* Two digits are enough for a slider; of a fraction, two of what is missing to 1. */
  function rounded(kind, value) {
    if (kind === "fraction") return Number((1 - Number((1 - value).toPrecision(2))).toFixed(8));
    return Number(value.toPrecision(2));
  }

  /* A labelled number: slider and field. `set` takes a number and returns what is wrong, or null. */
  function number({ name, label = name, kind, value, scale, owner, set }) {
    const id = newId();
    const say = (text) => {
      error.textContent = text ? `${label} must be ${text}.` : "";
      error.hidden = !text;
      field.setAttribute("aria-invalid", text ? "true" : "false");
    };
    const take = (parsed) => {
      const wrong = set(parsed);
      error.textContent = wrong ? `${wrong}.` : "";
      error.hidden = !wrong;
      return !wrong;
    };
    const show = (shown) => {
      if (slider) {
        slider.value = String(scale.toShare(shown));
        slider.setAttribute("aria-valuetext", String(shown));
      }
    };
    const field = el("input", {
      id, type: "text", inputmode: "decimal", autocomplete: "off", spellcheck: "false",
      class: "pg-number", value: String(value), "aria-describedby": `${id}-error`,
      oninput: () => {
        const parsed = parse(kind, field.value);
        say(parsed === null ? KINDS[kind].text : "");
        if (parsed !== null && take(parsed)) show(parsed);
      },
    });
    const slider = scale && el("input", {
      type: "range", min: "0", max: "1", step: "0.005", value: String(scale.toShare(value)),
      class: "pg-slider", "aria-label": `${owner} ${label}`, "aria-valuetext": String(value),
      oninput: () => {
        const moved = rounded(kind, scale.toValue(Number(slider.value)));
        say("");
        if (!take(moved)) return;
        field.value = String(moved);
        slider.setAttribute("aria-valuetext", String(moved));
      },
    });
    const error = el("p", { class: "pg-error", id: `${id}-error`, role: "alert", hidden: true });
    const row = el("div", { class: "pg-option" }, el("label", { for: id }, label));
    if (slider) row.append(slider);
    row.append(field, error);
    return { row, setValue: (next) => { field.value = String(next); say(""); show(next); } };
  }

  function flagOption({ name, value, set }) {
    const id = newId();
    const error = el("p", { class: "pg-error", role: "alert", hidden: true });
    const box = el("input", {
      id, type: "checkbox", checked: value,
      onchange: () => {
        const wrong = set(box.checked);
        if (wrong) box.checked = !box.checked;
        error.textContent = wrong ? `${wrong}.` : "";
        error.hidden = !wrong;
      },
    });
    return el("div", { class: "pg-flag" }, box, el("label", { for: id }, name), error);
  }

  /* A card. `changed` is called with a new run, `removed` without; both give the page a new state. */
  function card(index, run, { rates, surface, removable, open, changed, removed, toggled }) {
    const { options, name, check } = OPTIMIZERS[run.optimizer];
    let current = run;
    const line = el("code", { class: "pg-python" }, python(run));
    const set = (option) => (value) => {
      const next = { ...current, options: { ...current.options, [option]: value } };
      const wrong = check?.(next.options);
      if (wrong) return wrong;
      current = next;
      line.textContent = python(current);
      changed(current);
      return null;
    };
    const control = ([option, { kind }]) =>
      kind === "flag"
        ? flagOption({ name: option, value: run.options[option], set: set(option) })
        : number({
            name: option, kind, value: run.options[option], owner: name, set: set(option),
            scale: SCALES[option] ?? SCALES[kind],
          }).row;
    const choice = el(
      "select",
      {
        class: "pg-choice", "aria-label": `Optimizer ${index + 1}`,
        onchange: () => changed(suggested(choice.value, surface), true),
      },
      ...Object.entries(OPTIMIZERS).map(([key, { name }]) =>
        el("option", { value: key, selected: key === run.optimizer }, name)),
    );
    const head = el("div", { class: "pg-card-head" });
    head.innerHTML = swatch(index);
    head.append(choice);
    if (removable) {
      head.append(el("button", {
        type: "button", class: "pg-remove", "aria-label": `Remove ${name}, optimizer ${index + 1}`,
        title: "Remove", onclick: removed,
      }, "×"));
    }
    const [first, ...rest] = Object.entries(options).map(control);
    const body = [head, first];
    if (rest.length > 0) {
      const details = el("details", { open, ontoggle: () => toggled(details.open) },
        el("summary", {}, "More options"), ...rest);
      body.push(details);
    }
    const derived = el("a", { class: "pg-derived", href: `derivations/optimizers/${run.optimizer}.html` },
      `${name}, derived`);
    return el("li", { class: "pg-card", style: `--run: var(--pg-run-${index})` }, ...body, line, derived);
  }

  Object.assign(Playground, { card, el, newId, number });
})((globalThis.Playground ??= {}));
