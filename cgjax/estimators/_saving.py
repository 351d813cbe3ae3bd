"""Estimators as files, see `Estimator.save`: which of their attributes go where."""

import os
from typing import Any, TypeVar

import jax
import numpy as np

from cgjax._static import Leaf, Tree
from cgjax.estimators import _files
from cgjax.estimators._scaling import Scaling

# Numbers that `fit` sets, whatever is predicted.
FITTED = ("seed_", "n_iter_", "first_noise_", "prior_", "n_features_in_")
WEIGHTS = "weights/"

EstimatorT = TypeVar("EstimatorT")


def save(estimator: Leaf, path: str | os.PathLike[str]) -> None:
    """Writes a fitted estimator."""
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(estimator)
    of_kind, arrays = estimator._kept()
    fitted = {name: getattr(estimator, name) for name in FITTED}
    header = {
        "estimator": type(estimator).__name__,
        "own network": estimator.network is not None,
        "arguments": {n: _plain(n, value) for n, value in estimator.get_params(False).items()},
        "numbers": {name: _as_json(value) for name, value in (fitted | of_kind).items()},
        "features": [*map(str, getattr(estimator, "feature_names_in_", ()))],
    }
    arrays |= scaling_arrays("inputs", estimator._inputs)
    arrays |= {WEIGHTS + name: leaf for name, leaf in _named(estimator.weights_).items()}
    _files.write(path, header, arrays)


def load(kind: type[EstimatorT], path: str | os.PathLike[str], network: Leaf) -> EstimatorT:
    """Reads an estimator of a kind."""
    header, arrays = _files.read(path)
    _check_kind(kind, path, header, network)
    try:
        made: Any = kind(**_arguments(header) | {"network": network})
        for name in FITTED:
            setattr(made, name, header["numbers"][name])
        if header["features"]:
            made.feature_names_in_ = np.array(header["features"], object)
        made._inputs = scaling_of("inputs", arrays)
        made.constant_features_ = np.flatnonzero(made._inputs.constant)
        made._restore(header["numbers"], arrays)
    except (KeyError, TypeError) as error:
        raise _files.damaged(path, error) from error
    like = made._build()
    kept = {n.removeprefix(WEIGHTS): a for n, a in arrays.items() if n.startswith(WEIGHTS)}
    wanted = {name: leaf.shape for name, leaf in _named(like).items()}
    found = {name: array.shape for name, array in kept.items()}
    if wanted != found:
        raise ValueError(
            f"{path} holds weights of the shapes {found}, and the network has {wanted}: it is not "
            "the one that was fitted."
        )
    made.weights_ = jax.tree.unflatten(jax.tree.structure(like), [kept[name] for name in wanted])
    return made


def scaling_arrays(name: str, scaling: Scaling) -> dict[str, np.ndarray]:
    """Units as arrays of a file."""
    return {f"{name}/{field}": array for field, array in scaling._asdict().items()}


def scaling_of(name: str, arrays: dict[str, np.ndarray]) -> Scaling:
    """Units from the arrays of a file."""
    return Scaling(*(arrays[f"{name}/{field}"] for field in Scaling._fields))


def _check_kind(kind: type, path: Any, header: dict[str, Any], network: Leaf) -> None:
    name = header.get("estimator")
    if name != kind.__name__:
        raise ValueError(f"{path} holds a {name}, not a {kind.__name__}: `{name}.load(path)`.")
    if header.get("own network") and network is None:
        raise ValueError(
            f"{path} holds the weights of a network of your own: `load(path, network=...)` with "
            "what was given to the constructor."
        )
    if not header.get("own network") and network is not None:
        raise ValueError(f"{path} holds the default network: `load(path)`, without `network`.")


def _arguments(header: dict[str, Any]) -> dict[str, Any]:
    """Of the constructor; JSON has no tuples."""
    kept = header["arguments"].items()
    return {name: tuple(value) if isinstance(value, list) else value for name, value in kept}


def _plain(name: str, value: Any) -> Any:
    """An argument of the constructor as JSON has it."""
    if name == "network" or (name == "random_state" and not isinstance(value, int | np.integer)):
        return None
    return _as_json(value)


def _as_json(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _named(tree: Tree) -> dict[str, Leaf]:
    """Arrays of a tree by their places in it."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): a for path, a in leaves}
