"""Every optimizer, with a variant for each of its options; the contract tables run over all of them."""

from __future__ import annotations

from dataclasses import fields

from anyprop.optimizers.adadelta import AdaDelta
from anyprop.optimizers.adagrad import AdaGrad
from anyprop.optimizers.adam import Adam
from anyprop.optimizers.adamax import Adamax
from anyprop.optimizers.adamw import AdamW
from anyprop.optimizers.amsgrad import AMSGrad
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.lion import Lion
from anyprop.optimizers.momentum import Momentum
from anyprop.optimizers.nadam import NAdam
from anyprop.optimizers.nesterov import Nesterov
from anyprop.optimizers.radam import RAdam
from anyprop.optimizers.rmsprop import RMSProp
from anyprop.optimizers.rprop import Rprop
from anyprop.optimizers.sgd import SGD

OPTIMIZER_CASES: dict[str, Optimizer] = {
    "sgd": SGD(lr=0.1),
    "momentum": Momentum(lr=0.1, momentum=0.8),
    "momentum-lr_in_velocity": Momentum(lr=0.1, momentum=0.8, lr_in_velocity=True),
    "nesterov": Nesterov(lr=0.1, momentum=0.8),
    "nesterov-lr_in_velocity": Nesterov(lr=0.1, momentum=0.8, lr_in_velocity=True),
    "adagrad": AdaGrad(lr=0.1),
    "adagrad-options": AdaGrad(lr=0.1, eps=1e-5, eps_in_sqrt=True, initial_accumulator=0.1),
    "rmsprop": RMSProp(),
    "rmsprop-eps_in_sqrt": RMSProp(rho=0.9, eps=1e-6, eps_in_sqrt=True, initial_scale=1.0),
    "rmsprop-centered": RMSProp(centered=True),
    "rmsprop-centered-corrected": RMSProp(centered=True, bias_correction=True, eps=1.0),
    "rmsprop-momentum": RMSProp(momentum=0.9, bias_correction=True),
    "rmsprop-nesterov": RMSProp(momentum=0.9, nesterov=True, lr_in_velocity=True),
    "rmsprop-centered-momentum": RMSProp(momentum=0.9, centered=True, lr_in_velocity=True),
    "adadelta": AdaDelta(),
    "adadelta-options": AdaDelta(lr=0.5, rho=0.8, eps=1e-4),
    "adam": Adam(),
    "adam-options": Adam(beta1=0.8, beta2=0.95, eps=1e-6),
    "adam-eps_before_correction": Adam(eps=1e-3, eps_before_correction=True),
    "adam-no-memory": Adam(beta1=0.0, beta2=0.0),
    "amsgrad": AMSGrad(),
    "amsgrad-options": AMSGrad(beta1=0.8, beta2=0.7, eps=1e-6),
    "amsgrad-eps_before_correction": AMSGrad(eps=1e-3, eps_before_correction=True),
    "adamw": AdamW(),
    "adamw-options": AdamW(weight_decay=0.2, beta1=0.8, beta2=0.95, eps=1e-6),
    "adamw-eps_before_correction": AdamW(eps=1e-3, eps_before_correction=True),
    "nadam": NAdam(),
    "nadam-options": NAdam(momentum_decay=0.5, beta1=0.8, beta2=0.95, eps=1e-6),
    "nadam-constant-momentum": NAdam(momentum_decay=0.0),
    "radam": RAdam(),
    "radam-options": RAdam(beta1=0.8, beta2=0.9, eps=1e-6),
    "radam-never-rectified": RAdam(beta2=0.6),
    "adamax": Adamax(),
    "adamax-options": Adamax(beta1=0.8, beta2=0.95, eps=1e-6),
    "lion": Lion(),
    "lion-options": Lion(lr=0.1, beta1=0.5, beta2=0.6, weight_decay=0.2),
    "rprop": Rprop(),
    "rprop-options": Rprop(eta_minus=0.4, eta_plus=1.5, step_min=1e-3, step_max=0.012),
}

COMMON = {field.name for field in fields(Optimizer)} - {"lr"} | {"decoupled"}
"""Fields that the base class handles for all optimizers."""
