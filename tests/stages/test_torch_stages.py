"""Source, train, prune, distill and export on the tiny network."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from deploypipe.compress.criteria.l2 import L2
from deploypipe.compress.torch_model import TorchModel
from deploypipe.compress.training import accuracy
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.files import digest_tree
from deploypipe.data import open_samples
from deploypipe.graph.files import load, save
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels
from deploypipe.stages import STAGES
from deploypipe.stages._torch_source import TorchSource
from deploypipe.stages.distill import Distill
from deploypipe.stages.export import Export
from deploypipe.stages.optimize import Optimize
from deploypipe.stages.prune import Prune
from deploypipe.stages.train import Train

NOTHING = Artifact(Kind.TORCH, Path(), "nothing")


def zeros_under_masks(model: TorchModel) -> bool:
    state = dict(model.module.named_parameters())
    return all(
        (state[m.parameter].index_select(m.axis, torch.tensor(m.dead)) == 0).all()
        for m in model.masks
    )


def test_the_source_is_the_built_model_with_weights_from_the_seed(net_file, net_desk, tmp_path):
    made = [
        TorchSource(f"{net_file}:net", {"width": 4}, seed=seed).run(NOTHING, net_desk(tmp_path / n))
        for n, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert made[0].digest == made[1].digest != made[2].digest
    assert TorchModel.load(made[0].path).module.stem.out_channels == 4


def test_an_edited_model_file_is_another_source(tmp_path, net_file):
    file = tmp_path / "m.py"
    file.write_text(net_file.read_text())
    before = TorchSource(f"{file}:net")
    file.write_text(net_file.read_text().replace(".relu()", ".tanh()"))
    assert TorchSource(f"{file}:net") != before


def test_weights_beside_an_export_are_part_of_it(net_torch, net_desk, tmp_path, monkeypatch):
    monkeypatch.setattr(save, "__defaults__", (10,))
    made = Export(batches=[1]).run(net_torch, net_desk(tmp_path / "out"))
    assert [file.name for file in made.data] == ["model.onnx.data"]


def test_a_model_that_cannot_take_the_samples_is_told_before_any_work(net_data, tmp_path):
    file = tmp_path / "m.py"
    file.write_text("from torch import nn\ndef f():\n    return nn.Conv2d(5, 2, 3)\n")
    source = TorchSource(f"{file}:f")
    with pytest.raises(UserError, match=r"cannot take the samples \(image float32\[2, 3, 8, 8\]\)"):
        source.try_out(net_data, None)


def test_a_model_that_answers_with_no_tensor_is_told_before_any_work(net_data, tmp_path):
    file = tmp_path / "m.py"
    file.write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n    def forward(self, image):\n        return {'logits': image}\n"
        "def f():\n    return Net()\n"
    )
    with pytest.raises(UserError, match=r"model.build: the model answers with dict, not with a te"):
        TorchSource(f"{file}:f").try_out(net_data, None)


def test_labels_beyond_the_classes_are_told_before_any_work(net_file, net_data):
    with pytest.raises(UserError, match="the model has 3 classes"):
        TorchSource(f"{net_file}:net", {"classes": 3}).try_out(net_data, None)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"train": {"epochs": 0}}, "steps[0].train: epochs must be at least 1"),
        ({"train": {"epoch": 1}}, "steps[0].train: unknown option 'epoch', did you mean 'epochs'?"),
        ({"train": {"rate": -1}}, "steps[0].train: rate must be positive, got -1"),
        ({"train": {"shift": -1}}, "steps[0].train: decay and shift must not be negative"),
        ({"train": {"batch": "x"}}, "steps[0].train.batch: expected int, got 'x'"),
        ({"prune": {"amount": 1}}, "steps[0].prune: amount must be in (0, 1), got 1"),
        ({"prune": {"floor": 2}}, "steps[0].prune: floor must be in [0, 1], got 2"),
        ({"prune": {"round_to": 0}}, "steps[0].prune: round_to must be at least 1, got 0"),
        ({"prune": {"narrow": -1}}, "steps[0].prune: narrow must not be negative, got -1"),
        ({"prune": {"criterion": "l3"}}, "steps[0].prune.criterion: unknown criterion 'l3'"),
        (
            {"distill": {"loss": {"knowledge": {"weight": 2}}}},
            "steps[0].distill.loss.knowledge: weight must be in [0, 1], got 2",
        ),
        ({"export": {"batches": []}}, "steps[0].export: batches must be positive sizes, got []"),
        ({"export": {"batches": [0]}}, "steps[0].export: batches must be positive sizes"),
    ],
)
def test_options_that_cannot_be_are_told_with_their_path(spec, message):
    with pytest.raises(UserError) as caught:
        STAGES.build(spec, "steps[0]")
    assert str(caught.value).startswith(message)


def test_training_notes_what_came_out(net_torch, net_desk, tmp_path):
    before = digest_tree(net_torch.path)
    stage = Train(epochs=2, batch=16, rate=0.05, bf16=False)
    made = stage.run(net_torch, net_desk(tmp_path / "artifact"))
    assert made.kind is Kind.TORCH
    assert 0 <= made.notes["accuracy"] <= 1
    assert len(made.notes["losses"]) == 2
    assert made.notes["changes"][0].startswith("2 epochs, loss ")
    assert made.notes["bf16"] is False
    assert made.digest != net_torch.digest
    assert digest_tree(net_torch.path) == before


def test_learning_counts_its_work(net_data):
    work = Train(epochs=3).work(net_data)
    assert work.trained == 3 * 56
    assert work.forwarded == 40
    assert Distill(epochs=3).work(net_data).forwarded == 40 + 3 * 56


def test_learning_needs_labels(net_data):
    split = net_data.split("train")
    bare = dataclasses.replace(net_data, splits={"train": split, "validation": _Bare(split)})
    with pytest.raises(UserError, match="data: the samples of validation have no class labels"):
        Train().work(bare)


class _Bare:
    name, labels = "validation", None

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return len(self.split)


def test_what_is_for_images_is_refused_for_arrays(net_data):
    with pytest.raises(UserError, match="data.source: shift and mirror are for images"):
        Train(shift=1).work(net_data)


def test_pruning_scores_every_group_once(net_torch, net_desk, tmp_path):
    seen = []

    class Counting(L2):
        def score(self, group, parameters):
            seen.append(group.name)
            return super().score(group, parameters)

    Prune(criterion=Counting()).run(net_torch, net_desk(tmp_path / "artifact"))
    assert sorted(seen) == ["inner.weight", "stem.weight"]


def test_pruning_masks_whole_channels_and_tells_each_group(net_pruned, net_data):
    model = TorchModel.load(net_pruned.path)
    notes = net_pruned.notes
    sizes = {group["name"]: (group["before"], group["after"]) for group in notes["groups"]}
    assert {name: before for name, (before, _) in sizes.items()} == {
        "stem.weight": 8,
        "inner.weight": 16,
    }
    assert sum(after for _, after in sizes.values()) in range(10, 15)
    assert all(after % 2 == 0 for _, after in sizes.values())
    before, after = sizes["inner.weight"]
    assert f"inner.weight: {before} -> {after} channels" in notes["changes"]
    assert len(notes["changes"]) + len(notes["refusals"]) == 2
    assert model.masks
    assert zeros_under_masks(model)
    stored = load_file(net_pruned.path / "weights.safetensors")
    loaded = model.module.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in loaded.items())
    assert notes["accuracy"] == accuracy(model.module, net_data.split("validation"))


def test_labels_that_are_no_classes_give_pruning_no_accuracy(
    net_torch, net_samples, net_desk, tmp_path
):
    arrays = dict(np.load(net_samples))
    np.savez(tmp_path / "other.npz", **{**arrays, "label": arrays["label"] * 1.5})
    desk = net_desk(tmp_path / "artifact", data=open_samples(f"npz:{tmp_path / 'other.npz'}"))
    assert Prune(round_to=2).run(net_torch, desk).notes["accuracy"] is None


def test_a_model_without_prunable_channels_is_refused(net_desk, tmp_path):
    file = tmp_path / "m.py"
    file.write_text(
        "from torch import nn\n"
        "def f():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4))\n"
    )
    source = TorchSource(f"{file}:f").run(NOTHING, net_desk(tmp_path / "source"))
    with pytest.raises(UserError, match="prune: no channel of this model can be pruned"):
        Prune().run(source, net_desk(tmp_path / "artifact"))


def test_distillation_keeps_masks_and_learns_from_the_original(
    net_pruned, net_onnx, net_desk, tmp_path
):
    desk = net_desk(tmp_path / "artifact", reference=net_onnx)
    made = Distill(epochs=1, batch=16, bf16=False).run(net_pruned, desk)
    model = TorchModel.load(made.path)
    assert model.masks == TorchModel.load(net_pruned.path).masks
    assert zeros_under_masks(model)
    assert made.made_by == "distill"


def test_without_an_original_there_is_nothing_to_distill(net_pruned, net_desk, tmp_path):
    with pytest.raises(UserError, match="distill: there is no torch original to learn from"):
        Distill().run(net_pruned, net_desk(tmp_path))


def test_the_export_answers_as_torch_at_every_batch_size(net_onnx):
    errors = net_onnx.notes["parity"]
    assert set(errors) == {"1", "2", "7"}
    assert max(errors.values()) < 1e-5
    assert "largest relative error" in net_onnx.notes["changes"][0]


def test_an_export_that_answers_otherwise_is_an_error(net_torch, net_desk, tmp_path, monkeypatch):
    from deploypipe.stages import export

    honest = export.to_onnx

    def wrong(module, *rest, **options):
        other = copy.deepcopy(module)
        with torch.no_grad():
            other.head.bias += 1
        return honest(other, *rest, **options)

    monkeypatch.setattr(export, "to_onnx", wrong)
    with pytest.raises(UserError, match="export: the exported model differs from torch by"):
        Export(batches=[1]).run(net_torch, net_desk(tmp_path))


def test_batches_larger_than_the_split_are_filled_by_starting_again(net_data):
    from deploypipe.stages.export import _parts

    split = net_data.split("validation")
    parts = list(_parts(split, [39, 50]))
    assert [len(part) for part in parts] == [39, 50]
    assert parts[1][:3] == [39, 0, 1]


def test_masked_then_exported_then_cut_answers_as_the_masked_torch_model(
    net_pruned, net_desk, tmp_path
):
    """The theorem on which pruning rests."""
    import onnxruntime

    desk = net_desk(tmp_path / "artifact")
    exported = Export(batches=[2]).run(net_pruned, desk)
    model = load(exported.path)
    outcome = DropDeadChannels().call(model)
    assert outcome.modified
    save(model, tmp_path / "cut.onnx")

    feeds = desk.data.split("validation").batch(range(40)).inputs
    torch_model = TorchModel.load(net_pruned.path)
    with torch.no_grad():
        expected = torch_model.module(torch.from_numpy(feeds["image"])).numpy()
    run = onnxruntime.InferenceSession(tmp_path / "cut.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(run.run(None, feeds)[0], expected, rtol=1e-5, atol=1e-5)

    left = {group["name"]: group["after"] for group in net_pruned.notes["groups"]}
    outer, inner = left["stem.weight"], left["inner.weight"]
    shapes = sorted(
        tuple(value.shape)
        for value in model.graph.initializers.values()
        if value.shape is not None and len(value.shape) == 4
    )
    assert shapes == sorted([(outer, 3, 3, 3), (inner, outer, 3, 3), (outer, inner, 3, 3)])
    assert (4, outer) in {tuple(v.shape) for v in model.graph.initializers.values()}


def test_a_branch_goes_as_a_whole_and_the_graph_is_rid_of_it(net_torch, net_desk, tmp_path):
    pruned = Prune(amount=0.1, branches=1, round_to=2).run(net_torch, net_desk(tmp_path / "a"))
    assert pruned.notes["changes"][0] == "branch of inner.weight: gone"
    assert list(pruned.notes["branches"]) == ["inner.weight"]
    exported = Export(batches=[2]).run(pruned, net_desk(tmp_path / "b"))
    thin = Optimize().run(exported, net_desk(tmp_path / "c"))
    ops = [node.op_type for node in load(thin.path).graph]
    assert ops == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]


def test_more_branches_than_there_are_are_refused(net_torch, net_desk, tmp_path):
    with pytest.raises(UserError, match="2 residual branches were to go, the model has 1"):
        Prune(branches=2).run(net_torch, net_desk(tmp_path))
