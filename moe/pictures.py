"""Pictures from files, as the networks take images: 32 x 32 pixels, red, green and blue.

A picture is rotated by its EXIF data, cropped to the square in its middle, scaled, and made white where it is
transparent. Each new pixel is a mean over all that it covers.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from moe.networks import IMAGE

FORMATS = ("PNG", "JPEG", "WEBP")
DRAFT = (16 * IMAGE[1], 16 * IMAGE[2])  # a large JPEG is decoded at a half, a quarter or an eighth, not below this


class PictureError(Exception):
    """A file that is no picture, or a damaged one; the sentence says which."""


def load(path: Path) -> Tensor:
    """(3, 32, 32) bytes of a picture.

    Raises:
        PictureError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise PictureError(f"{path} is no regular file; expected PNG, JPEG or WebP")  # a pipe may never end
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, and of damage to what is not shown
            with Image.open(path, formats=FORMATS) as picture:
                picture.draft(None, DRAFT)
                ImageOps.exif_transpose(picture, in_place=True)
                fitted = _fitted(picture)
    except UnidentifiedImageError:
        raise PictureError(f"{path} is no picture; expected PNG, JPEG or WebP") from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise PictureError(f"{path} is too large; expected at most {most:.0f} million pixels") from None
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise PictureError(f"{path} cannot be read: {reason}") from None
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)


def _fitted(picture: Image.Image) -> Image.Image:
    """The middle of a picture, scaled, in red, green and blue; white where it was transparent."""
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        picture = Image.fromarray((np.asarray(picture, np.float32) / 257).round().astype(np.uint8))
    mode = "RGBA" if "A" in picture.getbands() or "transparency" in picture.info else "RGB"
    picture = picture if picture.mode == mode else picture.convert(mode)
    small = ImageOps.fit(picture, IMAGE[1:], Image.Resampling.BICUBIC).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", IMAGE[1:], "white"), small).convert("RGB")
