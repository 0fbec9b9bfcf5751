"""The table of public names.

One line for each module that defines some: a new layer, loss, optimizer or schedule is entered here, and
nowhere else in the library. From the table follow

    the names of `anyprop`, `anyprop.schedules` and `anyprop.interchange`, imported when first used
    the registries: what a layer, loss, optimizer or schedule is called in files and on the command line
    the files ``__init__.pyi``, the reference and the indexes of the derivations, which
    `tools/public_names.py` writes

The first keys are the parts of the reference. Within a part the order is that of the documentation. A
class of a registry is known by the name of its module: ``"leaky_relu"`` is the activation in
`layers/leaky_relu.py`.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # `import anyprop` reads this file, and should not wait for `typing`
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PUBLIC: dict[str, dict[str, str]] = {
    "backends": {
        "backend": "get_namespace namespace available_backends from_host to_host to_namespace",
        "testing.check_backend": "check_backend",
        "testing.report": "BackendReport",
    },
    "networks": {
        "network": "MLP value_and_grad",
        "parameters": "Parameters",
        "layout": "Spec",
        "testing.gradcheck": "gradcheck GradcheckReport",
        "testing.differences": "GradcheckError",
    },
    "layers": {
        "layers.affine": "Affine",
        "layers.rescale": "Rescale",
        "layers.softmax": "Softmax",
        "layers.dropout": "Dropout",
        "layers.batch_norm": "BatchNorm",
        "layers.layer_norm": "LayerNorm",
        "layers.residual": "Residual",
        "layers.sequential": "Sequential",
        "layers.base": "Layer",
    },
    "activations": {
        "layers.relu": "ReLU",
        "layers.leaky_relu": "LeakyReLU",
        "layers.elu": "ELU",
        "layers.gelu": "GELU",
        "layers.silu": "SiLU",
        "layers.sigmoid": "Sigmoid",
        "layers.tanh": "Tanh",
        "layers.softplus": "Softplus",
        "layers.identity": "Identity",
    },
    "losses": {
        "losses.softmax_cross_entropy": "SoftmaxCrossEntropy",
        "losses.sigmoid_cross_entropy": "SigmoidCrossEntropy",
        "losses.mean_squared_error": "MeanSquaredError",
        "losses.mean_absolute_error": "MeanAbsoluteError",
        "losses.huber": "Huber",
        "losses.poisson_nll": "PoissonNLL",
        "losses.base": "Loss",
    },
    "optimizers": {
        "optimizers.sgd": "SGD",
        "optimizers.momentum": "Momentum",
        "optimizers.nesterov": "Nesterov",
        "optimizers.adagrad": "AdaGrad",
        "optimizers.rmsprop": "RMSProp",
        "optimizers.adadelta": "AdaDelta",
        "optimizers.adam": "Adam",
        "optimizers.amsgrad": "AMSGrad",
        "optimizers.adamw": "AdamW",
        "optimizers.nadam": "NAdam",
        "optimizers.radam": "RAdam",
        "optimizers.adamax": "Adamax",
        "optimizers.lion": "Lion",
        "optimizers.rprop": "Rprop",
        "optimizers.base": "Optimizer",
    },
    "schedules": {
        "schedules.constant": "Constant",
        "schedules.step": "StepDecay",
        "schedules.exponential": "Exponential",
        "schedules.inverse_time": "InverseTime",
        "schedules.linear": "Linear",
        "schedules.polynomial": "Polynomial",
        "schedules.cosine": "Cosine",
        "schedules.cosine_restarts": "CosineRestarts",
        "schedules.one_cycle": "OneCycle",
        "schedules.piecewise": "Piecewise",
        "schedules.join": "Join",
        "schedules.warmup": "Warmup",
        "schedules.registry": "schedule_by_name",
        "schedules.base": "Schedule",
    },
    "training": {
        "training.fit": "fit FitResult",
        "step": "make_step Step",
        "compiled.compile": "compile",
        "training.evaluate": "evaluate Evaluation predict",
        "training.batches": "batch_indices",
        "training.run": "TrainingDivergedError",
        "training.data_error": "DataError",
        "training.resume": "ResumeError",
    },
    "history": {
        "history": "History EpochRecord",
        "plotting": "plot_history",
        "training.run": "Run",
        "training.callbacks.base": "Callback",
        "training.callbacks.checkpoints": "Checkpoints",
        "training.callbacks.csv_logger": "CSVLogger",
        "training.callbacks.json_logger": "JSONLogger",
        "training.callbacks.early_stopping": "EarlyStopping",
        "training.callbacks.reduce_lr_on_plateau": "ReduceLROnPlateau",
    },
    "data": {
        "sources.source": "Source",
        "sources.stream": "Stream",
        "data.mnist": "load_mnist",
        "data.four_files": "load_idx",
        "data.image": "load_image",
        "checkpoint": "Checkpoint save load",
        "onnx": "export_onnx",
    },
    "interchange": {
        "interchange.torch": "to_torch save_torch from_torch",
        "interchange.sklearn": "to_sklearn from_sklearn",
    },
}

MODULES = ("book", "distributed", "initializers", "interchange", "schedules")
"""Modules that `anyprop` has as attributes."""

# These parts are names of a package, not of anyprop.
_OF_THEIR_PACKAGE = ("interchange", "schedules")


def names_of(package: str) -> dict[str, str]:
    """List the public names of `anyprop` or of one of its packages, and the module of each."""
    names: dict[str, str] = {}
    for part, modules in PUBLIC.items():
        for module, defined in modules.items():
            inner = part in _OF_THEIR_PACKAGE and not module.endswith(".base")
            if (package == "anyprop" and not inner) or package == f"anyprop.{part}":
                names |= dict.fromkeys(defined.split(), f"anyprop.{module}")
    return names


def members(part: str) -> dict[str, Any]:
    """Import the classes of a part of the table, by the names of their modules."""
    classes = {}
    for module, name in PUBLIC[part].items():
        stem = module.rpartition(".")[2]
        if stem not in ("base", "registry"):
            classes[stem] = getattr(importlib.import_module(f"anyprop.{module}"), name)
    return classes


def importing(package: str, module_of: dict[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package, which imports a public name when it is first used.

    `module_of` is what `names_of` returns for the package.
    """

    def import_name(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(module_of[name]), name)
        setattr(importlib.import_module(package), name, found)
        return found

    return import_name
