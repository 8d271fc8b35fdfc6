"""Drawing images, and making changed copies of them. Plain blocking functions, for threads.

A copy appears under its name only when it is complete, and writing it twice does no harm: a job may run more than once.
"""

from __future__ import annotations

from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

SIZE = (960, 640)
BAND = 48

Colour = tuple[int, int, int]


def draw(path: Path, *, seed: int) -> None:
    """Draw a picture: shapes before a gradient, the same for the same seed and another for each."""
    random = Random(seed)  # noqa: S311 - art, not secrets
    slope = Image.linear_gradient("L").rotate(random.randrange(0, 360, 15)).crop((40, 40, 216, 216)).resize(SIZE)
    picture = ImageOps.colorize(slope, black=_colour(random, 0, 120), white=_colour(random, 130, 255))
    brush = ImageDraw.Draw(picture)
    for _ in range(random.randint(5, 12)):
        x, y = random.randrange(SIZE[0]), random.randrange(SIZE[1])
        radius = random.randint(20, 160)
        if random.random() < 0.5:
            brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_colour(random, 40, 255))
        else:
            brush.regular_polygon((x, y, radius), random.randint(3, 7), random.randrange(90), _colour(random, 40, 255))
    _save(picture, path)


def shrink(source: Path, target: Path, width: int) -> None:
    """Write a copy of `source` to `target`, at most `width` pixels wide and high."""
    with Image.open(source) as picture:
        picture.thumbnail((width, width))
        _save(picture, target)


def tint(source: Path, target: Path) -> None:
    """Write a copy in brown tones."""
    with Image.open(source) as picture:
        _save(ImageOps.colorize(ImageOps.grayscale(picture), black="#1e1408", mid="#8a6a48", white="#fff4dc"), target)


def caption(source: Path, target: Path, text: str) -> None:
    """Write a copy with a band below, and `text` in it."""
    with Image.open(source) as picture:
        copy = ImageOps.expand(picture, border=(0, 0, 0, BAND), fill="black")
        ImageDraw.Draw(copy).text((16, picture.height + BAND // 3), text, fill="white")
        _save(copy, target)


def fault_of(path: Path, *, width: int | None = None) -> str:
    """What is wrong with an image file that should be `width` pixels wide; empty when nothing is."""
    try:
        with Image.open(path) as picture:
            picture.load()
            if width is not None and picture.width != width:
                return f"{path} is {picture.width} pixels wide instead of {width}"
    except FileNotFoundError:
        return f"{path} is missing"
    except (UnidentifiedImageError, OSError) as error:
        return f"{path} does not open: {error}"
    return ""


def _colour(random: Random, low: int, high: int) -> Colour:
    return random.randint(low, high), random.randint(low, high), random.randint(low, high)


def _save(picture: Image.Image, path: Path) -> None:
    with _whole(path) as part:
        picture.save(part, "JPEG", quality=85)


@contextmanager
def _whole(path: Path) -> Generator[Path]:
    part = path.with_name(f".{path.name}.part")
    yield part
    part.replace(path)
