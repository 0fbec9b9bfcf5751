"""Knowledge of the array libraries: namespaces, devices, whether they can be used, transfers."""

from anyprop.backend.availability import (
    BACKENDS as BACKENDS,
    Backend as Backend,
    BackendUnavailableError as BackendUnavailableError,
    available_backends as available_backends,
    devices as devices,
    get_device as get_device,
    get_namespace as get_namespace,
)
from anyprop.backend.dtypes import (
    as_dtype as as_dtype,
    check_floating as check_floating,
    holds_exactly as holds_exactly,
)
from anyprop.backend.freed import (
    computes_on_host as computes_on_host,
    keep_freed_memory as keep_freed_memory,
)
from anyprop.backend.namespaces import (
    check_array as check_array,
    check_plain as check_plain,
    check_same_place as check_same_place,
    concatenated as concatenated,
    create as create,
    device_of as device_of,
    dtype_name as dtype_name,
    memory_range as memory_range,
    name_of as name_of,
    namespace as namespace,
    on_device_of as on_device_of,
    reshaped as reshaped,
)
from anyprop.backend.pinned import (
    Moved as Moved,
    Pinned as Pinned,
)
from anyprop.backend.transfer import (
    from_host as from_host,
    read as read,
    read_number as read_number,
    to_host as to_host,
    to_namespace as to_namespace,
)
