"""Where photos are kept: a folder each, named by the photo's id. Plain blocking functions, for threads.

    <root>/<photo id>/original             as it was uploaded
                      thumbnail-160.jpg    written by jobs, whole or not at all
                      filtered.jpg
                      labels.json
                      jobs.json            name -> id of the jobs that were enqueued for it

Deleting a photo removes its folder. Whoever reads or writes there afterwards gets `PhotoGone`.
"""

from __future__ import annotations

import json
import secrets
import shutil
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

MOST_BYTES = 10 * 1024 * 1024
MOST_PIXELS = 40_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")


class PhotoGone(Exception):
    """The photo was deleted."""


class NotAPhoto(ValueError):
    """What was uploaded is no image that we take; the message says why."""


class Storage:
    """The photos below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, content: bytes) -> UUID:
        """Keep an uploaded image; its new id.

        Raises:
            NotAPhoto: it is no complete image of a known format and sensible size.
        """
        check_image(content)
        photo_id = uuid4()
        folder = self.root / str(photo_id)
        folder.mkdir(parents=True)
        (folder / "original").write_bytes(content)
        return photo_id

    def read(self, photo_id: UUID, name: str = "original") -> bytes:
        """One of a photo's files.

        Raises:
            PhotoGone: there is no such photo, or it has no such file.
        """
        try:
            return self.path(photo_id, name).read_bytes()
        except FileNotFoundError:
            raise PhotoGone(f"photo {photo_id} was deleted") from None

    def path(self, photo_id: UUID, name: str) -> Path:
        """Where one of a photo's files is.

        Raises:
            PhotoGone: there is no such photo, or it has no such file.
        """
        if name not in self.names(photo_id):  # so that no name leads out of the folder
            raise PhotoGone(f"photo {photo_id} has no {name}")
        return self.root / str(photo_id) / name

    def names(self, photo_id: UUID) -> list[str]:
        """The files of a photo."""
        try:
            return sorted(path.name for path in (self.root / str(photo_id)).iterdir() if path.suffix != ".part")
        except FileNotFoundError:
            raise PhotoGone(f"there is no photo {photo_id}") from None

    def write(self, photo_id: UUID, name: str, content: bytes) -> None:
        """Write one of a photo's files, as a whole: a job may run twice, even at the same time."""
        path = self.root / str(photo_id) / name
        part = path.with_name(f"{name}.{secrets.token_hex(4)}.part")
        try:
            part.write_bytes(content)
            part.replace(path)
        except FileNotFoundError:
            raise PhotoGone(f"photo {photo_id} was deleted") from None

    def write_json(self, photo_id: UUID, name: str, value: object) -> None:
        """`write` of a JSON value."""
        self.write(photo_id, name, json.dumps(value).encode())

    def delete(self, photo_id: UUID) -> None:
        """Remove a photo with all that was made of it."""
        folder = self.root / str(photo_id)
        try:
            gone = folder.rename(folder.with_name(f".{photo_id}.gone"))  # in one step: nobody sees half a photo
        except FileNotFoundError:
            raise PhotoGone(f"there is no photo {photo_id}") from None
        shutil.rmtree(gone)

    def make_thumbnail(self, photo_id: UUID, width: int) -> str:
        """Write a copy, at most `width` pixels wide and high; its name."""
        name = f"thumbnail-{width}.jpg"
        with self._open(photo_id) as image:
            image.thumbnail((width, width))
            self.write(photo_id, name, _jpeg(image))
        return name

    def make_filtered(self, photo_id: UUID) -> str:
        """Write a copy in soft grey; its name."""
        with self._open(photo_id) as image:
            soft = ImageOps.autocontrast(ImageOps.grayscale(image)).filter(ImageFilter.GaussianBlur(1.5))
            self.write(photo_id, "filtered.jpg", _jpeg(soft))
        return "filtered.jpg"

    @contextmanager
    def _open(self, photo_id: UUID) -> Generator[Image.Image]:
        with Image.open(BytesIO(self.read(photo_id))) as image:
            yield image


def check_image(content: bytes) -> None:
    """Decode an image once, small: what passes here opens in the jobs too.

    Raises:
        NotAPhoto: it is none, is cut off, has an unknown format, or too many pixels.
    """
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            pixels = image.width * image.height
            if pixels <= MOST_PIXELS:
                image.thumbnail((64, 64))
    except UnidentifiedImageError:
        raise NotAPhoto(f"this is no image; send one of {', '.join(FORMATS)}") from None
    except Exception as error:  # noqa: BLE001 - decoders raise all sorts of errors at broken bytes
        raise NotAPhoto(f"this image can't be read: {error}") from None
    if pixels > MOST_PIXELS:
        raise NotAPhoto(f"its {pixels} pixels are too many, {MOST_PIXELS} is the most")


def _jpeg(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
