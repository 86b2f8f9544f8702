"""A data set that is drawn by code: ten kinds of figures, in 32 x 32 pixels and colour.

Artificial figures (labels 0, 1, 8, 9) are two or three bars at right angles; natural figures (2 to 7) are closed curves
whose radius is a wave over the angle. Place, size, rotation, proportions, colours, background, clutter, an object in
front and noise vary from image to image. It computes in float64, so that rounding to bytes removes the differences
between processors and the pixels are the same on all of them.
"""

import numpy as np
from numpy.typing import NDArray

from moe.config import ARTIFICIAL, CLASSES
from moe.data.dataset import IMAGE, ROWS, Arrays

VERSION = 1  # raise it when a code change alters the pixels

Numbers = NDArray[np.float64]

#: per artificial class, three bars: centre x and y, half width, half height
BARS = {
    0: ((0, 0, 0.2, 0.95), (0, 0, 0.95, 0.2), (0, 0, 0.2, 0.2)),  # cross
    1: ((0, 0, 0.2, 0.95), (0, -0.75, 0.8, 0.2), (0, 0, 0.2, 0.2)),  # tee
    8: ((-0.6, 0, 0.2, 0.95), (0, 0.75, 0.8, 0.2), (-0.6, 0, 0.2, 0.2)),  # angle
    9: ((0, 0, 0.2, 0.95), (-0.35, -0.75, 0.55, 0.2), (0.35, 0.75, 0.55, 0.2)),  # zigzag
}

#: per natural class: lobes, how deep they are, how far the figure is twisted
LOBES = {
    2: (2, 0.40, 0.0),  # peanut
    3: (3, 0.40, 0.0),  # clover
    4: (4, 0.38, 0.0),  # butterfly
    5: (5, 0.36, 0.0),  # flower
    6: (3, 0.42, 3.2),  # whirl
    7: (4, 0.40, 3.2),  # windmill
}

#: per class, the colour that its figures tend to have
COLOURS = {
    0: (0.80, 0.80, 0.85),
    1: (0.80, 0.30, 0.30),
    8: (0.35, 0.45, 0.85),
    9: (0.90, 0.75, 0.30),
    2: (0.60, 0.40, 0.25),
    3: (0.75, 0.60, 0.65),
    4: (0.65, 0.50, 0.15),
    5: (0.85, 0.35, 0.60),
    6: (0.35, 0.75, 0.35),
    7: (0.35, 0.30, 0.25),
}
TYPICAL = 0.62  # how far a figure's colour is that of its class, the rest being chance
SKY, MEADOW = (0.45, 0.60, 0.75), (0.35, 0.60, 0.30)  # likewise, behind artificial and natural figures

CHUNK = 250  # images drawn together
PIXEL = 2 / IMAGE[0]  # the picture reaches from -1 to 1


def draw() -> Arrays:
    """Both halves of the data set."""
    return Arrays(*_draw_half(ROWS["train"], 0), *_draw_half(ROWS["test"], 1))


def _draw_half(rows: int, stream: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    order = np.argsort(_generator(stream, 0).random(rows), kind="stable")
    labels = (np.arange(rows) % CLASSES)[order]
    images = np.empty((rows, *IMAGE), np.uint8)
    for start in range(0, rows, CHUNK):
        chunk = slice(start, start + CHUNK)
        images[chunk] = _paint(labels[chunk], Brush(_generator(stream, 1 + start), len(labels[chunk])))
    return images, labels


def _generator(stream: int, part: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([VERSION, stream, part]))


class Brush:
    """Random numbers for a chunk of images, and the coordinates of their pixels."""

    def __init__(self, rng: np.random.Generator, images: int) -> None:
        self.rng, self.images = rng, images
        centres = (np.arange(IMAGE[0]) + 0.5) * PIXEL - 1
        self.x, self.y = centres[None, None, :], centres[None, :, None]

    def number(self, low: float, high: float, *, of: int = 1) -> Numbers:
        """(images, 1, of) numbers, uniform."""
        return low + (high - low) * self.rng.random((self.images, 1, of))

    def frame(self, reach: float, turn: float = np.pi) -> tuple[Numbers, Numbers]:
        """The pixels' coordinates, (images, 32, 32) each, in a frame with a random origin and angle."""
        angle = self.number(-turn, turn)
        x, y = self.x - self.number(-reach, reach), self.y - self.number(-reach, reach)
        return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)

    def colour(self) -> Numbers:
        """(images, 1, 1, 3) between 0 and 1."""
        return self.number(0, 1, of=3)[:, None]

    def colour_near(self, typical: Numbers) -> Numbers:
        """A colour that tends to the typical one, (images, 3)."""
        return TYPICAL * typical[:, None, None] + (1 - TYPICAL) * self.colour()


def _paint(labels: NDArray[np.int64], brush: Brush) -> Numbers:
    artificial = np.isin(labels, ARTIFICIAL)
    canvas = _background(brush, np.where(artificial[:, None], SKY, MEADOW))
    canvas = _over(canvas, _clutter(brush), brush.colour())
    size = brush.number(0.55, 0.85)
    x, y = brush.frame(0.2, turn=0.6)
    figure = _figure(labels, x / size, y / size, brush) * size
    shade = 1 + brush.number(-0.2, 0.2) * np.sin(brush.number(1, 6) * x + brush.number(0, 6))
    colour = brush.colour_near(np.array([COLOURS[label] for label in labels.tolist()]))
    canvas = _over(canvas, figure, colour * shade[..., None])
    canvas = _over(canvas, _clutter(brush), brush.colour())
    noise = brush.rng.random(canvas.shape) + brush.rng.random(canvas.shape) - 1
    canvas = canvas + brush.number(0.02, 0.15)[..., None] * noise
    return np.clip(np.rint(canvas * 255), 0, 255)


def _background(brush: Brush, typical: Numbers) -> Numbers:
    """(images, 32, 32, 3): two colours that blend in waves."""
    x, _ = brush.frame(1)
    _, y = brush.frame(1)
    wave = np.sin(brush.number(0.5, 9) * x) + np.sin(brush.number(0.5, 9) * y)
    return brush.colour_near(typical) + (0.15 * wave)[..., None] * (brush.colour() - 0.5)


def _clutter(brush: Brush) -> Numbers:
    """A small bar or disc, somewhere."""
    x, y = brush.frame(0.95)
    bar = np.maximum(np.abs(x) - brush.number(0.06, 0.15), np.abs(y) - brush.number(0.15, 0.6))
    disc = np.hypot(x, y) - brush.number(0.1, 0.25)
    return np.where(brush.number(-1, 1) < 0, bar, disc)


def _figure(labels: NDArray[np.int64], x: Numbers, y: Numbers, brush: Brush) -> Numbers:
    """(images, 32, 32): how far each pixel lies outside the figure, negative inside."""
    bend, stretch, thick = brush.number(-0.1, 0.1, of=3), brush.number(0.8, 1.25), brush.number(-0.06, 0.08)
    x, y = x * np.sign(brush.number(-1, 1)) * stretch, y / stretch
    distance = np.empty_like(x)
    for rows, draw_kind in ((np.isin(labels, ARTIFICIAL), _bars), (~np.isin(labels, ARTIFICIAL), _lobes)):
        distance[rows] = draw_kind(labels[rows], x[rows], y[rows], bend[rows], thick[rows])
    return distance


def _bars(labels: NDArray[np.int64], x: Numbers, y: Numbers, bend: Numbers, thick: Numbers) -> Numbers:
    bars = np.array([BARS[label] for label in labels.tolist()])[:, None, None]  # (images, 1, 1, 3, 4)
    distance = np.full_like(x, np.inf)
    for index in range(bars.shape[3]):
        left, top, width, height = np.moveaxis(bars[..., index, :], -1, 0)
        shift = bend[..., index, None]
        bar = np.maximum(np.abs(x - left - shift) - width, np.abs(y - top) - height) - thick
        distance = np.minimum(distance, bar)
    return distance


def _lobes(labels: NDArray[np.int64], x: Numbers, y: Numbers, bend: Numbers, thick: Numbers) -> Numbers:
    lobes, depth, twist = np.moveaxis(np.array([LOBES[label] for label in labels.tolist()])[:, None, None], -1, 0)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    outline = 0.68 * (1 + (depth + bend[..., :1]) * np.cos(lobes * angle + twist * radius))
    outline += bend[..., 1:2] * np.cos(angle + 9 * bend[..., 2:]) + thick
    distance: Numbers = 0.8 * (radius - outline)
    return distance


def _over(canvas: Numbers, distance: Numbers, colour: Numbers) -> Numbers:
    """The canvas with a figure on it, smooth at the edge."""
    cover = np.clip(0.5 - distance / PIXEL, 0, 1)[..., None]
    return canvas + cover * (colour - canvas)
