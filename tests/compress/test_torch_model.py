"""Building models, and checkpoints that do not fit, are damaged, or want to run code."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from deploypipe.compress.masks import Mask
from deploypipe.compress.torch_model import Builder, TorchModel, load_weights
from deploypipe.core.errors import UserError
from deploypipe.core.files import digest_tree

CODE = """
from torch import nn

def linear(size=2):
    return nn.Linear(size, 3)

def raises():
    raise RuntimeError("no such backbone")

def number():
    return 7
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


@pytest.fixture
def refused(tmp_path):
    """Load a state as a checkpoint of ``Linear(2, 3)``; the error's text."""

    def run(state, name="w.pt"):
        path = tmp_path / name
        if isinstance(state, bytes):
            path.write_bytes(state)
        else:
            (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
        with pytest.raises(UserError) as caught:
            load_weights(nn.Linear(2, 3), path)
        assert caught.value.where == "model.weights"
        assert str(path) in caught.value.what
        return str(caught.value)

    return run


def state_of(module: nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: value.clone() for name, value in module.state_dict().items()}


def test_the_function_gets_its_arguments(file):
    assert Builder(f"{file}:linear", {"size": 5}).build().in_features == 5


def test_a_function_of_an_installed_module_is_found():
    module = Builder("torch.nn:Linear", {"in_features": 2, "out_features": 3}).build()
    assert isinstance(module, nn.Linear)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{folder}/none.py:linear", "model.build: no such file: {folder}/none.py."),
        ("{file}:liner", "model.build: {file} has no function 'liner', did you mean 'linear'?"),
        ("{file}:raises", "model.build: {file}:raises raises RuntimeError: no such backbone."),
        ("{file}:number", "model.build: {file}:number returns int, not a torch.nn.Module."),
        ("linear", "model.build: expected FILE.py:FUNCTION or MODULE:FUNCTION, got 'linear'."),
    ],
)
def test_what_cannot_be_built_is_told(file, place, message):
    names = {"file": file, "folder": file.parent}
    with pytest.raises(UserError) as caught:
        Builder(place.format(**names)).build()
    assert str(caught.value) == message.format(**names)


def test_a_missing_module_is_told():
    with pytest.raises(UserError, match="model.build: cannot import no_such_module: Module"):
        Builder("no_such_module:f").build()


def test_a_module_with_a_mistake_in_it_is_told(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("def f(:")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="cannot import broken_module: SyntaxError"):
        Builder("broken_module:f").build()


def test_a_saved_model_comes_back_with_its_masks(file, tmp_path):
    module = Builder(f"{file}:linear").build()
    masks = (Mask("weight", 0, (1,)), Mask("bias", 0, (1,)))
    TorchModel(module, Builder(f"{file}:linear"), masks).save(tmp_path / "m")
    again = TorchModel.load(tmp_path / "m")
    assert again.masks == masks
    assert (again.module.weight[1] == 0).all()
    assert torch.equal(again.module.weight[0], module.weight[0])
    assert not again.module.training


def test_a_model_without_masks_has_no_masks(file, tmp_path):
    TorchModel(Builder(f"{file}:linear").build(), Builder(f"{file}:linear")).save(tmp_path / "m")
    assert TorchModel.load(tmp_path / "m").masks == ()


def test_another_forward_is_another_model_even_with_equal_weights(file, tmp_path):
    made = TorchModel(Builder(f"{file}:linear").build(), Builder(f"{file}:linear"))
    made.save(tmp_path / "a")
    made.save(tmp_path / "b")
    assert digest_tree(tmp_path / "a") == digest_tree(tmp_path / "b")
    file.write_text(CODE + "# another\n")
    made.save(tmp_path / "c")
    assert digest_tree(tmp_path / "a") != digest_tree(tmp_path / "c")


def test_the_code_of_an_installed_module_is_noted():
    assert len(Builder("torch.nn:Linear").code) == 64
    assert Builder("no_such_module:f").code == ""


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_is_loaded(tmp_path, name, prefix):
    state, module = state_of(nn.Linear(2, 3), prefix), nn.Linear(2, 3)
    (save_file if name.endswith("s") else torch.save)(state, tmp_path / name)
    load_weights(module, tmp_path / name)
    assert torch.equal(module.weight, state[f"{prefix}weight"])


def test_a_checkpoint_of_a_training_run_is_loaded(tmp_path):
    state, module = state_of(nn.Linear(2, 3), "module."), nn.Linear(2, 3)
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "w.pt")
    load_weights(module, tmp_path / "w.pt")
    assert torch.equal(module.bias, state["module.bias"])


def test_a_part_that_is_called_module_keeps_its_name(tmp_path):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 3)

    state, module = state_of(Wrapped()), Wrapped()
    torch.save(state, tmp_path / "w.pt")
    load_weights(module, tmp_path / "w.pt")
    assert torch.equal(module.module.weight, state["module.weight"])


def test_the_counter_that_old_checkpoints_lack_is_not_missed(tmp_path):
    state = state_of(nn.BatchNorm2d(2))
    del state["num_batches_tracked"]
    torch.save(state, tmp_path / "w.pt")
    load_weights(nn.BatchNorm2d(2), tmp_path / "w.pt")


def test_missing_unexpected_and_misshapen_tensors_are_named(refused):
    state = {"weight": torch.zeros(3, 5), "head.bias": torch.zeros(3)}
    text = refused(state)
    assert "missing: bias; unexpected: head.bias; other shapes: weight is [3, 5]" in text
    assert "the model has [3, 2]. Build the model with the arguments" in text


def test_of_many_names_three_are_told(refused):
    text = refused({**state_of(nn.Linear(2, 3)), **{f"x{i}": torch.zeros(1) for i in range(9)}})
    assert "unexpected: x0, x1, x2 and 6 more" in text


def test_no_such_checkpoint(tmp_path):
    with pytest.raises(UserError, match="model.weights: no such checkpoint: .*none.pt"):
        load_weights(nn.Linear(2, 3), tmp_path / "none.pt")


def test_a_pickle_that_needs_code_is_refused_and_its_code_does_not_run(refused, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    assert "needs code to be loaded, or is damaged; refused" in refused({"weight": Evil()})
    assert "refused" in refused(pickle.dumps(Evil()))
    assert not (tmp_path / "ran").exists()


def test_a_whole_module_is_refused(refused):
    assert "Save model.state_dict() alone" in refused(nn.Linear(2, 3))


@pytest.mark.parametrize(
    "state",
    [
        [torch.zeros(1)],
        {"weight": 3},
        torch.zeros(2),
        {0: torch.zeros(2)},
        {"state_dict": {0: torch.zeros(2)}},
    ],
)
def test_what_is_no_state_dict_is_refused(refused, state):
    assert "holds no state dict" in refused(state)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.97])
def test_a_checkpoint_that_is_cut_short_is_refused(refused, tmp_path, name, share):
    (save_file if name.endswith("s") else torch.save)(state_of(nn.Linear(2, 3)), tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    text = refused(content[: int(share * len(content))], name)
    assert "cannot be read as a checkpoint" in text or "is damaged" in text


def test_text_is_no_checkpoint(refused):
    refused(b"hello, this is a readme and no checkpoint", "w.pt")
    refused(b"hello, this is a readme and no checkpoint", "w.safetensors")
