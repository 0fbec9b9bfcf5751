"""Packs the four IDX files of MNIST into the one file that comes with the package.

    python tools/pack_mnist.py FOLDER src/anyprop/data/mnist.xz

FOLDER holds the files as published, plain or compressed with gzip. The result is an ordinary .xz
file (`xz -d` unpacks it) of the four uncompressed IDX files one after another: images and labels
for training, images and labels for testing. The SHA-256 of each is printed.

It consists of several xz streams so that threads can unpack it. More streams compress less.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import lzma
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anyprop.data._directory import find_files
from anyprop.data.idx import read_idx

STREAMS = 4
FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "lc": 4,
        "pb": 0,
        "dict_size": 16 << 20,
    }
]


def pack(content: bytes) -> bytes:
    """Compress into STREAMS xz streams of nearly equal share."""
    share = -(-len(content) // STREAMS)
    parts = [content[i : i + share] for i in range(0, len(content), share)]
    with ThreadPoolExecutor() as pool:
        return b"".join(pool.map(lambda part: lzma.compress(part, filters=FILTERS), parts))


def main() -> None:
    """Read the folder, print what was read, and write the packed file."""
    parser = argparse.ArgumentParser(description="Pack the IDX files of MNIST into one .xz file.")
    parser.add_argument("folder", type=Path, help="directory of the four IDX files")
    parser.add_argument("output", type=Path, help="file to write")
    arguments = parser.parse_args()

    contents = []
    for path in find_files(arguments.folder):
        shape = read_idx(path).shape
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        contents.append(content)
        print(hashlib.sha256(content).hexdigest(), path.name, shape)

    whole = b"".join(contents)
    packed = pack(whole)
    if lzma.decompress(packed) != whole:
        raise SystemExit("the packed file does not unpack to what was packed; check liblzma.")
    arguments.output.write_bytes(packed)
    print(f"{arguments.output}: {len(packed)} bytes in {STREAMS} streams")


if __name__ == "__main__":
    main()
