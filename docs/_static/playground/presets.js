"use strict";

/* Settings by one click, each with what there is to see in it. */
(function (Playground) {
  Playground.PRESETS = {
    three: {
      label: "One rate, three rules",
      text:
        "All three have lr = 0.1. RMSProp leaps: h starts at 0, so its first step is lr/√(1 − ρ) = 1.0 in x " +
        "and in y. This valley is 7 wide, and a leap of 1 is welcome; a network's weights are some hundredths " +
        "wide, and the same leap throws them out. AdaGrad's steps begin with lr and only get shorter: it " +
        "stalls. SGD falls along the steep y and creeps along the flat x.",
      surface: "valley",
      runs: [
        ["rmsprop", { lr: 0.1 }],
        ["adagrad", { lr: 0.1 }],
        ["sgd", { lr: 0.1 }],
      ],
    },
    stalls: {
      label: "AdaGrad stalls",
      text:
        "The first gradients are steep, and AdaGrad's h keeps their squares for ever: on the flat floor its " +
        "rate lr/√h is what the wall has left of it. In RMSProp's h a square fades by ρ in each " +
        "step; some sixty steps later the wall is forgotten, and it walks on. See h, and the rate per step.",
      surface: "ravine",
      steps: 500,
      measure: "rate",
      runs: [
        ["rmsprop", { lr: 0.01, rho: 0.9 }],
        ["adagrad", { lr: 0.1 }],
      ],
    },
    first: {
      label: "RMSProp's first step",
      text:
        "With h starting at 0, the first step is lr/√(1 − ρ), whatever the gradient: 1.0 for ρ = 0.99, 0.32 " +
        "for ρ = 0.9, where lr is 0.1. Two ways out: bias correction makes it lr, an h that starts at 1 " +
        "makes it follow the gradient.",
      surface: "valley",
      steps: 30,
      runs: [
        ["rmsprop", { lr: 0.1 }],
        ["rmsprop", { lr: 0.1, rho: 0.9 }],
        ["rmsprop", { lr: 0.1, bias_correction: true }],
        ["rmsprop", { lr: 0.1, initial_scale: 1 }],
      ],
    },
    cycle: {
      label: "The two-step cycle",
      text:
        "RMSProp goes anywhere, but does not settle. In the end it steps from one side of the minimum to " +
        "the other: each step is lr long, so it is lr/2 away, in x and in y alike, though y is twenty times " +
        "as steep. A smaller lr makes the cycle narrower; only a falling one ends it.",
      surface: "valley",
      steps: 400,
      runs: [
        ["rmsprop", { lr: 0.5, rho: 0.9 }],
        ["rmsprop", { lr: 0.1, rho: 0.9 }],
      ],
    },
    rare: {
      label: "Reddi's example",
      text:
        "In one step of 101 the slope in x is 300 too large, in the others 3 too small: on average it is right. " +
        "RMSProp divides by the recent size, so the one large gradient counts little more than each of the " +
        "hundred others: it walks over the minimum and stays where those hundred vanish, at x = 3. " +
        "AMSGrad keeps the largest v it has seen, and SGD divides by nothing: both come to swing around 0.",
      surface: "rare",
      runs: [
        ["rmsprop", { lr: 0.05, rho: 0.9 }],
        ["amsgrad", { lr: 0.2 }],
        ["sgd", { lr: 0.003 }],
      ],
    },
    epsilon: {
      label: "ε in or out of the root",
      text:
        "On the plain the gradients are some 10⁻⁶. Outside the root, ε = 10⁻⁷ is small beside √h, and the " +
        "steps stay whole. Inside, the same ε acts as √ε = 3·10⁻⁴ does outside, far above √h: the point " +
        "hardly moves. ε = 10⁻¹⁴ inside is like 10⁻⁷ outside.",
      surface: "plateau",
      runs: [
        ["rmsprop", { lr: 0.1, rho: 0.9 }],
        ["rmsprop", { lr: 0.1, rho: 0.9, eps_in_sqrt: true }],
        ["rmsprop", { lr: 0.1, rho: 0.9, eps: 1e-14, eps_in_sqrt: true }],
      ],
    },
    momentum: {
      label: "Momentum on a ravine",
      text:
        "All have lr = 0.002. Along the floor the gradients agree, and the velocity grows towards ten times " +
        "the gradient, 1/(1 − 0.9); across it they alternate and cancel. Nesterov's look ahead damps the " +
        "swinging.",
      surface: "ravine",
      runs: [
        ["sgd", { lr: 0.002 }],
        ["momentum", { lr: 0.002 }],
        ["nesterov", { lr: 0.002 }],
      ],
    },
    turned: {
      label: "Turned by 45°",
      text:
        "SGD goes the way that it goes in the long valley, only turned. RMSProp, AdaGrad and Adam scale x and " +
        "y apart; here both are equally steep, so there is nothing to scale, and they are slower than there. " +
        "Choose “Long valley” under Surface to compare.",
      surface: "diagonal",
      runs: [
        ["rmsprop", { lr: 0.3, rho: 0.9 }],
        ["adagrad", { lr: 1.5 }],
        ["adam", { lr: 0.3 }],
        ["sgd", { lr: 0.9 }],
      ],
    },
    noise: {
      label: "Noise",
      text:
        "Near the minimum the noise is larger than the gradient. RMSProp divides by the size of the noise " +
        "and goes on with steps of about lr; AdaGrad's ever shorter steps, a fault elsewhere, average the " +
        "noise out.",
      surface: "noisy",
      steps: 400,
      seed: 3,
      runs: [
        ["adagrad", { lr: 0.5 }],
        ["rmsprop", { lr: 0.1, rho: 0.9 }],
      ],
    },
    adam: {
      label: "Adam's average",
      text:
        "On a kink the gradient keeps its size up to the bottom. All three have lr = 0.2. RMSProp's steps stay as " +
        "long as they are, back and forth; Adam's average m of them is near 0, and so are its " +
        "steps. Before that, the average carries Adam past the floor; see m.",
      surface: "kink",
      runs: [
        ["adam", { lr: 0.2 }],
        ["rmsprop", { lr: 0.2, rho: 0.9 }],
        ["sgd", { lr: 0.2 }],
      ],
    },
    saddle: {
      label: "Leaving a saddle",
      text:
        "The path starts a thousandth beside the ridge. SGD must wait until y has grown by its own slope; " +
        "a rule that divides by the size of the gradient leaves at full pace.",
      surface: "saddle",
      runs: [
        ["sgd", { lr: 0.1 }],
        ["momentum", { lr: 0.05 }],
        ["rmsprop", { lr: 0.1, rho: 0.9 }],
      ],
    },
  };

  /* The example that shows an optimizer best; the others are put beside RMSProp in the long valley. */
  Playground.PRESET_OF = {
    sgd: "turned",
    momentum: "momentum",
    nesterov: "momentum",
    adagrad: "stalls",
    rmsprop: "first",
    adam: "adam",
    amsgrad: "rare",
  };
})((globalThis.Playground ??= {}));
