"""Every optimizer, with a variant for each of its options; the contract tables run over all of them."""

from __future__ import annotations

from dataclasses import fields

import anyprop as ap

OPTIMIZER_CASES: dict[str, ap.Optimizer] = {
    "sgd": ap.SGD(lr=0.1),
    "momentum": ap.Momentum(lr=0.1, momentum=0.8),
    "momentum-lr_in_velocity": ap.Momentum(lr=0.1, momentum=0.8, lr_in_velocity=True),
    "nesterov": ap.Nesterov(lr=0.1, momentum=0.8),
    "nesterov-lr_in_velocity": ap.Nesterov(lr=0.1, momentum=0.8, lr_in_velocity=True),
    "adagrad": ap.AdaGrad(lr=0.1),
    "adagrad-options": ap.AdaGrad(lr=0.1, eps=1e-5, eps_in_sqrt=True, initial_accumulator=0.1),
    "rmsprop": ap.RMSProp(),
    "rmsprop-eps_in_sqrt": ap.RMSProp(rho=0.9, eps=1e-6, eps_in_sqrt=True, initial_scale=1.0),
    "rmsprop-centered": ap.RMSProp(centered=True),
    "rmsprop-centered-corrected": ap.RMSProp(centered=True, bias_correction=True, eps=1.0),
    "rmsprop-momentum": ap.RMSProp(momentum=0.9, bias_correction=True),
    "rmsprop-nesterov": ap.RMSProp(momentum=0.9, nesterov=True, lr_in_velocity=True),
    "rmsprop-centered-momentum": ap.RMSProp(momentum=0.9, centered=True, lr_in_velocity=True),
    "adadelta": ap.AdaDelta(),
    "adadelta-options": ap.AdaDelta(lr=0.5, rho=0.8, eps=1e-4),
    "adam": ap.Adam(),
    "adam-options": ap.Adam(beta1=0.8, beta2=0.95, eps=1e-6),
    "adam-eps_before_correction": ap.Adam(eps=1e-3, eps_before_correction=True),
    "adam-no-memory": ap.Adam(beta1=0.0, beta2=0.0),
    "amsgrad": ap.AMSGrad(),
    "amsgrad-options": ap.AMSGrad(beta1=0.8, beta2=0.7, eps=1e-6),
    "amsgrad-eps_before_correction": ap.AMSGrad(eps=1e-3, eps_before_correction=True),
    "adamw": ap.AdamW(),
    "adamw-options": ap.AdamW(weight_decay=0.2, beta1=0.8, beta2=0.95, eps=1e-6),
    "adamw-eps_before_correction": ap.AdamW(eps=1e-3, eps_before_correction=True),
    "nadam": ap.NAdam(),
    "nadam-options": ap.NAdam(momentum_decay=0.5, beta1=0.8, beta2=0.95, eps=1e-6),
    "nadam-constant-momentum": ap.NAdam(momentum_decay=0.0),
    "radam": ap.RAdam(),
    "radam-options": ap.RAdam(beta1=0.8, beta2=0.9, eps=1e-6),
    "radam-never-rectified": ap.RAdam(beta2=0.6),
    "adamax": ap.Adamax(),
    "adamax-options": ap.Adamax(beta1=0.8, beta2=0.95, eps=1e-6),
    "lion": ap.Lion(),
    "lion-options": ap.Lion(lr=0.1, beta1=0.5, beta2=0.6, weight_decay=0.2),
    "rprop": ap.Rprop(),
    "rprop-options": ap.Rprop(eta_minus=0.4, eta_plus=1.5, step_min=1e-3, step_max=0.012),
}

COMMON = {field.name for field in fields(ap.Optimizer)} - {"lr"} | {"decoupled"}
"""Fields that the base class handles for all optimizers."""
