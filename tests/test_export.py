"""Mixtures that are kept in a folder, and pictures that are shown to them."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from moe import Config, Store
from moe.config import ARTIFICIAL, CLASS_NAMES, CLASSES
from moe.data.subset import cut
from moe.export import ABOUT, WEIGHTS, SavedError, load, save, vacant
from moe.pictures import PictureError, read
from moe.pipeline import probabilities, train_mixture
from moe.store.manifest import digest
from moe.store.tensors import pack, unpack

CPU = torch.device("cpu")
CONFIG = Config(epochs=2, train_examples=100, test_examples=50, batch_size=20, use_large_experts=True)


@pytest.fixture(scope="module")
def finished(data):
    return train_mixture(CONFIG, data, devices=[CPU])


@pytest.fixture(scope="module")
def kept(finished, tmp_path_factory):
    """A folder with a mixture; not to be changed."""
    folder = tmp_path_factory.mktemp("kept") / "below" / "mixture"
    save(folder, finished.networks, finished.result, {"command": "a test"})
    return folder


@pytest.fixture
def copy(kept, tmp_path):
    """A folder with a mixture that may be damaged."""
    for name in (ABOUT, WEIGHTS):
        (tmp_path / name).write_bytes((kept / name).read_bytes())
    return tmp_path


class TestKept:
    def test_a_loaded_mixture_says_of_every_scored_image_bit_for_bit_what_the_trained_one_says(
        self, data, finished, kept
    ):
        images = cut(CONFIG, data)
        trained = probabilities(finished.networks, images.score_images)
        loaded = probabilities(load(kept).networks, images.score_images)
        assert list(trained) == list(loaded) == ["baseline", "gate", "artificial", "natural", "mixture"]
        assert all(torch.equal(trained[name], loaded[name]) for name in trained)
        layouts = [[value.stride() for value in net.state_dict().values()] for net in finished.networks.values()]
        assert layouts == [
            [value.stride() for value in net.state_dict().values()] for net in load(kept).networks.values()
        ]
        for name in ("baseline", "mixture"):
            right = (loaded[name].argmax(1) == images.score_labels).double().mean().item()
            assert right == getattr(finished.result.score, f"{name}_accuracy")
        for values in loaded.values():
            torch.testing.assert_close(values.sum(1), torch.ones(len(values)))

    def test_a_mixture_out_of_the_stage_store_is_the_one_that_was_trained(self, data, finished, tmp_path):
        for _ in range(2):
            with Store(str(tmp_path)) as store:
                again = train_mixture(CONFIG, data, store, devices=[CPU])
                save(tmp_path / str(again.result.row()["epochs_reused"]), again.networks, again.result, {})
        for folder in ("0", "10"):
            assert all(
                torch.equal(value, finished.networks[stage].state_dict()[name])
                for stage, network in load(tmp_path / folder).networks.items()
                for name, value in network.state_dict().items()
            )

    def test_it_says_what_it_is_and_where_it_is_from(self, finished, kept):
        about = load(kept).about
        assert about.config == CONFIG
        assert (about.dataset, about.data) == ("coloured", "f" * 64)
        assert about.result["gain"] == finished.result.gain
        assert about.result["stages"]["gate"]["best_epoch"] == finished.result.stages["gate"].best_epoch
        assert about.made["command"] == "a test"
        assert about.made["versions"]["torch"] == torch.__version__
        assert about.classes == tuple(f"class {label}" for label in range(CLASSES))
        assert {path.name for path in kept.iterdir()} == {ABOUT, WEIGHTS}

    def test_each_class_has_a_name_that_goes_with_its_superclass(self):
        assert [CLASS_NAMES["cifar10"][label] for label in ARTIFICIAL] == ["airplane", "automobile", "ship", "truck"]
        assert [CLASS_NAMES["shapes"][label] for label in ARTIFICIAL] == ["cross", "tee", "angle", "zigzag"]
        assert all(len(set(names)) == CLASSES for names in CLASS_NAMES.values())

    def test_a_mixture_is_never_written_over(self, finished, copy):
        before = {path.name: path.read_bytes() for path in copy.iterdir()}
        with pytest.raises(SavedError, match=f"holds {WEIGHTS} already; choose another"):
            save(copy, finished.networks, finished.result, {})
        assert {path.name: path.read_bytes() for path in copy.iterdir()} == before

    def test_of_a_save_that_was_cut_short_there_is_no_mixture(self, copy):
        (copy / ABOUT).unlink()
        with pytest.raises(SavedError, match="holds no mixture"):
            load(copy)

    def test_the_description_comes_last(self, finished, tmp_path, monkeypatch):
        from moe.store.local import Local

        written = []
        create = Local.create
        monkeypatch.setattr(Local, "create", lambda *call: written.append(call[1]) or create(*call))
        save(tmp_path, finished.networks, finished.result, {})
        assert written == [WEIGHTS, ABOUT]

    def test_a_folder_that_cannot_be_written_is_a_sentence(self, finished, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(SavedError, match=r"cannot be written to .*file"):
            save(tmp_path / "file", finished.networks, finished.result, {})

    def test_only_a_folder_without_a_mixture_that_can_be_made_is_vacant(self, kept, tmp_path):
        assert vacant(str(tmp_path / "new" / "newer")) == tmp_path / "new" / "newer"
        (tmp_path / "file").write_text("")
        for taken, part in (
            (kept, f"holds {ABOUT} already"),
            (tmp_path / "file" / "x", "that can be written"),
            ("/proc/x", r"that can be written \(/proc: "),  # root has every right there, and cannot
            ("", "is ''; expected a folder"),
        ):
            with pytest.raises(argparse.ArgumentTypeError, match=part):
                vacant(str(taken))


def edit(folder, **changes):
    about = json.loads((folder / ABOUT).read_text())
    (folder / ABOUT).write_text(json.dumps({**about, **changes}))


def drop(folder, name):
    about = json.loads((folder / ABOUT).read_text())
    del about[name]
    (folder / ABOUT).write_text(json.dumps(about))


def repack(folder, change):
    """Other weights under a hash that is right."""
    state = unpack((folder / WEIGHTS).read_bytes())
    change(state)
    content = pack(state)
    (folder / WEIGHTS).write_bytes(content)
    edit(folder, weights={"bytes": len(content), "sha256": digest(content)})


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def not_safetensors(folder):
    (folder / WEIGHTS).write_bytes(b"{}")
    edit(folder, weights={"bytes": 2, "sha256": digest(b"{}")})


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda f: flip(f / WEIGHTS), "does not match the SHA-256"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-1]), "bytes, not the"),
        (lambda f: (f / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
        (lambda f: (f / ABOUT).write_text("{"), f"{ABOUT} is damaged"),
        (lambda f: (f / ABOUT).write_text("[" * 100_000), f"{ABOUT} is damaged"),
        (lambda f: (f / ABOUT).write_bytes(b"\xff"), f"{ABOUT} is damaged"),
        (lambda f: (f / ABOUT).write_text("[]"), "no JSON object"),
        (lambda f: (f / ABOUT).write_text('{"name": "foreign"}'), "lacks 'format'"),
        (lambda f: edit(f, format=2), "is of format 2; expected 1"),
        (lambda f: drop(f, "weights"), "lacks 'weights'"),
        (lambda f: drop(f, "dataset"), "dataset"),
        (lambda f: edit(f, weights=7), "is damaged"),
        (lambda f: edit(f, config={"epochs": 0}), "epochs is 0"),
        (lambda f: edit(f, config={**CONFIG.as_dict(), "use_large_experts": False}), "does not fit the config"),
        (lambda f: edit(f, classes=["cat"] * 10), "10 different words"),
        (lambda f: edit(f, result={"mixture_accuracy": 2}), "expected 0 to 1"),
        (lambda f: edit(f, result=None), "is damaged"),
        (lambda f: repack(f, lambda state: state.pop("gate.0.bias")), "gate.0.bias is missing"),
        (lambda f: repack(f, lambda state: state.update(x=torch.ones(1))), "x is missing, unknown or"),
        (lambda f: repack(f, lambda s: s.update({"gate.0.bias": s["gate.0.bias"].double()})), "gate.0.bias"),
        (not_safetensors, f"{WEIGHTS} is damaged"),
    ],
)
def test_what_is_damaged_or_foreign_is_refused_in_one_sentence(copy, damage, part):
    damage(copy)
    with pytest.raises(SavedError) as caught:
        load(copy)
    assert part in str(caught.value)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


def painted(size, mode="RGB"):
    """Left half red, right half yellow; without colours, dark and bright."""
    picture = Image.new("RGB", size, (200, 0, 0))
    picture.paste((255, 255, 0), (size[0] // 2, 0, *size))
    return picture.convert(mode, dither=Image.Dither.NONE)


def close(image, x, y, colour):
    """Whether a pixel has a colour, within what JPEG may change."""
    return all(abs(int(image[c, y, x]) - colour[c]) <= 12 for c in range(3))


class TestPictures:
    @pytest.mark.parametrize("size", [(32, 32), (200, 200), (31, 33), (1, 1), (500, 40), (3, 900), (2000, 1500)])
    def test_every_size_becomes_an_image(self, size, tmp_path):
        painted(size).save(tmp_path / "x.png")
        image = read(tmp_path / "x.png")
        assert (image.shape, image.dtype) == ((3, 32, 32), torch.uint8)

    @pytest.mark.parametrize(
        ("mode", "kind"),
        [(m, k) for m in ("RGB", "RGBA", "L") for k in ("png", "webp")]
        + [(m, "png") for m in ("P", "LA", "1", "I;16")]
        + [(m, "jpg") for m in ("RGB", "L", "CMYK")],
    )
    def test_every_mode_is_read_in_colour(self, mode, kind, tmp_path):
        picture = painted((64, 64), "L" if mode == "I;16" else mode)
        expected = [picture.convert("RGB").getpixel((x, 32)) for x in (0, 63)]
        if mode == "I;16":
            picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
        picture.save(tmp_path / f"x.{kind}", **({"lossless": True} if kind == "webp" else {}))
        image = read(tmp_path / f"x.{kind}")
        assert close(image, 2, 16, expected[0])
        assert close(image, 29, 16, expected[1])

    def test_an_image_of_the_data_set_stays_what_it_is(self, data, tmp_path):
        Image.fromarray(data.test_images[3].permute(1, 2, 0).numpy()).save(tmp_path / "x.png")
        assert torch.equal(read(tmp_path / "x.png"), data.test_images[3])

    def test_the_middle_is_kept(self, tmp_path):
        picture = Image.new("RGB", (300, 100), "red")
        picture.paste("lime", (100, 0, 200, 100))
        for turned in (picture, picture.rotate(90, expand=True)):
            turned.save(tmp_path / "x.png")
            assert (read(tmp_path / "x.png") == torch.tensor([0, 255, 0])[:, None, None]).all()

    def test_a_camera_that_was_turned_is_turned_back(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # shown, it has to be turned a quarter to the right
        painted((64, 64)).save(tmp_path / "x.jpg", exif=exif, quality=95, subsampling=0)
        image = read(tmp_path / "x.jpg")
        assert close(image, 16, 2, (200, 0, 0))
        assert close(image, 16, 29, (255, 255, 0))

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
    def test_what_is_transparent_is_white(self, mode, tmp_path):
        clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
        if mode == "P":
            Image.new("P", (64, 64), 0).save(tmp_path / "x.png", transparency=0)
        else:
            clear.convert(mode).save(tmp_path / "x.png")
        assert (read(tmp_path / "x.png") == 255).all()

    def test_what_is_too_fine_to_be_seen_turns_grey(self, tmp_path):
        board = (np.indices((320, 320)).sum(0) % 2 * 255).astype(np.uint8)
        Image.fromarray(board).save(tmp_path / "x.png")
        assert (read(tmp_path / "x.png").int() - 128).abs().max() <= 2

    def test_a_very_large_picture_is_no_warning(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
        painted((64, 64)).save(tmp_path / "x.png")
        assert read(tmp_path / "x.png").shape == (3, 32, 32)
        painted((640, 64)).save(tmp_path / "x.png")
        with pytest.raises(PictureError, match=r"x\.png is too large; expected at most 0 million pixels"):
            read(tmp_path / "x.png")

    @pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
    def test_a_large_picture_is_the_mean_over_what_each_pixel_covers(self, kind, tmp_path):
        small = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(small).resize((1333, 1333), Image.Resampling.BICUBIC).save(tmp_path / f"x.{kind}", quality=95)
        with Image.open(tmp_path / f"x.{kind}") as picture:
            exact = np.asarray(picture.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC), float)
        assert np.abs(read(tmp_path / f"x.{kind}").permute(1, 2, 0).numpy() - exact).mean() < 1.5

    def test_a_very_large_picture_takes_little_more_memory_than_its_pixels(self, tmp_path):
        Image.new("RGBA", (9000, 9000), (200, 0, 0, 128)).save(tmp_path / "x.png", compress_level=1)
        code = (
            "import re, sys; from pathlib import Path; from moe.pictures import read\n"
            "def most(): return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
            "before = most(); read(Path(sys.argv[1])); print(most() - before)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "x.png"], capture_output=True, text=True, check=True
        )
        assert int(done.stdout) < 500_000  # kilobytes; the pixels are 324,000

    def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(PictureError, match="pipe is no regular file"):
            read(tmp_path / "pipe")

    def test_what_is_no_picture_is_refused_in_one_sentence(self, tmp_path):
        painted((64, 64)).save(tmp_path / "x.png")
        (tmp_path / "half.png").write_bytes((tmp_path / "x.png").read_bytes()[:100])
        (tmp_path / "text.png").write_text("text")
        painted((64, 64)).save(tmp_path / "x.bmp")
        for name, part in (
            ("half.png", "cannot be read"),
            ("text.png", "no picture"),
            ("x.bmp", "expected PNG, JPEG or WebP"),
            ("nowhere", "no such file"),
            (".", "is a directory"),
        ):
            with pytest.raises(PictureError, match=part) as caught:
                read(tmp_path / name)
            assert str(tmp_path / name) in str(caught.value)
            assert "\n" not in str(caught.value)


def call(*arguments, **settings):
    return subprocess.run(
        [sys.executable, "-m", "moe", *map(str, arguments)], capture_output=True, text=True, check=False, **settings
    )


class TestCommand:
    """`python -m moe --save` and `python -m moe predict`, as a person calls them."""

    def test_a_mixture_is_trained_kept_and_asked(self, tmp_path, cache):
        home = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(Path.cwd())}}
        words = ["--dataset", "shapes", "--train-examples", "60", "--test-examples", "50", "--no-store", "--save", "m"]
        done = call(*words, **home)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "The mixture is in m; python -m moe predict m IMAGE... asks it"

        taken = call(*words, **home)
        assert (taken.returncode, taken.stderr) == (
            2, "python -m moe: --save is m, which holds mixture.json already; expected another folder\n",
        )  # fmt: skip

        sizes = {"small.png": (20, 20), "a rather long name.jpg": (300, 200), "large.webp": (640, 480)}
        for name, size in sizes.items():
            painted(size).save(tmp_path / name)
        (tmp_path / "broken.png").write_text("text")
        done = call("predict", "m", "broken.png", *sizes, "nowhere.png", **home)
        assert done.returncode == 4
        assert done.stderr == (
            "python -m moe predict: broken.png is no picture; expected PNG, JPEG or WebP\n"
            "python -m moe predict: nowhere.png cannot be read: no such file or directory\n"
        )
        headline, _, head, *lines = done.stdout.splitlines()
        assert headline.startswith("Mixture m: shapes, 60 images to learn from, epochs 1, seed 0; right on ")
        assert head.split() == ["picture", "gate", "baseline", "artificial", "natural", "mixture"]
        assert len({len(line) for line in lines}) == 1  # aligned

        said = probabilities(load(tmp_path / "m").networks, torch.stack([read(tmp_path / name) for name in sizes]))
        for row, (line, name) in enumerate(zip(lines, sizes, strict=True)):
            shown = line.removeprefix(name).split()
            expected = []
            for stage in head.split()[1:]:
                names = ("artificial", "natural") if stage == "gate" else CLASS_NAMES["shapes"]
                share, label = said[stage][row].max(0)
                expected += [names[label], f"{share:.1%}"]
            assert shown == expected

        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "moe", "predict", "m", "small.png"],
                stdout=full, stderr=subprocess.PIPE, text=True, check=False, **home,
            )  # fmt: skip
        assert (done.returncode, done.stderr) == (4, "python -m moe predict: the output: No space left on device\n")
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [sys.executable, "-m", "moe", "predict", "m", "small.png"],
            stdout=writing, stderr=subprocess.PIPE, text=True, check=False, **home,
        )  # fmt: skip
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, "")

        (tmp_path / "m" / WEIGHTS).unlink()
        done = call("predict", "m", "small.png", **home)
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr.startswith("python -m moe predict: m/mixture.safetensors is missing")

    @pytest.mark.parametrize("arguments", [(), ("m",), ("m", "x.png", "--epochs", "2")])
    def test_wrong_usage_is_one_sentence_and_exit_code_2_without_torch(self, arguments, tmp_path):
        (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
        done = call("predict", *arguments, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"})
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("python -m moe predict: ")


def test_a_run_gives_its_result_whether_or_not_its_networks_are_wanted(data, finished):
    from moe import run

    assert run(CONFIG, data, devices=[CPU]).score == finished.result.score
