"""One folder's entries, each under what it is; nothing is left out without a name."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from anomaly_sweep.datasets.images import SUFFIXES
from anomaly_sweep.errors import DatasetError

# What systems leave in folders beside hidden files.
_SYSTEM = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "lost+found"}
    | {"system volume information"}
)


@dataclass(slots=True)
class Listing:
    """The visible entries of a folder, each list sorted by name.

    Parameters
    ----------
    images
        Regular files with an image's suffix.
    others
        Regular files with another suffix.
    folders
        Folders, links to folders included.
    dangling
        Links that lead nowhere, or in circles.
    special
        Sockets, pipes and devices.
    unnamed
        Entries of any kind whose name is no valid Unicode: tables and tracking stores cannot hold it.
    """

    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    dangling: list[Path] = field(default_factory=list)
    special: list[Path] = field(default_factory=list)
    unnamed: list[Path] = field(default_factory=list)


def list_folder(folder: Path) -> Listing:
    """List a folder; one that is not there is empty.

    Hidden entries and what systems leave behind (Thumbs.db, desktop.ini and the like) are left out.

    Raises
    ------
    DatasetError
        If it cannot be listed.
    """
    found = Listing()
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not entry.name.startswith(".") and entry.name.lower() not in _SYSTEM:
                    _file_under(found, folder / entry.name, entry)
    except (FileNotFoundError, NotADirectoryError):
        return Listing()
    except OSError as error:
        raise DatasetError(f"cannot list {folder}: {error.strerror}; check its permissions") from error
    return found


def _file_under(found: Listing, path: Path, entry: os.DirEntry[str]) -> None:
    if any("\ud800" <= character <= "\udfff" for character in entry.name):
        found.unnamed.append(path)
        return
    # The entry knows without asking the system; but of a link in circles it raises an error.
    known: os.DirEntry[str] | Path = path if entry.is_symlink() else entry
    if known.is_dir():
        found.folders.append(path)
    elif known.is_file():
        (found.images if path.suffix.lower() in SUFFIXES else found.others).append(path)
    elif entry.is_symlink() and not path.exists():
        found.dangling.append(path)
    else:
        found.special.append(path)
