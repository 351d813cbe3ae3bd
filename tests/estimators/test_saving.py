"""Files of estimators: the same predictions, no code, whole or absent, and no other files."""

import json
import os
import pickle
import re

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.exceptions import NotFittedError

from cgjax.estimators import BayesianClassifier, BayesianRegressor, Network, _files
from tests.estimators.tables import SMALL, classifier, labels, regressor, table
from tests.estimators.test_regressor import initial, plain

X, Y = table()


@pytest.fixture(scope="module")
def fitted():
    return regressor(hidden=[8], prior=(1.0,)).fit(X, Y)


@pytest.fixture
def file(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    return tmp_path / "model"


def test_a_regressor_comes_back(fitted, file):
    back = BayesianRegressor.load(file)
    np.testing.assert_array_equal(back.predict(X, True), fitted.predict(X, True))
    np.testing.assert_array_equal(back.log_prob(X, Y), fitted.log_prob(X, Y))
    assert back.get_params() == fitted.get_params() | {"hidden": (8,)}
    for name in ("seed_", "n_iter_", "first_noise_", "prior_", "n_features_in_"):
        assert getattr(back, name) == getattr(fitted, name)
    assert os.listdir(file.parent) == ["model"]


def test_a_file_holds_no_pickle(file):
    with np.load(file, allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive.files)


@pytest.mark.parametrize("kind", [str, object])
def test_a_classifier_comes_back(kind, tmp_path):
    y = labels(X).astype(kind)
    model = classifier(method="ensemble", members=2).fit(X, y)
    model.save(tmp_path / "model")
    back = BayesianClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(back.predict_proba(X), model.predict_proba(X))
    assert np.array_equal(back.predict(X), model.predict(X))
    assert back.classes_.dtype == model.classes_.dtype
    model.classes_ = np.array([0, "one"], object)
    with pytest.raises(TypeError, match="Classes in a file are numbers or strings"):
        model.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_names_of_features_come_back(fitted, tmp_path):
    fitted.feature_names_in_ = np.array(["a", "b"], object)
    try:
        fitted.save(tmp_path / "model")
    finally:
        del fitted.feature_names_in_
    names = BayesianRegressor.load(tmp_path / "model").feature_names_in_
    assert names.tolist() == ["a", "b"] and names.dtype == object


def test_a_network_of_ones_own_is_given_again(tmp_path):
    network = Network(initial, plain)
    model = regressor(network).fit(X, Y)
    path = tmp_path / "model"
    model.save(path)
    back = BayesianRegressor.load(path, network)
    np.testing.assert_array_equal(back.predict(X), model.predict(X))
    with pytest.raises(ValueError, match=r"network of your own: `load\(path, network="):
        BayesianRegressor.load(path)

    wider = Network(
        lambda key, features, outputs: initial(key, features, outputs) | {"b": X}, plain
    )
    with pytest.raises(ValueError, match="it is not the one that was fitted"):
        BayesianRegressor.load(path, wider)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict(X), model.predict(X))


def changed(**entries):
    """A file with another header."""

    def change(content, path):
        _files.write(path, entries, {})
        return path.read_bytes()

    return change


FOREIGN = {
    "text": lambda content, path: b"not a model",
    "nothing": lambda content, path: b"",
    "cut": lambda content, path: content[: len(content) // 2],
    "cut a little": lambda content, path: content[:-10],
    "a bit": lambda content, path: content[:700] + bytes([content[700] ^ 1]) + content[701:],
    "a pickle": lambda content, path: pickle.dumps({"format": "cgjax.estimators"}),
    "another format": changed(format="other"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_files_are_refused(name, file):
    file.write_bytes(FOREIGN[name](file.read_bytes(), file))
    with pytest.raises(ValueError, match=re.escape(f"{file} was not written by `save`")):
        BayesianRegressor.load(file)


def test_other_archives_are_refused(tmp_path):
    np.save(tmp_path / "array.npy", X)
    np.savez(tmp_path / "arrays.npz", x=X)
    for name in ("array.npy", "arrays.npz"):
        with pytest.raises(ValueError, match="was not written by `save`"):
            BayesianRegressor.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        BayesianRegressor.load(tmp_path / "none")


def test_kinds_and_versions_and_networks_that_do_not_fit(file, tmp_path):
    with pytest.raises(ValueError, match="holds a BayesianRegressor, not a BayesianClassifier"):
        BayesianClassifier.load(file)
    with pytest.raises(ValueError, match="holds the default network"):
        BayesianRegressor.load(file, Network(initial, plain))
    _files.write(tmp_path / "later", {"version": 2}, {})
    with pytest.raises(ValueError, match="has version 2 of the format, and this cgjax reads 1"):
        BayesianRegressor.load(tmp_path / "later")
    header, arrays = _files.read(file)
    _files.write(file, header, {name: a for name, a in arrays.items() if "outputs" not in name})
    with pytest.raises(ValueError, match="is damaged"):
        BayesianRegressor.load(file)


def test_a_file_is_whole_or_the_older_one(fitted, file, monkeypatch):
    before = file.read_bytes()

    def fails(*_):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no space"):
        fitted.save(file)
    assert file.read_bytes() == before and os.listdir(file.parent) == ["model"]


def test_what_is_not_fitted_has_no_file(tmp_path):
    with pytest.raises(NotFittedError):
        BayesianRegressor().save(tmp_path / "model")


def test_the_header_is_json_with_the_arguments(file):
    with np.load(file) as archive:
        header = json.loads(archive["header"].tobytes())
    assert header["version"] == 1 and header["arguments"]["max_epochs"] == SMALL["max_epochs"]
