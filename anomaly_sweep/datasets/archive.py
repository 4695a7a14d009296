"""A data set that was downloaded as one file: unpacked once beside it, and read from there."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

from filelock import FileLock

from anomaly_sweep.errors import DatasetError

log = logging.getLogger(__name__)

#: Suffixes of the archives that are unpacked.
SUFFIXES = (".tar.xz", ".tar.gz", ".tar.bz2", ".tgz", ".txz", ".tbz2", ".tar", ".zip")
#: Archives that need a program of their own.
_OTHERS = (".7z", ".rar", ".tar.zst", ".zst")
_CARD = ".unpacked.json"


def is_archive(path: Path) -> bool:
    """Whether a file is called as an archive is, of a kind that is unpacked here or not."""
    return path.name.lower().endswith((*SUFFIXES, *_OTHERS))


def archives_in(root: Path) -> list[Path]:
    """Archives that lie in a folder: what they hold is not read from there."""
    try:
        return sorted(path for path in root.iterdir() if is_archive(path) and path.is_file())
    except OSError:
        return []


def unpacked(root: Path) -> Path:
    """The folder to read: the root itself, or what its archive holds.

    An archive is unpacked once, into a folder beside it that is called as it is without suffix; where it
    holds one folder alone, that is the root. A folder that was unpacked before is read as it is.

    Parameters
    ----------
    root
        Folder of a data set, or the archive it was downloaded as.

    Raises
    ------
    DatasetError
        If the archive is damaged or cut off, of a kind that is not read, holds a path that leads out of it,
        or there is no place; if a folder of that name is there that is not its; if another archive of that
        name was unpacked before.
    """
    if not root.is_file() or not is_archive(root):
        return root
    suffix = next((ending for ending in SUFFIXES if root.name.lower().endswith(ending)), None)
    if suffix is None:
        raise DatasetError(
            f"{root}: archives of this kind are not unpacked here; unpack it, and give the folder "
            "as dataset.root"
        )
    root = root.absolute()
    folder = root.with_name(root.name[: -len(suffix)])
    try:
        with FileLock(root.with_name(f".{root.name}.lock")):
            if not os.path.lexists(folder):
                _unpack(root, folder)
    except OSError as error:
        raise DatasetError(
            f"{root} cannot be unpacked to {folder}: {error.strerror or error}; unpack it where there is "
            "place, and give that folder as dataset.root"
        ) from error
    _check_card(root, folder)
    return _descend(folder)


def _unpack(archive: Path, folder: Path) -> None:
    log.info("unpacking %s to %s, once", archive, folder)
    partial = folder.with_name(f".{folder.name}-{os.getpid()}")
    try:
        partial.mkdir()
        if archive.suffix.lower() == ".zip":
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(partial)  # leaves out what leads outside
        else:
            with tarfile.open(archive) as tarred:
                tarred.extractall(partial, filter="data")
        (partial / _CARD).write_text(json.dumps(_card(archive)))
        partial.rename(folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, RuntimeError, ValueError) as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is None:  # of a decompressor, not of the system
            raise _damaged(archive, error) from error
        raise
    except Exception as error:  # lzma.LZMAError and zlib.error are no OSError
        raise _damaged(archive, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _damaged(archive: Path, error: Exception) -> DatasetError:
    reason = "; ".join(str(error).splitlines()) or type(error).__name__
    return DatasetError(
        f"{archive} cannot be unpacked ({reason}): it is damaged, or its download was cut off; download it "
        "again. Nothing of it is kept"
    )


def _card(archive: Path) -> dict[str, int]:
    status = archive.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _check_card(archive: Path, folder: Path) -> None:
    """Raise DatasetError if the folder is of another archive of that name."""
    try:
        card = json.loads((folder / _CARD).read_text())
    except (OSError, ValueError):
        raise DatasetError(
            f"{archive} would be unpacked to {folder}, which is there already: if that is its content, give "
            "it as dataset.root; else move one of the two"
        ) from None
    if card != _card(archive):
        raise DatasetError(
            f"{folder} was unpacked from another {archive.name} than the one that is there now: delete the "
            "folder to unpack it again, or give it as dataset.root"
        )


def _descend(folder: Path) -> Path:
    """Past folders that hold one folder alone, as archives often do."""
    while True:
        inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        folders = [path for path in inside if path.is_dir()]
        if len(folders) != 1 or any(path.suffix.lower() not in _NOTES for path in inside if path.is_file()):
            return folder
        (folder,) = folders


_NOTES = frozenset({"", ".txt", ".md", ".pdf", ".html"})
