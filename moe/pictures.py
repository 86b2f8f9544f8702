"""Pictures from files, as the networks see images: 32 x 32 pixels, red, green and blue.

A picture is turned as its EXIF data say, cut to the square in its middle, laid on white where it is transparent, and
shrunk or enlarged; each new pixel is a mean over all that it covers, so that nothing fine turns into noise.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from moe.networks import IMAGE

FORMATS = ("PNG", "JPEG", "WEBP")


class PictureError(Exception):
    """A file that is no picture, or a damaged one; the sentence says which."""


def read(path: Path) -> Tensor:
    """(3, 32, 32) bytes of a picture of any size.

    Raises:
        PictureError: it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, and of damage to what is not shown
            with Image.open(path, formats=FORMATS) as picture:
                return torch.from_numpy(np.array(_fitted(picture))).permute(2, 0, 1)
    except UnidentifiedImageError:
        raise PictureError(f"{path} is no picture; expected PNG, JPEG or WebP") from None
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else str(error)
        raise PictureError(f"{path} cannot be read: {reason}") from None
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        raise PictureError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def _fitted(picture: Image.Image) -> Image.Image:
    turned = ImageOps.exif_transpose(picture)
    side = min(turned.size)
    left, top = (turned.width - side) // 2, (turned.height - side) // 2
    square = _opaque(turned.crop((left, top, left + side, top + side)))
    return square.resize(IMAGE[1:], Image.Resampling.BICUBIC)


def _opaque(picture: Image.Image) -> Image.Image:
    """In red, green and blue; white where it was transparent."""
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        return Image.fromarray((np.asarray(picture, np.float64) / 257).round().astype(np.uint8)).convert("RGB")
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
