"""Overrides as people type them, in the quotes that Hydra's grammar wants."""

from __future__ import annotations

import re

# What Hydra's lexer takes without quotes; its escapes; its functions.
_PLAIN = re.compile(r"[\w/\-+.$%*@?|,:]*", re.ASCII)
_ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")
_KEPT = re.compile(r"\\[\\()\[\]{}:=, \t]|\$\{[^}]*\}")
_LEGAL = re.compile(r"(?:[\w/\-\\+.$%*@?|: \t]|\\[()\[\]{}=,]|\$\{[^}]*\})*", re.ASCII)
_QUOTED = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*(?=[,\])}]|$)""")
_FUNCTIONS = {"bool", "choice", "extend_list", "float", "glob", "int", "interval", "json_str"}
_FUNCTIONS |= {"range", "shuffle", "sort", "str", "tag"}
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def for_hydra(override: str) -> str:
    """An override that Hydra can read: values with letters or signs that its grammar lacks get quotes.

    ``dataset.root=/data/Prüfstand`` becomes ``dataset.root='/data/Prüfstand'``; so do spaces beside brackets,
    ``=``, ``#``, ``~`` and other signs of paths. Choices (``a,b``), lists, dicts and functions stay what they
    are. An override that Hydra reads as it is, or that quotes do not help, is returned unchanged.
    """
    key, equal, value = override.partition("=")
    if not equal or _PLAIN.fullmatch(value) or _is_readable(override):
        return override
    quoted = f"{key}={_quote(value)}"
    return quoted if _is_readable(quoted) else override


def _is_readable(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _quote(value: str) -> str:
    """A value with quotes around those of its elements that need them."""
    out: list[str] = []
    text = ""
    closing: list[str] = []  # of the lists, dicts and functions that are open; "" for signs of a text
    place = 0
    while place < len(value):
        sign = value[place]
        structure = not closing or closing[-1] != ""
        match = (_QUOTED.match(value, place) if not text.strip() else None) or _KEPT.match(value, place)
        if match is not None:
            text += match[0]
            place = match.end()
            continue
        place += 1
        if sign in _CLOSING:
            before = text.strip()
            begins = before in _FUNCTIONS if sign == "(" else not before
            if structure and begins:
                out.append(text + sign)
                text = ""
                closing.append(_CLOSING[sign])
            else:
                text += sign
                closing.append("")
        elif sign in ")]}" and closing:
            if closing.pop() == sign:
                out.append(_element(text) + sign)
                text = ""
            else:
                text += sign
        elif sign == "," and structure:
            out.append(_element(text) + sign)
            text = ""
        elif (sign == ":" and closing[-1:] == ["}"]) or (
            sign == "=" and closing[-1:] == [")"] and text.strip().isidentifier()
        ):
            out.append(text + sign)  # a dict's key or an argument's name: never in quotes
            text = ""
        else:
            text += sign
    return "".join([*out, _element(text)])


def _element(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    if _LEGAL.fullmatch(text) or _QUOTED.fullmatch(text):
        return text
    return QuotedString(_ESCAPED.sub(r"\1", text.strip()), Quote.single).with_quotes()
