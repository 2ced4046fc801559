"""Class folders, `metadata.jsonl` and parquet, read by `datasets` from local files alone.

The builders are called themselves: `load_dataset` would announce every load to a server.
"""

from pathlib import Path
from typing import Any

from PIL import Image

from immref_trainers.data.decode import SUFFIXES, decode
from immref_trainers.data.listing import Listing, column, numbered
from immref_trainers.data.settings import Directory

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def folders(folder: Path, files: list[Path], settings: Directory) -> Listing:
    """Images with the name of their folder as label, or with the columns of a metadata file beside them.

    Folders are labels where there are several and every image lies equally deep. With metadata, every image must be in it.
    """
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    table = _built(ImageFolder, folder, files)
    found = _listing(table, folder, settings, local=True)
    if any(file.name in METADATA for file in files):
        listed = {found.name(row) for row in range(found.count)}
        images = [str(file.relative_to(folder)) for file in files if file.suffix.lower() in SUFFIXES]
        if missing := [name for name in images if name not in listed]:
            raise ValueError(f"{len(missing)} images of {folder} are not in its metadata, the first {missing[0]}; add or remove them")
    return found


def parquet(folder: Path, files: list[Path], settings: Directory) -> Listing:
    """Rows of parquet files, the image a column of encoded files: bytes, or the struct of bytes and path that `datasets` writes."""
    from datasets.packaged_modules.parquet.parquet import Parquet

    return _listing(_built(Parquet, folder, files), folder, settings, local=False)


def _built(builder: Any, folder: Path, files: list[Path]) -> Any:
    """The table that a builder of `datasets` makes of these files; kept in its cache until one of them changes."""
    from datasets.data_files import DataFilesDict, DataFilesList
    from datasets.exceptions import DatasetGenerationError

    marks = [(str(file.stat().st_mtime_ns), str(file.stat().st_size)) for file in files]
    try:
        made = builder(data_files=DataFilesDict(train=DataFilesList([str(file) for file in files], marks)))
        made.download_and_prepare()
        return made.as_dataset(split="train")
    except (DatasetGenerationError, ValueError, OSError) as error:
        raise ValueError(f"{folder} cannot be read: {error.__cause__ or error}") from error


def _listing(table: Any, folder: Path, settings: Directory, *, local: bool) -> Listing:
    """The columns asked for, as a listing; `local`: the images are files of the folder, else bytes in the table."""
    import pyarrow.compute
    from datasets import ClassLabel
    from datasets import Image as Encoded

    columns = table.column_names
    images = column("image_column", settings.image_column, "image", columns)
    labels = column("label_column", settings.label_column, "label", columns)
    captions = column("caption_column", settings.caption_column, "text", columns)
    try:
        encoded = table.select_columns([images]).cast_column(images, Encoded(decode=False))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, TypeError):
        raise ValueError(
            f"image_column {images!r} must hold encoded images, got {table.features[images]}; the columns: {', '.join(columns)}"
        ) from None

    paths = pyarrow.compute.struct_field(encoded.data.column(images), "path").to_pylist()

    def name(row: int) -> str:
        if local:
            return str(Path(paths[row]).relative_to(folder))
        return f"row {row}" + (f" ({paths[row]})" if paths[row] else "")

    def image(row: int) -> Image.Image:
        if local:
            return decode(Path(paths[row]))
        cell = encoded[row][images]
        if cell is None or cell["bytes"] is None:
            raise ValueError("holds no bytes of an image")
        return decode(cell["bytes"])

    found: dict[str, Any] = {}
    if labels is not None:
        feature = table.features[labels]
        classes = tuple(feature.names) if isinstance(feature, ClassLabel) else ()
        found["labels"], found["classes"] = numbered(f"label_column {labels!r}", table[labels][:], classes, name)
    if captions is not None:
        text = table.select_columns([captions])
        found["captions"] = lambda row: text[row][captions]
    return Listing(len(table), name, image, **found)
