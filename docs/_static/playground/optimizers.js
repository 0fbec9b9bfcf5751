"use strict";

/* Optimizers in the letters of anyprop, one function each, for one coordinate:

       rule(p, g, slots, t, options) -> { p, ...slots }

   p is the coordinate, g its gradient, `slots` what the rule remembers, t = 1, 2, ... the step. The
   operations stand in anyprop's order, so that the results agree to rounding; a test compares them. */
(function (Playground) {
  const { abs, expm1, log, max, min, sign, sqrt } = Math;

  // 1 - beta^t, exact to rounding where beta^t is close to 1
  const oneMinusPower = (beta, t) => (beta === 0 ? 1 : -expm1(t * log(beta)));

  // what Adam multiplies sqrt(v) by, and its eps, which can be added before that
  function corrected(t, { beta2, eps, eps_before_correction }) {
    const correction = oneMinusPower(beta2, t) ** -0.5;
    return { correction, eps: eps_before_correction ? eps * correction : eps };
  }

  // p <- p - lr g
  function sgd(p, g, slots, t, { lr }) {
    return { p: p - lr * g };
  }

  // v <- momentum v + g                 lr_in_velocity:  v <- momentum v + lr g
  // p <- p - lr v                                        p <- p - v
  function momentum(p, g, { v }, t, { lr, momentum, lr_in_velocity }) {
    v = momentum * v + (lr_in_velocity ? lr * g : g);
    return { p: p - (lr_in_velocity ? v : lr * v), v };
  }

  // v <- momentum v + g                 lr_in_velocity:  v <- momentum v + lr g
  // p <- p - lr (g + momentum v)                         p <- p - (lr g + momentum v)
  function nesterov(p, g, { v }, t, { lr, momentum, lr_in_velocity }) {
    const u = lr_in_velocity ? lr * g : g;
    v = momentum * v + u;
    const step = u + momentum * v;
    return { p: p - (lr_in_velocity ? step : lr * step), v };
  }

  // h <- h + g^2
  // p <- p - lr g / (sqrt(h) + eps)      eps_in_sqrt: p <- p - lr g / sqrt(h + eps)
  function adagrad(p, g, { h }, t, { lr, eps, eps_in_sqrt }) {
    h = h + g * g;
    const root = eps_in_sqrt ? sqrt(h + eps) : sqrt(h) + eps;
    return { p: p - (lr * g) / root, h };
  }

  // h <- rho h + (1 - rho) g^2
  // s  = h                               centered:        a <- rho a + (1 - rho) g,  s = |h - a^2|
  //                                      bias_correction: h and a divided by 1 - rho^t
  // u  = g / (sqrt(s) + eps)             eps_in_sqrt:     u = g / sqrt(s + eps)
  // p <- p - lr u                        momentum:        v <- momentum v + u,  p <- p - lr v
  //                                      nesterov:        p <- p - lr (momentum v + u)
  //                                      lr_in_velocity:  lr u in place of u,  p <- p - v
  function rmsprop(p, g, { h, a, v }, t, options) {
    const { lr, rho, eps, eps_in_sqrt, momentum, nesterov, centered } = options;
    const correction = options.bias_correction ? 1 / oneMinusPower(rho, t) : 1;
    h = rho * h + (1 - rho) * g * g;
    let s = h * correction;
    if (centered) {
      a = rho * a + (1 - rho) * g;
      s = abs(s - a * correction * (a * correction));
    }
    let u = eps_in_sqrt ? g / sqrt(s + eps) : g / (sqrt(s) + eps);
    const early = momentum > 0 && options.lr_in_velocity;
    if (early) u = lr * u;
    if (momentum > 0) {
      v = momentum * v + u;
      u = nesterov ? momentum * v + u : v;
    }
    return { p: p - (early ? u : lr * u), h, a, v };
  }

  // h <- rho h + (1 - rho) g^2
  // u  = g sqrt(d + eps) / sqrt(h + eps)
  // d <- rho d + (1 - rho) u^2
  // p <- p - lr u
  function adadelta(p, g, { h, d }, t, { lr, rho, eps }) {
    h = rho * h + (1 - rho) * g * g;
    const u = (g * sqrt(d + eps)) / sqrt(h + eps);
    d = rho * d + (1 - rho) * u * u;
    return { p: p - lr * u, h, d };
  }

  // m <- beta1 m + (1 - beta1) g         m^ = m / (1 - beta1^t)
  // v <- beta2 v + (1 - beta2) g^2       v^ = v / (1 - beta2^t)
  // p <- p - lr m^ / (sqrt(v^) + eps)    eps_before_correction: eps / sqrt(1 - beta2^t) for eps
  function adam(p, g, { m, v }, t, options) {
    const { lr, beta1, beta2 } = options;
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    const rate = lr / oneMinusPower(beta1, t);
    const { correction, eps } = corrected(t, options);
    return { p: p - (rate * m) / (sqrt(v) * correction + eps), m, v };
  }

  // m, v as Adam;  w <- max(w, v)        w^ = w / (1 - beta2^t)
  // p <- p - lr m^ / (sqrt(w^) + eps)
  function amsgrad(p, g, { m, v, w }, t, options) {
    const { lr, beta1, beta2 } = options;
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    w = max(w, v);
    const rate = lr / oneMinusPower(beta1, t);
    const { correction, eps } = corrected(t, options);
    return { p: p - (rate * m) / (sqrt(w) * correction + eps), m, v, w };
  }

  // p <- p - lr weight_decay p,  then Adam
  function adamw(p, g, slots, t, options) {
    return adam(p * (1 - options.lr * options.weight_decay), g, slots, t, options);
  }

  // mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)            M_t = mu_1 mu_2 ... mu_t
  // m, v as Adam;  m^ = (1 - mu_t) / (1 - M_t) g + mu_(t+1) / (1 - M_(t+1)) m
  // p <- p - lr m^ / (sqrt(v^) + eps)
  function nadam(p, g, { m, v }, t, { lr, beta1, beta2, eps, momentum_decay }) {
    const mu = (i) => beta1 * (1 - 0.5 * 0.96 ** (i * momentum_decay));
    let product = 1;
    for (let i = 1; i <= t; i++) product *= mu(i);
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    const look = ((lr * (1 - mu(t))) / (1 - product)) * g;
    const ahead = ((lr * mu(t + 1)) / (1 - product * mu(t + 1))) * m;
    return { p: p - (look + ahead) / (sqrt(v) * oneMinusPower(beta2, t) ** -0.5 + eps), m, v };
  }

  // m, v as Adam;  n_inf = 2 / (1 - beta2) - 1,  n = n_inf - 2 t beta2^t / (1 - beta2^t)
  // p <- p - lr m^ r / (sqrt(v^) + eps)  where n > 5: r^2 = (n - 4) (n - 2) n_inf
  // p <- p - lr m^                       elsewhere          / ((n_inf - 4) (n_inf - 2) n)
  function radam(p, g, { m, v }, t, { lr, beta1, beta2, eps }) {
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    const rate = lr / oneMinusPower(beta1, t);
    const correction = oneMinusPower(beta2, t);
    const most = 2 / (1 - beta2) - 1;
    const n = most - (2 * t * beta2 ** t) / correction;
    if (n <= 5) return { p: p - rate * m, m, v };
    const r = sqrt(((n - 4) * (n - 2) * most) / ((most - 4) * (most - 2) * n));
    return { p: p - (rate * m * (r * sqrt(correction))) / (sqrt(v) + eps), m, v };
  }

  // m as Adam;  u <- max(beta2 u, |g| + eps)
  // p <- p - lr m^ / u
  function adamax(p, g, { m, u }, t, { lr, beta1, beta2, eps }) {
    m = beta1 * m + (1 - beta1) * g;
    u = max(beta2 * u, abs(g) + eps);
    return { p: p - ((lr / oneMinusPower(beta1, t)) * m) / u, m, u };
  }

  // p <- p - lr weight_decay p,  c = beta1 m + (1 - beta1) g
  // p <- p - lr sign(c)
  // m <- beta2 m + (1 - beta2) g
  function lion(p, g, { m }, t, { lr, beta1, beta2, weight_decay }) {
    const c = beta1 * m + (1 - beta1) * g;
    p = p * (1 - lr * weight_decay) - lr * sign(c);
    return { p, m: beta2 * m + (1 - beta2) * g };
  }

  // s  = g prev
  // d <- d eta_plus   where s > 0        at most step_max
  // d <- d eta_minus  where s < 0        at least step_min; there also g <- 0
  // p <- p - d sign(g),  prev <- g
  function rprop(p, g, { prev, d }, t, { eta_minus, eta_plus, step_min, step_max }) {
    const s = g * prev;
    d = s > 0 ? d * eta_plus : s < 0 ? d * eta_minus : d;
    d = max(min(d, step_max), step_min);
    g = s < 0 ? 0 : g;
    return { p: p - d * sign(g), prev: g, d };
  }

  // Kinds of options, with anyprop's default.
  const positive = (value) => ({ kind: "positive", value });
  const fraction = (value) => ({ kind: "fraction", value }); // [0, 1)
  const atLeast0 = (value) => ({ kind: "non-negative", value });
  const below1 = (value) => ({ kind: "below 1", value }); // (0, 1)
  const above1 = (value) => ({ kind: "above 1", value });
  const flag = (value) => ({ kind: "flag", value });

  const means = { beta1: fraction(0.9), beta2: fraction(0.999), eps: positive(1e-8) };
  const withFlag = { ...means, eps_before_correction: flag(false) };
  const moments = () => ({ m: 0, v: 0 });

  /* name       as in anyprop
     options    what may be set; each has anyprop's default
     slots      what the rule remembers, and its first value
     check      what is wrong with options that are right one by one, or null
     suggest    settings that suit a surface, given its `rates` */
  Playground.OPTIMIZERS = {
    sgd: {
      name: "SGD",
      rule: sgd,
      options: { lr: positive(1e-2) },
      slots: () => ({}),
      suggest: (rates) => ({ lr: rates.plain }),
    },
    momentum: {
      name: "Momentum",
      rule: momentum,
      options: { lr: positive(1e-2), momentum: fraction(0.9), lr_in_velocity: flag(false) },
      slots: () => ({ v: 0 }),
      suggest: (rates) => ({ lr: rates.velocity }),
    },
    nesterov: {
      name: "Nesterov",
      rule: nesterov,
      options: { lr: positive(1e-2), momentum: fraction(0.9), lr_in_velocity: flag(false) },
      slots: () => ({ v: 0 }),
      suggest: (rates) => ({ lr: rates.velocity }),
    },
    adagrad: {
      name: "AdaGrad",
      rule: adagrad,
      options: {
        lr: positive(1e-2),
        eps: positive(1e-7),
        eps_in_sqrt: flag(false),
        initial_accumulator: atLeast0(0),
      },
      slots: ({ initial_accumulator }) => ({ h: initial_accumulator }),
      suggest: (rates) => ({ lr: 5 * rates.scaled }),
    },
    rmsprop: {
      name: "RMSProp",
      rule: rmsprop,
      options: {
        lr: positive(1e-3),
        rho: fraction(0.99),
        eps: positive(1e-7),
        eps_in_sqrt: flag(false),
        momentum: fraction(0),
        nesterov: flag(false),
        centered: flag(false),
        bias_correction: flag(false),
        initial_scale: atLeast0(0),
        lr_in_velocity: flag(false),
      },
      slots: ({ initial_scale, centered, momentum }) => ({
        h: initial_scale,
        ...(centered && { a: 0 }),
        ...(momentum > 0 && { v: 0 }),
      }),
      check: ({ nesterov, momentum }) =>
        nesterov && momentum === 0 ? "nesterov needs a momentum above 0" : null,
      suggest: (rates) => ({ lr: rates.scaled, rho: 0.9 }),
    },
    adadelta: {
      name: "AdaDelta",
      rule: adadelta,
      options: { lr: positive(1), rho: fraction(0.9), eps: positive(1e-6) },
      slots: () => ({ h: 0, d: 0 }),
      suggest: () => ({ lr: 1, eps: 1e-2 }),
    },
    adam: {
      name: "Adam",
      rule: adam,
      options: { lr: positive(1e-3), ...withFlag },
      slots: moments,
      suggest: (rates) => ({ lr: rates.scaled }),
    },
    amsgrad: {
      name: "AMSGrad",
      rule: amsgrad,
      options: { lr: positive(1e-3), ...withFlag },
      slots: () => ({ m: 0, v: 0, w: 0 }),
      suggest: (rates) => ({ lr: rates.scaled }),
    },
    adamw: {
      name: "AdamW",
      rule: adamw,
      options: { lr: positive(1e-3), ...withFlag, weight_decay: atLeast0(1e-2) },
      slots: moments,
      suggest: (rates) => ({ lr: rates.scaled }),
    },
    nadam: {
      name: "NAdam",
      rule: nadam,
      options: { lr: positive(2e-3), ...means, momentum_decay: atLeast0(4e-3) },
      slots: moments,
      suggest: (rates) => ({ lr: rates.scaled }),
    },
    radam: {
      name: "RAdam",
      rule: radam,
      options: { lr: positive(1e-3), ...means },
      slots: moments,
      suggest: (rates) => ({ lr: rates.plain }),
    },
    adamax: {
      name: "Adamax",
      rule: adamax,
      options: { lr: positive(2e-3), ...means },
      slots: () => ({ m: 0, u: 0 }),
      suggest: (rates) => ({ lr: rates.scaled }),
    },
    lion: {
      name: "Lion",
      rule: lion,
      options: {
        lr: positive(1e-4),
        beta1: fraction(0.9),
        beta2: fraction(0.99),
        weight_decay: atLeast0(1e-3),
      },
      slots: () => ({ m: 0 }),
      suggest: (rates) => ({ lr: rates.scaled }),
    },
    rprop: {
      name: "Rprop",
      rule: rprop,
      options: {
        lr: positive(1e-2),
        eta_minus: below1(0.5),
        eta_plus: above1(1.2),
        step_min: positive(1e-6),
        step_max: positive(50),
      },
      slots: ({ lr }) => ({ prev: 0, d: lr }),
      check: ({ step_min, step_max }) =>
        step_min < step_max ? null : "step_min must be below step_max",
      suggest: (rates) => ({ lr: rates.scaled }),
    },
  };

  /* All options of an optimizer: anyprop's defaults, but for those that are given. */
  Playground.withDefaults = (optimizer, given = {}) => {
    const known = Object.entries(Playground.OPTIMIZERS[optimizer].options);
    return Object.fromEntries(known.map(([name, { value }]) => [name, given[name] ?? value]));
  };
})((globalThis.Playground ??= {}));
