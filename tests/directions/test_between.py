"""Directions to other models: θ* + d is the other model, whatever it is given as."""

import pickle

import pytest
import torch
from torch import nn

from lightning_landscape.directions import Between
from lightning_landscape.directions.between import weights_of
from lightning_landscape.weights.parameters import Snapshot


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 2), nn.BatchNorm1d(2)
        self.back = nn.Linear(2, 3, bias=False)
        self.tied = nn.Linear(3, 2, bias=False)
        self.tied.weight = self.layer.weight
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
        self.register_buffer("cache", torch.ones(2), persistent=False)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(1, 2)
        self.norm.num_batches_tracked.fill_(9)


def sources(net, path):
    """One model in every form that users have it in."""
    files = {
        "state dict": net.state_dict(),
        "Lightning": {"state_dict": net.state_dict(), "epoch": 3},
        "f_landscape": {"epoch": 1, "model_state_dict": net.state_dict(), "optimizer_state_dict": {"state": {}}},
        "LightZero": {"model": net.state_dict(), "last_iter": 10},
    }
    for name, content in files.items():
        torch.save(content, path / f"{name}.pt")
    return [net, net.state_dict(), *(path / f"{name}.pt" for name in files), str(path / "state dict.pt")]


def test_the_origin_and_the_difference_give_the_target(tmp_path):
    here, there = Net(), Net()
    snapshot = Snapshot.of(here, buffers=True)
    for source in sources(there, tmp_path):
        (d,) = Between((source,))(snapshot, 1)
        assert d.keys() == snapshot.params.keys()
        for name, tensor in there.state_dict().items():
            if name in d:
                torch.testing.assert_close(snapshot.params[name] + d[name], tensor, rtol=0, atol=1e-6)


def test_what_moves():
    """Floating-point buffers of the state dict; neither integers nor caches, and tied weights once."""
    names = set(Snapshot.of(Net(), buffers=True).params)
    parameters = {"layer.weight", "layer.bias", "norm.weight", "norm.bias", "back.weight"}
    assert names - parameters == {"norm.running_mean", "norm.running_var", "mask"}
    assert set(Snapshot.of(Net()).params) == parameters


def test_equal_infinities_have_no_difference():
    (d,) = Between((Net(),))(Snapshot.of(Net(), buffers=True), 1)
    assert d["mask"].tolist() == [0, 0]


def test_low_precision_is_subtracted_in_float32():
    here, there = nn.Linear(2, 1).bfloat16(), nn.Linear(2, 1).bfloat16()
    (d,) = Between((there,))(Snapshot.of(here), 1)
    assert d["weight"].dtype == torch.float32
    assert torch.equal(d["weight"], there.weight.float() - here.weight.float())


def test_a_compiled_target_has_the_same_names():
    here, there = Net(), Net()
    plain, compiled = (Between((m,))(Snapshot.of(here), 1)[0] for m in (there, torch.compile(there, backend="eager")))
    assert all(torch.equal(plain[name], compiled[name]) for name in plain)


def test_nothing_is_changed_and_nothing_shared():
    here, there = Net(), Net()
    before = {n: t.clone() for n, t in there.state_dict().items()}
    (d,) = Between((there,))(Snapshot.of(here), 1)
    for tensor in d.values():
        tensor.fill_(7)
    assert all(torch.equal(before[n], t) for n, t in there.state_dict().items())
    assert all(not t.requires_grad for t in weights_of(there).values())


def test_what_does_not_fit_is_told(tmp_path):
    snapshot = Snapshot.of(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="targets holds 2 models, and the number of directions is 1: give"):
        Between((Net(), Net()))(snapshot, 1)
    with pytest.raises(
        ValueError, match=r"Target model 1 has no 'bias': it must be of the same architecture; it has w"
    ):
        Between((nn.Linear(3, 2), nn.Linear(3, 2, bias=False)))(snapshot, 2)
    with pytest.raises(ValueError, match=r"Target model 0 has shape \(2, 4\) for 'weight', the model has \(2, 3\)"):
        Between((nn.Linear(4, 2),))(snapshot, 1)
    torch.save({"weights": 3}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=r"odd.pt holds no state dict: .* state_dict, model_state_dict, model"):
        Between((tmp_path / "odd.pt",))(snapshot, 1)
    with pytest.raises(FileNotFoundError):
        Between((tmp_path / "missing.pt",))(snapshot, 1)


class Marker:
    """Leaves a file behind wherever it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def odd_files(folder):
    """Files that hold no weights that can be read without executing anything."""
    files = {
        "hyper-parameters": {
            "state_dict": Net().state_dict(),
            "hyper_parameters": {"run": Marker(folder / "executed")},
        },
        "a module": Net(),
    }
    for name, content in files.items():
        torch.save(content, folder / f"{name}.ckpt")
    whole = (folder / "hyper-parameters.ckpt").read_bytes()
    (folder / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.ckpt").write_bytes(b"")
    (folder / "text.ckpt").write_text("weights: 3\n")
    (folder / "pickle.ckpt").write_bytes(pickle.dumps({"w": Marker(folder / "executed")}))
    (folder / "zip.ckpt").write_bytes(b"PK\3\4" + bytes(99))
    return sorted(folder.glob("*.ckpt"))


def test_a_file_that_would_have_to_be_executed_or_is_damaged_is_one_line(tmp_path):
    files = odd_files(tmp_path)
    assert len(files) == 7
    for path in files:
        with pytest.raises(
            ValueError, match=rf"{path.name} .*(not unpickled|is damaged or is no checkpoint)"
        ) as raised:
            weights_of(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=r'hyper-parameters.ckpt", weights_only=False\)\["state_dict"\]'):
        weights_of(tmp_path / "hyper-parameters.ckpt")
    assert not (tmp_path / "executed").exists()
