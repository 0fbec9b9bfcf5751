"""Train from a file of uint8 rows, and print by how many MB anonymous memory rose: ``FILE STEPS``."""

import re
import sys
import threading
from pathlib import Path

import numpy as np

import anyprop as ap


def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"^RssAnon:\s*(\d+) kB$", status, re.MULTILINE)[1]) / 1e3


def main():
    net = ap.Affine(784, 10)
    params, highest, done = net.init(seed=8), [0.0], threading.Event()
    # Whatever a first run needs, of numbers that take next to no memory.
    fit = {"loss": ap.SoftmaxCrossEntropy(), "optimizer": ap.SGD(lr=1e-3)}
    ap.fit(net, params, ap.Source((np.zeros((1, 784), "uint8"), np.zeros(1, "uint8"))), **fit)
    before = anonymous()

    def watch():
        while not done.wait(0.002):
            highest[0] = max(highest[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    x = np.load(sys.argv[1], mmap_mode="r")
    result = ap.fit(
        net, params, ap.Source((x, np.zeros(len(x), "uint8"))), steps=int(sys.argv[2]), **fit
    )
    done.set()
    watcher.join()
    assert result.state.step == int(sys.argv[2])
    print(highest[0] - before)


if __name__ == "__main__":
    main()
