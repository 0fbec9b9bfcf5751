from anyprop.interchange.sklearn import from_sklearn as from_sklearn, to_sklearn as to_sklearn
from anyprop.interchange.torch import (
    from_torch as from_torch,
    save_torch as save_torch,
    to_torch as to_torch,
)
