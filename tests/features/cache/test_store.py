"""The cache: what is read is what was written, or it is made again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly_sweep import unwritable
from anomaly_sweep.errors import CacheError
from anomaly_sweep.features.cache.entry import Arrays
from anomaly_sweep.features.cache.store import FeatureCache, key_of
from tests.support.paths import ROOT

ABOUT: dict[str, Any] = {
    "dataset": "parts",
    "level": "level3",
    "mean": [0.5, 0.25, 0.1],
    "kwargs": {"a": None},
}


def arrays_of(seed: int = 0, rows: int = 7) -> Arrays:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(rows, 5)).astype(np.float32) for name in ("min", "max", "avg")}


def filled(root: Path, count: int) -> FeatureCache:
    """Entries 0, 1, ... each last used a day before the one before it."""
    cache = FeatureCache(root)
    for number in range(count):
        cache.put(ABOUT | {"number": number}, arrays_of(number))
        used = time.time() - 86400 * number - 60
        os.utime(cache.path_of(ABOUT | {"number": number}), (used, used))
    return cache


def numbers(cache: FeatureCache) -> list[int]:
    return [entry.description["number"] for entry in cache.entries()]


def test_put_and_get(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "new" / "cache")
    assert cache.get(ABOUT) == (None, "")
    assert not cache.has(ABOUT)
    arrays = arrays_of()
    arrays["min"][2, 3] = np.nan
    arrays["max"] = np.asfortranarray(arrays["max"])
    arrays["avg"] = np.repeat(arrays["avg"], 2, axis=1)[:, ::2]
    cache.put(ABOUT, arrays)
    assert cache.has(ABOUT)
    found, damage = cache.get(dict(reversed(ABOUT.items())))
    assert damage == ""
    assert found is not None
    assert found.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == np.float32
    assert cache.get(ABOUT | {"level": "level4"}) == (None, "")
    (entry,) = cache.entries()
    assert entry.description == ABOUT
    assert entry.bytes == entry.path.stat().st_size


def test_reading_is_a_use(tmp_path: Path) -> None:
    cache = filled(tmp_path, 3)
    assert numbers(cache) == [0, 1, 2]
    cache.get(ABOUT | {"number": 2})
    assert numbers(cache) == [2, 0, 1]


def damage(path: Path, kind: str) -> None:
    raw = bytearray(path.read_bytes())
    if kind == "truncated":
        raw = raw[:-10]
    elif kind == "empty":
        raw = bytearray()
    elif kind == "flipped byte":
        raw[-20] ^= 0x10
    elif kind == "garbage header":
        raw[8:40] = b"\xff" * 32
    elif kind == "huge header":
        raw[:8] = b"\xff" * 8
    elif kind == "grown":
        raw += b"more"
    elif kind == "other file":
        raw = bytearray((8).to_bytes(8, "little") + b"[1,2,3] ")
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "kind",
    ["truncated", "empty", "flipped byte", "garbage header", "huge header", "grown", "other file"],
)
def test_damage_is_said_and_mended(tmp_path: Path, kind: str) -> None:
    cache = FeatureCache(tmp_path)
    cache.put(ABOUT, arrays_of())
    path = cache.path_of(ABOUT)
    damage(path, kind)
    assert [message != "" and str(path) in message for _, message in cache.verify()] == [True]
    list(cache.entries())
    found, said = cache.get(ABOUT)
    assert found is None
    assert said.startswith(f"{path}: damaged")
    assert cache.get(ABOUT) == (None, "")
    cache.put(ABOUT, arrays_of())
    assert cache.get(ABOUT)[0] is not None
    assert [message for _, message in cache.verify()] == [""]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_flipped_bit_of_the_content_goes_unseen(tmp_path: Path, data: st.DataObject) -> None:
    cache = FeatureCache(tmp_path)
    cache.put(ABOUT, arrays_of(rows=2))
    path = cache.path_of(ABOUT)
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    (found,) = list(cache.verify())
    arrays, said = cache.get(ABOUT)
    if arrays is None:
        assert said
        assert found[1]
    else:  # in the description or the padding: the features are what they were
        for name, values in arrays_of(rows=2).items():
            np.testing.assert_array_equal(arrays[name], values)


def test_a_file_under_another_key_is_found(tmp_path: Path) -> None:
    cache = filled(tmp_path, 1)
    (entry,) = cache.entries()
    entry.path.rename(entry.path.with_stem("0" * 32))
    ((_, message),) = cache.verify()
    assert "not its content's key" in message


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from anomaly_sweep.features.cache.store import FeatureCache
Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
FeatureCache(Path(sys.argv[1])).put({"a": 1}, {"min": np.zeros((3, 2), np.float32)})
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_an_interrupted_write_leaves_nothing_visible(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    cache = FeatureCache(tmp_path)
    assert not cache.has({"a": 1})
    assert cache.get({"a": 1}) == (None, "")
    assert list(cache.entries()) == []
    (stray,) = (path for path in tmp_path.rglob("*") if path.is_file())
    cache.prune(max_bytes=10**9)
    assert stray.exists()  # young: it might be another process's, writing now
    os.utime(stray, (time.time() - 7200,) * 2)
    cache.prune(max_bytes=10**9)
    assert not stray.exists()


def test_a_failed_write_is_told_and_cleaned_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = FeatureCache(tmp_path)

    def full(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    unwritable._said.clear()
    cache.put(ABOUT, arrays_of())
    assert f"{tmp_path} cannot be written (No space left on device)" in caplog.text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"runtime\.cache_dir"):
        FeatureCache(tmp_path / "file")


def test_a_file_that_cannot_be_opened_is_not_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = filled(tmp_path, 1)

    def refuse(_self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(CacheError, match="Permission denied"):
            cache.get(ABOUT | {"number": 0})
    assert cache.get(ABOUT | {"number": 0})[0] is not None


def test_prune_by_age(tmp_path: Path) -> None:
    cache = filled(tmp_path, 4)
    removed = cache.prune(older_than=1.5 * 86400)
    assert [entry.description["number"] for entry in removed] == [2, 3]
    assert numbers(cache) == [0, 1]


def test_prune_by_size_keeps_the_most_recently_used(tmp_path: Path) -> None:
    cache = filled(tmp_path, 4)
    size = next(cache.entries()).bytes
    assert [entry.description["number"] for entry in cache.prune(max_bytes=2 * size + size // 2)] == [2, 3]
    assert numbers(cache) == [0, 1]
    assert cache.prune(max_bytes=2 * size) == []


def test_prune_by_size_does_not_keep_old_entries_for_being_small(tmp_path: Path) -> None:
    cache = filled(tmp_path, 1)
    for number, rows in ((1, 500), (2, 7)):
        cache.put(ABOUT | {"number": number}, arrays_of(rows=rows))
        used = time.time() - 86400 * number
        os.utime(cache.path_of(ABOUT | {"number": number}), (used, used))
    cache.prune(max_bytes=5000)
    assert numbers(cache) == [0]


def test_prune_both_and_everything(tmp_path: Path) -> None:
    cache = filled(tmp_path, 4)
    size = next(cache.entries()).bytes
    assert [e.description["number"] for e in cache.prunable(older_than=2.5 * 86400, max_bytes=2 * size)] == [
        2,
        3,
    ]
    assert [e.description["number"] for e in cache.prunable(older_than=0.5 * 86400, max_bytes=9 * size)] == [
        1,
        2,
        3,
    ]
    assert numbers(cache) == [0, 1, 2, 3]
    assert len(cache.prune()) == 4
    assert numbers(cache) == []


def test_an_entry_that_vanishes_meanwhile(tmp_path: Path) -> None:
    cache = filled(tmp_path, 2)
    checking = cache.verify()
    assert next(checking)[1] == ""
    cache.prune()
    assert list(checking) == []


def test_keys_are_of_content_not_of_order() -> None:
    assert key_of(ABOUT) == key_of(json.loads(json.dumps(ABOUT)))
    assert key_of(ABOUT) != key_of(ABOUT | {"mean": [0.5, 0.25, 0.1000001]})
