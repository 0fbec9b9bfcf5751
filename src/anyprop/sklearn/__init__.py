"""scikit-learn estimators that train where their arrays are.

`MLPClassifier` and `MLPRegressor` take the parameters of scikit-learn's classes of the same names and
mean the same by them, so a pipeline changes one import. They need the extra ``anyprop[sklearn]``.
"""

from __future__ import annotations

try:
    from anyprop.sklearn.classifier import MLPClassifier
    from anyprop.sklearn.regressor import MLPRegressor
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] not in ("scipy", "sklearn"):
        raise
    raise ImportError(
        'anyprop.sklearn needs scikit-learn; run pip install "anyprop[sklearn]".'
    ) from None

__all__ = ["MLPClassifier", "MLPRegressor"]
