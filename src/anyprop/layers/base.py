"""What a layer is.

A layer is a frozen dataclass of hyper-parameters. It owns no arrays: parameters come in with every
call, and what the backward pass needs comes back from the forward pass as `residuals`.

    y, residuals = layer.forward(params, x)
    dx, grads    = layer.backward(params, residuals, dy)

`dy` is the gradient of the final loss with respect to y, `dx` with respect to x, and `grads` maps each
trainable name in `specs()` to its gradient, in that order. Nothing is written into an argument.

That pair is all an ordinary layer defines. The other methods have defaults that suit it:

    specs()              the layer's arrays: name -> Spec(shape, initial, trainable); its children's
    width_in             the numbers in a row of x, D; None, for rows of any width
    output_shape(shape)  the shape of y for x of `shape`; the same
    backward_params      only `grads`, for the first layer of a network, whose dx is not needed
    noise(rng, shape)    what one training step draws on the host; None
    forward_train        `forward` while training, given the noise; `forward` itself
    updated_running      the running statistics after a training step; none

A layer made of other layers has two more, with which descriptions, exports and synchronization walk
a network without knowing its kind:

    children()           the layers inside: what their arrays' names begin with -> layer; none
    with_children(c)     the same layer around other children, given by the same names

and calling a layer, ``layer(params, x)``, is inference: y alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np

from anyprop._autograd import unrecorded_methods
from anyprop._checks import check_shape, has, kind, pair, whole
from anyprop._typing import Array, Grads, Initializer, Namespace, Residuals, Rng, Shape
from anyprop._usage import Advising, usage
from anyprop.backend import check_floating, from_host, namespace
from anyprop.initializers import get_initializer
from anyprop.layout import Entry, Layout, Spec
from anyprop.parameters import Parameters, check_kind, filled, map_vectors

_UNRECORDED = (
    "__call__",
    "forward",
    "forward_train",
    "backward",
    "backward_params",
    "updated_running",
)


class Layer(Advising):
    """Base of all layers; the text of its module, `anyprop.layers.base`, is the contract."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        unrecorded_methods(cls, _UNRECORDED)
        if "forward" in vars(cls) and "__call__" not in vars(cls):
            # That of a container would not know of a forward that a class derived from it defines.
            cls.__call__ = Layer.__call__  # type: ignore[method-assign]

    @usage("net(params, x)")
    def __call__(self, params: Parameters, x: Array) -> Array:
        """Compute y from x, as after training."""
        return pair(self, "forward", self.forward(params, x))[0]

    @cached_property
    def _layout(self) -> Layout:
        # Kept, as a layer does not change, and every call of `predict` compares it.
        return Layout.of(self.specs(), dict(_counted(self, "")))

    def children(self) -> Mapping[str, Layer]:
        """List the layers inside, by the prefix of the names of their arrays."""
        return {}

    def with_children(self, children: Mapping[str, Layer]) -> Layer:
        """Return the same layer around other children, which have the names that `children` returns."""
        if children:
            raise NotImplementedError(f"{type(self).__name__} has children but no with_children.")
        return self

    @property
    def width_in(self) -> int | None:
        """Width of a row of x, D; None where the layer takes rows of any width."""
        return None

    def specs(self) -> Mapping[str, Spec]:
        """Describe the layer's arrays by name, in the order of the flat vector."""
        return {
            f"{prefix}{name}": spec
            for prefix, child in self.children().items()
            for name, spec in child.specs().items()
        }

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of y for x of the given shape."""
        return shape

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        """Compute y from x, and what `backward` needs.

        Parameters
        ----------
        params : Parameters, or None where the layer has none
            Beside x.
        x : array, shape (N, D), float
            N rows; of any shape where the layer works on each number alone.

        Returns
        -------
        y : array, shape (N, M), float
            The output; its shape is `output_shape` of that of x.
        residuals
            What `backward` takes.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward.")

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        """Compute dx and the gradients of the parameters from dy.

        Parameters
        ----------
        params : Parameters, or None where the layer has none
            Those that `forward` was given.
        residuals
            What `forward` returned.
        dy : array, shape of y, float
            Gradient with respect to y.

        Returns
        -------
        dx : array, shape of x, float
            Gradient with respect to x.
        grads : dict of str to array
            Gradient of each trainable array, by its name in `specs`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backward.")

    def backward_params(self, params: Parameters, residuals: Residuals, dy: Array) -> Grads:
        """Compute only the gradients of the parameters."""
        return pair(self, "backward", self.backward(params, residuals, dy))[1]

    def noise(self, rng: np.random.Generator, shape: Shape) -> Any:
        """Draw on the host what one training step of x of `shape` needs; None if nothing."""
        return None

    def forward_train(self, params: Parameters, x: Array, noise: Any) -> tuple[Array, Residuals]:
        """Compute `forward` as it is while training, with what `noise` drew."""
        return self.forward(params, x)

    def updated_running(self, params: Parameters, residuals: Residuals) -> Mapping[str, Array]:
        """Return the running statistics after the training step that left `residuals`, by name.

        What calls `forward_train` puts them into the parameters; `backward` gives gradients only.
        """
        return {}

    @usage("net.init(seed=0)")
    def init(
        self,
        seed: int | Rng = 0,
        *,
        xp: Namespace | str | None = None,
        dtype: str = "float32",
        device: Any = None,
        weights: str | Initializer = "he_normal",
    ) -> Parameters:
        """Return the layer's parameters at their starting values.

        Parameters
        ----------
        seed : int >= 0, numpy.random.Generator or numpy.random.RandomState
            Source of the weights; the same seed gives the same bits on every backend.
        xp : namespace or str, optional
            Backend of the parameters; NumPy by default.
        dtype : {"float32", "float64"}
            Dtype of the parameters; any other floating dtype of the backend works too.
        device : str or device, optional
            Device of the parameters; the backend's default by default.
        weights : str or initializer
            How weight matrices are drawn, see `anyprop.initializers`; biases start at 0.

        Returns
        -------
        params
            The layer's `Parameters`, one flat vector and its named views.

        Raises
        ------
        TypeError
            `weights` is neither a name nor a function, or the backend cannot hold the dtype.
        ValueError
            Unknown name, negative seed, unknown device, or an initializer's result of another shape.
        BackendUnavailableError
            The backend is known but cannot be used on this machine.

        Examples
        --------
        >>> import anyprop as ap
        >>> ap.Affine(3, 2).init(seed=8).W.shape
        (3, 2)
        """
        check_floating(dtype)
        specs = self.specs()
        initializer = get_initializer(weights)
        rng: Any = seed
        if not has(seed, "standard_normal"):
            rng = np.random.default_rng(whole("seed", seed))

        def initial(entry: Entry) -> Any:
            constant = specs[entry.name].initial
            if constant is not None:
                return np.full(entry.shape, constant)
            drawn = np.asarray(initializer(rng, entry.shape))
            if drawn.dtype.kind not in "fiu":
                raise TypeError(
                    f"the initial {entry.name} is {drawn.dtype}, expected real numbers."
                )
            check_shape(f"the initial {entry.name}", drawn, entry.shape)
            return drawn

        drawn = filled(layout_of(self), initial, "float64")
        return map_vectors(drawn, partial(from_host, xp=xp, dtype=dtype, device=device))


def own(params: Parameters, name: str) -> Array:
    """Return one of the layer's own arrays; TypeError if `params` are no parameters."""
    try:
        # By its name: for an attribute Python would look everywhere else first.
        return params[name] if type(params) is Parameters else getattr(params, name)
    except KeyError as error:
        raise AttributeError(error.args[0]) from None
    except AttributeError:
        check_kind(params)
        raise


def check_dy(dy: Array, saved: Array) -> Namespace:
    """Raise unless dy is beside what `forward` saved, and of its shape; return the namespace."""
    check_shape("dy", dy, saved.shape)
    return namespace(saved, dy)


def leaves(net: Layer, prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """List the layers that have no others inside, and the prefix of the names of their arrays."""
    children = net.children()
    for name, child in children.items():
        yield from leaves(child, f"{prefix}{name}")
    if not children:
        yield prefix, net


def layout_of(net: Layer) -> Layout:
    """Return the layout of a network's arrays; its `Parameters` then know how many layers there are."""
    # What only acts as a layer may lack all but the two that are asked of it.
    return net._layout if isinstance(net, Layer) else Layout.of(net.specs())


def _counted(net: Layer, prefix: str) -> Iterator[tuple[str, int]]:
    children = net.children()
    if "0." in children:  # which are counted, as those of a Sequential
        yield prefix, len(children)
    for name, child in children.items():
        yield from _counted(child, f"{prefix}{name}")


def check_layer(net: Any) -> None:
    """Raise TypeError unless `net` is a layer or network, or acts as one."""
    if not has(net, "specs"):
        raise TypeError(f"net must be a layer or network such as anyprop.MLP, not {kind(net)}.")
