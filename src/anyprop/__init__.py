"""anyprop trains multilayer perceptrons on any Array API backend.

The public names are imported when they are first used, so that `import anyprop` costs next to nothing;
``__init__.pyi`` tells type checkers and editors of them.
"""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "backend": "available_backends from_host get_namespace to_host to_namespace",
    "checkpoint": "Checkpoint load save",
    "compiled.compile": "compile",
    "data.idx": "load_idx",
    "data.mnist": "load_mnist",
    "layers.affine": "Affine",
    "layers.batch_norm": "BatchNorm",
    "layers.dropout": "Dropout",
    "layers.elu": "ELU",
    "layers.gelu": "GELU",
    "layers.identity": "Identity",
    "layers.layer_norm": "LayerNorm",
    "layers.leaky_relu": "LeakyReLU",
    "layers.relu": "ReLU",
    "layers.residual": "Residual",
    "layers.sequential": "Sequential",
    "layers.sigmoid": "Sigmoid",
    "layers.silu": "SiLU",
    "layers.softmax": "Softmax",
    "layers.softplus": "Softplus",
    "layers.tanh": "Tanh",
    "losses.huber": "Huber",
    "losses.mean_absolute_error": "MeanAbsoluteError",
    "losses.mean_squared_error": "MeanSquaredError",
    "losses.poisson_nll": "PoissonNLL",
    "losses.sigmoid_cross_entropy": "SigmoidCrossEntropy",
    "losses.softmax_cross_entropy": "SoftmaxCrossEntropy",
    "network": "MLP value_and_grad",
    "onnx": "export_onnx",
    "optimizers.adadelta": "AdaDelta",
    "optimizers.adagrad": "AdaGrad",
    "optimizers.adam": "Adam",
    "optimizers.adamax": "Adamax",
    "optimizers.adamw": "AdamW",
    "optimizers.amsgrad": "AMSGrad",
    "optimizers.lion": "Lion",
    "optimizers.momentum": "Momentum",
    "optimizers.nadam": "NAdam",
    "optimizers.nesterov": "Nesterov",
    "optimizers.radam": "RAdam",
    "optimizers.rmsprop": "RMSProp",
    "optimizers.rprop": "Rprop",
    "optimizers.sgd": "SGD",
    "parameters": "Parameters",
    "plotting": "plot_history",
    "testing.check_backend": "check_backend",
    "testing.differences": "GradcheckError",
    "testing.gradcheck": "GradcheckReport gradcheck",
    "testing.report": "BackendReport",
    "training.batches": "batch_indices",
    "training.callbacks.base": "Callback",
    "training.callbacks.checkpoints": "Checkpoints",
    "training.callbacks.csv_logger": "CSVLogger",
    "training.callbacks.early_stopping": "EarlyStopping",
    "training.callbacks.json_logger": "JSONLogger",
    "training.callbacks.reduce_lr_on_plateau": "ReduceLROnPlateau",
    "training.evaluate": "Evaluation evaluate predict",
    "training.fit": "FitResult fit",
    "history": "EpochRecord History",
    "training.resume": "ResumeError",
    "training.run": "Run TrainingDivergedError",
    "step": "Step make_step",
}
"""Module -> the public names that it defines."""

_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}
_MODULES = ("book", "distributed", "initializers", "interchange", "schedules")

__all__ = sorted([*_MODULE_OF, *_MODULES])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("anyprop")
    if name in _MODULES:
        return importlib.import_module(f"anyprop.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'anyprop' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"anyprop.{_MODULE_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
