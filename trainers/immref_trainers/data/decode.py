"""From the bytes of an image file to 8-bit pixels: what is read, and what is refused with a sentence."""

from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises on a damaged file


def decode(file: Path | bytes) -> Image.Image:
    """The image, upright as its EXIF says, in mode "L" (grey) or "RGB", 8 bits a channel; of an animation the first frame.

    Raises
    ------
    One of `UNREADABLE`
        The file is cut short or no image; it has more pixels than Pillow's limit against decompression bombs (twice
        `Image.MAX_IMAGE_PIXELS`); 16 bits would have to become 8; or it is transparent, and no background is given.
    """
    try:
        opened = Image.open(BytesIO(file) if isinstance(file, bytes) else file)
    except UnidentifiedImageError:
        raise ValueError("no image that Pillow can read") from None
    with opened as image:
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            raise ValueError(f"has pixels of mode {image.mode}; convert it to 8 bits a channel")
        if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
            raise ValueError("is transparent in places; lay it on a background")
        grey = image.mode in ("1", "L", "LA")
        ImageOps.exif_transpose(image, in_place=True)
        return image.convert("L" if grey else "RGB")
