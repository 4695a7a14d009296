"""Griffe extension of the site: Sphinx roles in docstrings (``:func:`name```) are shown as code."""

import re

import griffe

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(`)~?")


class Roles(griffe.Extension):
    """Rewrite the docstring of every object before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Drop the role, keep the name."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(r"\1", obj.docstring.value)
