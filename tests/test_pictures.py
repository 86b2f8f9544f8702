"""Pictures from files: every kind, size and mode; what is refused."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from moe.pictures import PictureError, load


def painted(size, mode="RGB"):
    """Left half red, right half yellow; without colours, dark and bright."""
    picture = Image.new("RGB", size, (200, 0, 0))
    picture.paste((255, 255, 0), (size[0] // 2, 0, *size))
    return picture.convert(mode, dither=Image.Dither.NONE)


def close(image, x, y, colour):
    """Whether a pixel has a colour, within what JPEG may change."""
    return all(abs(int(image[c, y, x]) - colour[c]) <= 12 for c in range(3))


@pytest.mark.parametrize("size", [(32, 32), (200, 200), (31, 33), (1, 1), (500, 40), (3, 900), (2000, 1500)])
def test_every_size_becomes_an_image(size, tmp_path):
    painted(size).save(tmp_path / "x.png")
    image = load(tmp_path / "x.png")
    assert (image.shape, image.dtype) == ((3, 32, 32), torch.uint8)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [(m, k) for m in ("RGB", "RGBA", "L") for k in ("png", "webp")]
    + [(m, "png") for m in ("P", "LA", "1", "I;16")]
    + [(m, "jpg") for m in ("RGB", "L", "CMYK")],
)
def test_every_mode_is_read_in_colour(mode, kind, tmp_path):
    picture = painted((64, 64), "L" if mode == "I;16" else mode)
    expected = [picture.convert("RGB").getpixel((x, 32)) for x in (0, 63)]
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    picture.save(tmp_path / f"x.{kind}", **({"lossless": True} if kind == "webp" else {}))
    image = load(tmp_path / f"x.{kind}")
    assert close(image, 2, 16, expected[0])
    assert close(image, 29, 16, expected[1])


def test_an_image_of_the_data_set_stays_what_it_is(data, tmp_path):
    Image.fromarray(data.test_images[3].permute(1, 2, 0).numpy()).save(tmp_path / "x.png")
    assert torch.equal(load(tmp_path / "x.png"), data.test_images[3])


def test_the_middle_is_kept(tmp_path):
    picture = Image.new("RGB", (300, 100), "red")
    picture.paste("lime", (100, 0, 200, 100))
    for turned in (picture, picture.rotate(90, expand=True)):
        turned.save(tmp_path / "x.png")
        image = load(tmp_path / "x.png")
        assert (image[:, 1:-1, 1:-1] == torch.tensor([0, 255, 0])[:, None, None]).all()
        assert (image[1] > image[0] + 200).all()  # pixels at the edge may take in some of what is beyond it


def test_a_camera_that_was_turned_is_turned_back(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown, it has to be turned a quarter to the right
    painted((64, 64)).save(tmp_path / "x.jpg", exif=exif, quality=95, subsampling=0)
    image = load(tmp_path / "x.jpg")
    assert close(image, 16, 2, (200, 0, 0))
    assert close(image, 16, 29, (255, 255, 0))


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_damaged_exif_data_count_as_none(kind, tmp_path):
    painted((64, 64)).save(tmp_path / f"x.{kind}", exif=b"Exif\0\0garbage")
    assert close(load(tmp_path / f"x.{kind}"), 29, 16, (255, 255, 0))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode, tmp_path):
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    if mode == "P":
        Image.new("P", (64, 64), 0).save(tmp_path / "x.png", transparency=0)
    else:
        clear.convert(mode).save(tmp_path / "x.png")
    assert (load(tmp_path / "x.png") == 255).all()


def test_a_palette_may_be_half_transparent(tmp_path):
    Image.new("P", (64, 64), 0).save(tmp_path / "x.png", transparency=b"\x80")
    assert ((load(tmp_path / "x.png").int() - 127).abs() <= 1).all()


def test_what_is_too_fine_to_be_seen_turns_grey(tmp_path):
    board = (np.indices((320, 320)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "x.png")
    assert (load(tmp_path / "x.png").int() - 128).abs().max() <= 2


def test_a_very_large_picture_is_no_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    painted((64, 64)).save(tmp_path / "x.png")
    assert load(tmp_path / "x.png").shape == (3, 32, 32)
    painted((640, 64)).save(tmp_path / "x.png")
    with pytest.raises(PictureError, match=r"x\.png is too large; expected at most 0 million pixels"):
        load(tmp_path / "x.png")


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_a_large_picture_is_the_mean_over_what_each_pixel_covers(kind, tmp_path):
    small = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(small).resize((1333, 1333), Image.Resampling.BICUBIC).save(tmp_path / f"x.{kind}", quality=95)
    with Image.open(tmp_path / f"x.{kind}") as picture:
        exact = np.asarray(picture.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC), float)
    assert np.abs(load(tmp_path / f"x.{kind}").permute(1, 2, 0).numpy() - exact).mean() < 1.5


@pytest.mark.parametrize(
    ("mode", "kind", "megabytes"), [("RGB", "png", 500), ("RGBA", "png", 800), ("RGB", "jpg", 100)]
)
def test_a_very_large_picture_takes_little_more_memory_than_its_pixels(mode, kind, megabytes, tmp_path):
    path = tmp_path / f"x.{kind}"
    Image.new(mode, (9000, 9000), (200, 0, 0, 128)[: len(mode)]).save(path, compress_level=1)
    code = (
        "import re, sys; from pathlib import Path; from moe.pictures import load\n"
        "def most(): return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = most(); load(Path(sys.argv[1])); print(most() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 1000 < megabytes  # the pixels are 324; transparent ones are copied once, a JPEG drafted


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PictureError, match="it is a pipe"):
        load(tmp_path / "pipe")


def test_what_is_no_picture_is_refused_in_one_sentence(tmp_path):
    painted((64, 64)).save(tmp_path / "x.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "x.png").read_bytes()[:100])
    (tmp_path / "text.png").write_text("text")
    painted((64, 64)).save(tmp_path / "x.bmp")
    for name, part in (
        ("half.png", "cannot be read"),
        ("text.png", "no picture"),
        ("x.bmp", "a picture in BMP; expected PNG, JPEG or WebP"),
        ("nowhere", "No such file"),
        (".", "it is a folder"),
    ):
        with pytest.raises(PictureError, match=part) as caught:
            load(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_grey_of_16_bits_is_white_where_it_is_transparent(tmp_path):
    grey = np.full((64, 64), 40_000, np.uint16)
    grey[:, :32] = 12_345
    Image.fromarray(grey).save(tmp_path / "x.png", transparency=12_345)
    image = load(tmp_path / "x.png")
    assert close(image, 2, 16, (255, 255, 255))
    assert close(image, 29, 16, (156, 156, 156))
