"""Networks and training runs in files.

    checkpoint    `save` and `load`
    packing       what a checkpoint has, as arrays by name and texts
    unpacking     the way back, verified
    tensors       arrays by name in the safetensors format, with a checksum
    header        what a file claims to hold, and whether it can be so

Each imports only those below it, but for `packing`, which knows nothing of files.
"""

from anyprop.checkpoint.checkpoint import (
    Checkpoint as Checkpoint,
    is_ours as is_ours,
    load as load,
    save as save,
    save_checkpoint as save_checkpoint,
)
from anyprop.checkpoint.packing import check_dtypes as check_dtypes
