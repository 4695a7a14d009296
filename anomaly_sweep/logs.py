"""Where a sweep's log goes: everything into a file in its folder, what a person needs onto the terminal."""

from __future__ import annotations

import copy
import logging
import platform
import shlex
import sys
from pathlib import Path

from hydra.core.utils import configure_log
from omegaconf import DictConfig, open_dict, read_write

from anomaly_sweep import terminal

log = logging.getLogger(__name__)

#: For ``extra=``: a record for the file alone.
FILE_ONLY = {"file_only": True}

_shown: set[str] = set()


def log_into(folder: Path, config: DictConfig) -> None:
    """Log as Hydra's jobs do (``hydra/job_logging``), into a sweep's folder instead of a job's.

    A folder that cannot be written costs the file, not the sweep.
    """
    own = copy.deepcopy(config)
    with read_write(own.hydra), open_dict(own.hydra):
        own.hydra.runtime.output_dir = str(folder.absolute())
    try:
        configure_log(own.hydra.job_logging, own.hydra.verbose)
    except (OSError, ValueError) as error:
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        log.warning("no log file: %s", error.__cause__ or error)
    calm()


def calm() -> None:
    """Keep traces, and what repeats itself, off the terminal; they are in the log file.

    Without a log file nothing is kept back.
    """
    handlers = logging.getLogger().handlers
    if not any(isinstance(handler, logging.FileHandler) for handler in handlers):
        return
    for handler in handlers:
        if not isinstance(handler.formatter, _Formatter):
            on_terminal = not isinstance(handler, logging.FileHandler)
            handler.setFormatter(_Formatter(handler.formatter, traces=not on_terminal))
            if on_terminal:
                handler.addFilter(_is_for_terminal)


def log_file() -> Path | None:
    """The file that is logged into."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            return Path(handler.baseFilename)
    return None


def log_start() -> None:
    """What a later reader of the file wants to know first: the command, where it ran, the versions."""
    from anomaly_sweep.tracking.content import common_tags

    log.info("command: %s", shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), extra=FILE_ONLY)
    log.info("folder: %s", Path.cwd(), extra=FILE_ONLY)
    log.info("python %s on %s", sys.version.split()[0], platform.platform(), extra=FILE_ONLY)
    for name, value in common_tags().items():
        log.info("%s: %s", name, value, extra=FILE_ONLY)


def log_failures(where: str, reasons: list[str]) -> None:
    """Why trials failed: each reason in the file, with how often; on the terminal those not yet seen."""
    for reason in dict.fromkeys(reasons):
        first = reason not in _shown
        _shown.add(reason)
        count = reasons.count(reason)
        extra = {"file_only": not first}
        trials = "1 trial" if count == 1 else f"{count} trials"
        log.warning("%s: %s failed: %s", where, trials, reason, extra=extra)


def _is_for_terminal(record: logging.LogRecord) -> bool:
    return not getattr(record, "file_only", False)


class _Formatter(logging.Formatter):
    """Another formatter's text without control characters and, for the terminal, without traces."""

    def __init__(self, inner: logging.Formatter | None, *, traces: bool) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()
        self._traces = traces

    def format(self, record: logging.LogRecord) -> str:
        if not self._traces and record.exc_info:
            error = record.exc_info[1]
            record = copy.copy(record)
            record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}: {error}", None
            record.exc_info = record.exc_text = None
        return terminal.visible(self._inner.format(record), lines=True)
