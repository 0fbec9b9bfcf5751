from anyprop import (
    book as book,
    distributed as distributed,
    initializers as initializers,
    interchange as interchange,
    schedules as schedules,
)
from anyprop.backend import (
    available_backends as available_backends,
    from_host as from_host,
    get_namespace as get_namespace,
    namespace as namespace,
    to_host as to_host,
    to_namespace as to_namespace,
)
from anyprop.checkpoint import Checkpoint as Checkpoint, load as load, save as save
from anyprop.compiled.compile import compile as compile
from anyprop.data.four_files import load_idx as load_idx
from anyprop.data.image import load_image as load_image
from anyprop.data.mnist import load_mnist as load_mnist
from anyprop.history import EpochRecord as EpochRecord, History as History
from anyprop.layers.affine import Affine as Affine
from anyprop.layers.base import Layer as Layer
from anyprop.layers.batch_norm import BatchNorm as BatchNorm
from anyprop.layers.dropout import Dropout as Dropout
from anyprop.layers.elu import ELU as ELU
from anyprop.layers.gelu import GELU as GELU
from anyprop.layers.identity import Identity as Identity
from anyprop.layers.layer_norm import LayerNorm as LayerNorm
from anyprop.layers.leaky_relu import LeakyReLU as LeakyReLU
from anyprop.layers.relu import ReLU as ReLU
from anyprop.layers.rescale import Rescale as Rescale
from anyprop.layers.residual import Residual as Residual
from anyprop.layers.sequential import Sequential as Sequential
from anyprop.layers.sigmoid import Sigmoid as Sigmoid
from anyprop.layers.silu import SiLU as SiLU
from anyprop.layers.softmax import Softmax as Softmax
from anyprop.layers.softplus import Softplus as Softplus
from anyprop.layers.tanh import Tanh as Tanh
from anyprop.layout import Spec as Spec
from anyprop.losses.base import Loss as Loss
from anyprop.losses.huber import Huber as Huber
from anyprop.losses.mean_absolute_error import MeanAbsoluteError as MeanAbsoluteError
from anyprop.losses.mean_squared_error import MeanSquaredError as MeanSquaredError
from anyprop.losses.poisson_nll import PoissonNLL as PoissonNLL
from anyprop.losses.sigmoid_cross_entropy import SigmoidCrossEntropy as SigmoidCrossEntropy
from anyprop.losses.softmax_cross_entropy import SoftmaxCrossEntropy as SoftmaxCrossEntropy
from anyprop.network import MLP as MLP, value_and_grad as value_and_grad
from anyprop.onnx import export_onnx as export_onnx
from anyprop.optimizers.adadelta import AdaDelta as AdaDelta
from anyprop.optimizers.adagrad import AdaGrad as AdaGrad
from anyprop.optimizers.adam import Adam as Adam
from anyprop.optimizers.adamax import Adamax as Adamax
from anyprop.optimizers.adamw import AdamW as AdamW
from anyprop.optimizers.amsgrad import AMSGrad as AMSGrad
from anyprop.optimizers.base import Optimizer as Optimizer
from anyprop.optimizers.lion import Lion as Lion
from anyprop.optimizers.momentum import Momentum as Momentum
from anyprop.optimizers.nadam import NAdam as NAdam
from anyprop.optimizers.nesterov import Nesterov as Nesterov
from anyprop.optimizers.radam import RAdam as RAdam
from anyprop.optimizers.rmsprop import RMSProp as RMSProp
from anyprop.optimizers.rprop import Rprop as Rprop
from anyprop.optimizers.sgd import SGD as SGD
from anyprop.parameters import Parameters as Parameters
from anyprop.plotting import plot_history as plot_history
from anyprop.schedules.base import Schedule as Schedule
from anyprop.sources.source import Source as Source
from anyprop.sources.stream import Stream as Stream
from anyprop.step import Step as Step, make_step as make_step
from anyprop.testing.check_backend import check_backend as check_backend
from anyprop.testing.differences import GradcheckError as GradcheckError
from anyprop.testing.gradcheck import GradcheckReport as GradcheckReport, gradcheck as gradcheck
from anyprop.testing.report import BackendReport as BackendReport
from anyprop.training.batches import batch_indices as batch_indices
from anyprop.training.callbacks.base import Callback as Callback
from anyprop.training.callbacks.checkpoints import Checkpoints as Checkpoints
from anyprop.training.callbacks.csv_logger import CSVLogger as CSVLogger
from anyprop.training.callbacks.early_stopping import EarlyStopping as EarlyStopping
from anyprop.training.callbacks.json_logger import JSONLogger as JSONLogger
from anyprop.training.callbacks.reduce_lr_on_plateau import ReduceLROnPlateau as ReduceLROnPlateau
from anyprop.training.data_error import DataError as DataError
from anyprop.training.evaluate import (
    Evaluation as Evaluation,
    evaluate as evaluate,
    predict as predict,
)
from anyprop.training.fit import FitResult as FitResult, fit as fit
from anyprop.training.resume import ResumeError as ResumeError
from anyprop.training.run import Run as Run, TrainingDivergedError as TrainingDivergedError

__version__: str
