"""Checks of a layer, a loss, an optimizer or a whole array library.

    gradcheck        gradients against central differences, for layers and losses of your own
    check_backend    the library's contract, run against any Array API namespace
    contract         all its checks; layer_cases, loss_cases and optimizer_cases are its tables
    one_check        one of them on one namespace, and its outcome
    report           what `check_backend` returns

`pytest --pyargs anyprop.testing` runs the contract as tests, on the namespace that the environment
variable ``ANYPROP_BACKEND`` names.
"""
