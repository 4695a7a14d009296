"""Overrides as people type them reach Hydra as what they mean."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import given
from hypothesis import strategies as st

from anomaly_sweep.cli.overrides import check_overrides
from anomaly_sweep.config import for_hydra
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.errors import ConfigError


def meant(text: str) -> object:
    """What Hydra takes a value for: a sweep as a tuple."""
    override = OverridesParser.create().parse_override(for_hydra(f"k={text}"))
    if not override.is_sweep_override():
        return override.value()
    return tuple(v.text if isinstance(v, QuotedString) else v for v in override.sweep_iterator())


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("/data/Prüfstand", "/data/Prüfstand"),
        ("/a/ä,/b/ö", ("/a/ä", "/b/ö")),
        ("[ä,b]", ["ä", "b"]),
        ("[[ä,b],[c]]", [["ä", "b"], ["c"]]),
        ("{flip:[ü],x:1}", {"flip": ["ü"], "x": 1}),
        ("choice(ä,b)", ("ä", "b")),
        ("'ü',ö", ("ü", "ö")),
        ("/data/set (1)", "/data/set (1)"),
        ("/data/sät (1)/x", "/data/sät (1)/x"),
        ("/data/a[1]", "/data/a[1]"),
        ("/data/lr=0.1", "/data/lr=0.1"),
        ("~/data", "~/data"),
        ("/data/#7 & more; !", "/data/#7 & more; !"),
        ("Müller's", "Müller's"),
        ("C:\\Prüf\\b", "C:\\Prüf\\b"),
        ("a\\,ü", "a,ü"),
        ("sqlite:///ü.db", "sqlite:///ü.db"),
        ("日本,中国", ("日本", "中国")),
        ("/data/a b", "/data/a b"),
        ("1,2", (1, 2)),
        ("", ""),
        ("null", None),
        ("0.5", 0.5),
    ],
)
def test_values(typed: str, wanted: object) -> None:
    assert meant(typed) == wanted


def test_interpolations_stay_interpolations() -> None:
    assert for_hydra("k=${oc.env:X}/ü") == "k='${oc.env:X}/ü'"


@pytest.mark.parametrize("typed", ["k=choice(a", "k=[", "k={a", "-m", "k", "~k", "k=a,b", "k=int(1.5)"])
def test_what_quotes_do_not_help_is_left(typed: str) -> None:
    assert for_hydra(typed) == typed


@given(st.text(st.characters(blacklist_characters="\\,()[]{}'\"$\n\r\t", blacklist_categories=("Cs", "Cc"))))
def test_any_path_is_one_value(text: str) -> None:
    value = meant(f"/{text.strip()}x")
    assert value == f"/{text.strip()}x"


def test_keys_have_ascii_letters() -> None:
    with pytest.raises(ConfigError, match=r"ASCII letters only.*in a file"):
        check_overrides(["+augmentation.exclude.bürste=[flip]"], config_folder())
