"""Pictures from files, as the networks take images: 32 x 32 pixels, red, green and blue.

A picture is rotated by its EXIF data, cropped to the square in its middle, scaled, and made white where it is
transparent. Each new pixel is a mean over all that it covers.
"""

import re
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from moe.files import open_regular
from moe.networks import IMAGE

FORMATS = ("PNG", "JPEG", "WEBP")
MOST = 1 << 30  # bytes of a file
DRAFT = (16 * IMAGE[1], 16 * IMAGE[2])  # a large JPEG is decoded at a half, a quarter or an eighth, not below this

#: other pictures, by how they begin
_OTHERS = {
    "BMP": re.compile(rb"BM"),
    "GIF": re.compile(rb"GIF8[79]a"),
    "TIFF": re.compile(rb"II\*\0|MM\0\*"),
    "AVIF": re.compile(rb".{4}ftyp(.{4,16})?avi[fs]", re.DOTALL),
    "HEIC": re.compile(rb".{4}ftyp(.{4,16})?(hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL),
    "JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "),
    "JPEG 2000": re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    "SVG": re.compile(rb"\s*(<\?xml.*)?<svg", re.DOTALL),
    "PDF": re.compile(rb"%PDF-"),
    "Photoshop's format": re.compile(rb"8BPS"),
    "ICO": re.compile(rb"\x00\x00\x01\x00"),
}


class PictureError(Exception):
    """A file that is no picture, or a damaged one; the sentence says which."""


def load(path: Path) -> Tensor:
    """(3, 32, 32) bytes of a picture.

    Raises:
        PictureError: it cannot be read.
    """
    try:
        with open_regular(path, MOST) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, and of damage to what is not shown
            with Image.open(file, formats=FORMATS) as picture:
                picture.draft(None, DRAFT)
                with suppress(Exception):  # damaged EXIF data are an error once; read again, as below, they are none
                    picture.getexif()
                ImageOps.exif_transpose(picture, in_place=True)
                fitted = _fitted(picture)
    except UnidentifiedImageError:
        raise PictureError(f"{path} is {_kind(path)}; expected PNG, JPEG or WebP") from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise PictureError(f"{path} is too large; expected at most {most:.0f} million pixels") from None
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise PictureError(f"{path} cannot be read: {reason}") from None
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)


def _kind(path: Path) -> str:
    """What a file is that is none of these, by its first bytes."""
    with open_regular(path, MOST) as file:
        first = file.read(32)
    return next((f"a picture in {name}" for name, form in _OTHERS.items() if form.match(first)), "no picture")


def _fitted(picture: Image.Image) -> Image.Image:
    """The middle of a picture, scaled, in red, green and blue; white where it was transparent."""
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        grey, clear = np.asarray(picture, np.float32), picture.info.get("transparency")
        picture = Image.fromarray((grey / 257).round().astype(np.uint8))
        if clear is not None:
            picture.putalpha(Image.fromarray(np.where(grey == clear, 0, 255).astype(np.uint8)))
    mode = "RGBA" if "A" in picture.getbands() or "transparency" in picture.info else "RGB"
    picture = picture if picture.mode == mode else picture.convert(mode)
    small = ImageOps.fit(picture, IMAGE[1:], Image.Resampling.BICUBIC).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", IMAGE[1:], "white"), small).convert("RGB")
