"""Mixtures saved in a file and loaded again; what is damaged or foreign is refused."""

import argparse
import json
import os

import pytest
import torch
from safetensors.torch import load as unpack
from safetensors.torch import save as pack

from moe import Config, Store, export
from moe.config import ARTIFICIAL, CLASS_NAMES, CLASSES
from moe.data.subset import subset
from moe.export import ExportError, Origin, load, new_file, save
from moe.pipeline import probabilities, train_mixture

CPU = torch.device("cpu")
CONFIG = Config(epochs=2, train_examples=100, test_examples=50, batch_size=20, use_large_experts=True)
ORIGIN = Origin.here("a test", study="tiny", trial=3)


@pytest.fixture(scope="module")
def finished(data):
    return train_mixture(CONFIG, data, devices=[CPU])


@pytest.fixture(scope="module")
def saved(finished, tmp_path_factory):
    """A file with a mixture; not to be changed."""
    path = tmp_path_factory.mktemp("saved") / "mixture.safetensors"
    save(path, finished.networks, finished.result, ORIGIN)
    return path


@pytest.fixture
def copy(saved, tmp_path):
    """A file with a mixture that may be damaged."""
    path = tmp_path / "copy.safetensors"
    path.write_bytes(saved.read_bytes())
    return path


def weights(networks):
    return {f"{stage}.{name}": value for stage, net in networks.items() for name, value in net.state_dict().items()}


class TestLoaded:
    def test_its_weights_are_those_that_were_trained_in_the_layout_that_they_were_trained_in(self, finished, saved):
        trained, loaded = weights(finished.networks), weights(load(saved).networks)
        assert trained.keys() == loaded.keys()
        assert all(torch.equal(trained[name], loaded[name]) for name in trained)
        assert all(trained[name].stride() == loaded[name].stride() for name in trained)

    def test_its_probabilities_are_those_of_the_trained_one_bit_for_bit(self, data, finished, saved):
        images = subset(CONFIG, data)
        trained = probabilities(finished.networks, images.score_images)
        loaded = probabilities(load(saved).networks, images.score_images)
        assert list(trained) == list(loaded) == ["baseline", "gate", "artificial", "natural", "mixture"]
        assert all(torch.equal(trained[name], loaded[name]) for name in trained)
        for name in ("baseline", "mixture"):
            right = (loaded[name].argmax(1) == images.score_labels).double().mean().item()
            assert right == getattr(finished.result.score, f"{name}_accuracy")
        for values in loaded.values():
            torch.testing.assert_close(values.sum(1), torch.ones(len(values)))

    def test_a_mixture_out_of_the_stage_store_is_the_one_that_was_trained(self, data, finished, tmp_path):
        for _ in range(2):
            with Store(str(tmp_path)) as store:
                again = train_mixture(CONFIG, data, store, devices=[CPU])
                path = tmp_path / f"{again.result.totals.epochs_reused}.safetensors"
                save(path, again.networks, again.result, ORIGIN)
        for name in ("0", "10"):
            loaded = weights(load(tmp_path / f"{name}.safetensors").networks)
            assert all(torch.equal(value, loaded[name]) for name, value in weights(finished.networks).items())

    def test_it_is_frozen(self, saved):
        networks = load(saved).networks.values()
        assert not any(parameter.requires_grad for network in networks for parameter in network.parameters())

    def test_its_description_holds_result_classes_and_origin(self, finished, saved):
        description = load(saved).description
        assert description.result == finished.result
        assert description.classes == tuple(f"class {label}" for label in range(CLASSES))
        assert description.origin == ORIGIN
        assert (ORIGIN.command, ORIGIN.study, ORIGIN.trial, ORIGIN.commit) == ("a test", "tiny", 3, None)
        assert torch.__version__.startswith(ORIGIN.torch.split("+")[0])


def test_each_class_has_a_name_that_goes_with_its_superclass():
    assert [CLASS_NAMES["cifar10"][label] for label in ARTIFICIAL] == ["airplane", "automobile", "ship", "truck"]
    assert [CLASS_NAMES["shapes"][label] for label in ARTIFICIAL] == ["cross", "tee", "angle", "zigzag"]
    assert all(len(set(names)) == CLASSES for names in CLASS_NAMES.values())


def test_a_command_that_is_not_utf_8_can_be_saved():
    assert Origin.here("predict \udcff").command == "predict ?"


class TestSave:
    def test_a_mixture_is_never_written_over(self, finished, copy):
        before = copy.read_bytes()
        with pytest.raises(ExportError, match=r"copy\.safetensors exists already"):
            save(copy, finished.networks, finished.result, ORIGIN)
        assert copy.read_bytes() == before
        assert os.listdir(copy.parent) == [copy.name]

    @pytest.mark.parametrize("links", [True, False])
    def test_there_is_one_file_that_appears_whole(self, links, finished, tmp_path, monkeypatch):
        path, synced = tmp_path / "m.safetensors", []

        def fsync(file):
            synced.append((os.fstat(file).st_size, path.exists()))

        def link(*_):
            raise PermissionError(1, "Operation not permitted")  # as on exFAT

        monkeypatch.setattr(os, "fsync", fsync)
        if not links:
            monkeypatch.setattr(os, "link", link)
        save(path, finished.networks, finished.result, ORIGIN)
        assert synced == [(path.stat().st_size, False)]
        assert os.listdir(tmp_path) == [path.name]
        with pytest.raises(ExportError, match="exists already"):
            save(path, finished.networks, finished.result, ORIGIN)
        assert os.listdir(tmp_path) == [path.name]

    def test_a_full_disk_is_a_sentence_and_leaves_nothing(self, finished, tmp_path, monkeypatch):
        def fsync(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(ExportError, match=r"m\.safetensors cannot be written: No space left"):
            save(tmp_path / "m.safetensors", finished.networks, finished.result, ORIGIN)
        assert os.listdir(tmp_path) == []

    def test_a_folder_that_is_a_file_is_a_sentence(self, finished, copy):
        with pytest.raises(ExportError, match="cannot be written"):
            save(copy / "m.safetensors", finished.networks, finished.result, ORIGIN)


class TestNewFile:
    def test_a_name_that_is_free_is_accepted(self, tmp_path, monkeypatch):
        assert new_file(str(tmp_path / "m.safetensors")) == tmp_path / "m.safetensors"
        monkeypatch.chdir(tmp_path)
        assert str(new_file("m.safetensors")) == "m.safetensors"

    @pytest.mark.parametrize(
        ("name", "part"),
        [
            ("", "is ''"),
            ("m", ".safetensors"),
            ("m.json", ".safetensors"),
            ("taken.safetensors", "exists"),
            ("folder.safetensors", "exists"),
            ("dangling.safetensors", "exists"),
            ("nowhere/m.safetensors", "nowhere does not"),
            ("taken.safetensors/m.safetensors", "folder that exists"),
        ],
    )
    def test_others_are_refused(self, name, part, tmp_path):
        (tmp_path / "taken.safetensors").write_text("")
        (tmp_path / "folder.safetensors").mkdir()
        (tmp_path / "dangling.safetensors").symlink_to("nowhere")
        with pytest.raises(argparse.ArgumentTypeError) as caught:
            new_file(name and str(tmp_path / name))
        assert part in str(caught.value)

    def test_a_folder_that_cannot_be_written_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write to any
        with pytest.raises(argparse.ArgumentTypeError, match="can be written"):
            new_file(str(tmp_path / "m.safetensors"))


def opened(path):
    """The description, as JSON has it, and the weights of a file."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"]["description"]), unpack(content)


def write(path, description, weights):
    """A file whose SHA-256 is right."""
    text = json.dumps(description)
    path.write_bytes(pack(weights, {"description": text, "sha256": export._sha256(text, weights)}))


def described(*place, value):
    """A change of the description."""

    def damage(path):
        description, weights = opened(path)
        inner = description
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = value
        write(path, description, weights)

    return damage


def weighed(change):
    """A change of the weights."""

    def damage(path):
        description, weights = opened(path)
        change(weights)
        write(path, description, weights)

    return damage


def flip(place):
    """One bit of the byte there, a share of the file."""

    def damage(path):
        content = bytearray(path.read_bytes())
        content[int(len(content) * place)] ^= 1
        path.write_bytes(content)

    return damage


def edit(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b'\\"learning_rate\\":0.001', b'\\"learning_rate\\":0.002'))
    assert path.read_bytes() != content


def lacks_epochs(path):
    description, weights = opened(path)
    del description["result"]["stages"]
    write(path, description, weights)


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (flip(0.5), "SHA-256"),
        (flip(1 - 1e-9), "SHA-256"),
        (edit, "SHA-256"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes() + b"0"), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:7]), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_text("some text, and no tensors"), "no safetensors file"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(pack({"x": torch.ones(2)})), "'description'"),
        (lambda path: path.write_bytes(pack({"x": torch.ones(2)}, {"description": "{}"})), "'sha256'"),
        (lambda path: write(path, [], {"x": torch.ones(2, dtype=torch.bfloat16)}), "no mixture"),
        (described("format", value=2), "is of a newer version: its format is 2"),
        (described("more", value=2), "more is not known"),
        (described("classes", value=["cat"] * 10), "10 different names"),
        (described("classes", value=[1] * 10), "classes"),
        (described("result", value=None), "result is null"),
        (described("result", "config", "epochs", value=0), "epochs is 0"),
        (described("result", "score", "gate_accuracy", value=2), "gate_accuracy is 2"),
        (lacks_epochs, "result.stages is missing"),
        (described("result", "config", "use_large_experts", value=False), "does not fit its config"),
        (weighed(lambda weights: weights.pop("gate.0.bias")), "gate.0.bias"),
        (weighed(lambda weights: weights["gate.0.bias"].fill_(float("nan"))), "gate.0.bias"),
        (weighed(lambda weights: weights.update(x=torch.ones(1))), '"x"'),
        (weighed(lambda weights: weights.update({"gate.0.bias": torch.ones(3)})), "gate.0.bias"),
        (weighed(lambda weights: weights.update({"gate.0.bias": weights["gate.0.bias"].double()})), "gate.0.bias"),
    ],
)
def test_what_is_damaged_or_foreign_is_refused_in_one_sentence(damage, part, copy):
    damage(copy)
    with pytest.raises(ExportError) as caught:
        load(copy)
    assert part in str(caught.value)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_folder_and_a_pipe_are_no_mixtures(make, tmp_path):
    make(tmp_path / "m")
    with pytest.raises(ExportError, match="not a regular file"):
        load(tmp_path / "m")


def test_a_run_gives_its_result_whether_or_not_its_networks_are_wanted(data, finished):
    from moe import run

    assert run(CONFIG, data, devices=[CPU]).score == finished.result.score
