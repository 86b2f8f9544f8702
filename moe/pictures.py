"""Pictures from files, as the networks see images: 32 x 32 pixels, red, green and blue.

A picture is turned as its EXIF data say, cut to the square in its middle, laid on white where it is transparent, and
shrunk or enlarged; each new pixel is a mean over all that it covers, so that nothing fine turns into noise. A large one
is shrunk in strips, so that it takes little more memory than its pixels.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from moe.networks import IMAGE

FORMATS = ("PNG", "JPEG", "WEBP")
FINE = 8 * IMAGE[1]  # pixels to a side that are kept before the last step, at least
STRIP = 8  # rows of that


class PictureError(Exception):
    """A file that is no picture, or a damaged one; the sentence says which."""


def read(path: Path) -> Tensor:
    """(3, 32, 32) bytes of a picture.

    Raises:
        PictureError: it cannot be read.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise PictureError(f"{path} is no regular file; expected PNG, JPEG or WebP")  # a pipe may never end
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, and of damage to what is not shown
            with Image.open(path, formats=FORMATS) as picture:
                return torch.from_numpy(np.array(_fitted(picture))).permute(2, 0, 1)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"{path} is no picture; expected PNG, JPEG or WebP") from None
    except Image.DecompressionBombError:
        assert Image.MAX_IMAGE_PIXELS
        most = 2 * Image.MAX_IMAGE_PIXELS / 1e6
        raise PictureError(f"{path} is too large; expected at most {most:.0f} million pixels") from None
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else str(error)
        raise PictureError(f"{path} cannot be read: {reason}") from None
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        raise PictureError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def _fitted(picture: Image.Image) -> Image.Image:
    whole = min(picture.size)
    picture.draft(picture.mode, (FINE, FINE))  # a JPEG can be read at a half, a quarter, an eighth
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    factor = max(1, side // FINE)
    square = Image.new("RGB", (-(-side // factor),) * 2)
    for row in range(0, side, STRIP * factor):
        strip = picture.crop((left, top + row, left + side, top + min(side, row + STRIP * factor)))
        square.paste(_opaque(strip).reduce(factor), (0, row // factor))
    exact = whole / round(whole / side) / factor  # the last pixels may stand for less than the others
    small = square.resize(IMAGE[1:], Image.Resampling.BICUBIC, box=(0, 0, exact, exact))
    small.getexif()[ExifTags.Base.Orientation] = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return ImageOps.exif_transpose(small)


def _opaque(picture: Image.Image) -> Image.Image:
    """In red, green and blue; white where it was transparent."""
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        return Image.fromarray((np.asarray(picture, np.float64) / 257).round().astype(np.uint8)).convert("RGB")
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
