"""cuBLASLt's products in a capture, on a GPU, against float64 on the host: `pytest --backend cupy`."""

from __future__ import annotations

import numpy as np
import pytest

from anyprop.compiled.cuda_products import Products

pytestmark = pytest.mark.needs("cupy")
# The article's, those of single numbers, odd ones, whose rows are not at round addresses, and a
# large one.
SHAPES = [(100, 784, 200), (100, 200, 10), (784, 100, 200), (1, 1, 1), (1, 5, 1), (6, 3, 5)]
SHAPES += [(5, 7, 2), (2048, 1024, 2048)]


@pytest.fixture(params=["float32", "float64"])
def made(request, rng):
    """Return arrays on the GPU, and the same on the host."""
    import cupy

    def arrays(*shapes):
        hosts = [rng.standard_normal(shape).astype(request.param) for shape in shapes]
        return [(cupy.asarray(host), host.astype("float64")) for host in hosts]

    return arrays


def _captured(launch, stream, *results):
    """Launch it, capture it, spoil the results, and compute them again by the graph."""
    launch()
    stream.begin_capture()
    launch()
    graph = stream.end_capture()
    for result in results:
        result.fill(7)
    graph.launch()
    stream.synchronize()
    return [result.get() for result in results]


@pytest.fixture
def products():
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        products = Products(stream)
        yield products, stream
        stream.synchronize()
        products.close()


def _close(found, wanted, k):
    """Sums of k products of normal numbers are about sqrt(k), and each product is rounded."""
    atol = 8 * np.finfo(found.dtype).eps * k
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("transposed", ["", "a", "b", "ab"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_of_every_layout(shape, transposed, made, products):
    n, k, m = shape
    (a, a_host), (b, b_host), (out, _) = made(
        (k, n) if "a" in transposed else (n, k), (m, k) if "b" in transposed else (k, m), (n, m)
    )
    a, a_host = (a.T, a_host.T) if "a" in transposed else (a, a_host)
    b, b_host = (b.T, b_host.T) if "b" in transposed else (b, b_host)
    library, stream = products
    stream.synchronize()
    (found,) = _captured(library.plain(a, b, out), stream, out)
    _close(found, a_host @ b_host, k)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bias_and_relu_go_with_a_product_or_are_declined(shape, made, products):
    n, k, m = shape
    (a, a_host), (b, b_host), (bias, bias_host), (out, _) = made((n, k), (k, m), (m,), (n, m))
    library, stream = products
    launch = library.rectified(a, b, bias, out)
    if launch is None:
        print(f"no epilogue for {shape} of {out.dtype}")
        return
    (found,) = _captured(launch, stream, out)
    _close(found, np.maximum(a_host @ b_host + bias_host, 0), k + 1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_go_with_a_product_or_are_declined(shape, made, products):
    """As for a matrix and a bias: the gradient of one is x^T dy, that of the other the sum of dy."""
    n, k, m = shape
    (x, x_host), (dy, dy_host), (out, _), (sums, _) = made((k, n), (k, m), (n, m), (m,))
    library, stream = products
    launch = library.summed(x.T, dy, out, sums)
    if launch is None:
        print(f"no sums for {shape} of {out.dtype}")
        return
    found, summed = _captured(launch, stream, out, sums)
    _close(found, x_host.T @ dy_host, k)
    _close(summed, dy_host.sum(axis=0), k)
