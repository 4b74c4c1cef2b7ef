"""Griffe extension of the documentation site: renames "Example:" in docstrings to "Examples:".

Without it, griffe would render the section as plain text and its `>>>` as quotations.
"""

from typing import Any

import griffe


class DocstringExamples(griffe.Extension):
    """Renames the section in every docstring; enabled in mkdocs.yml."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for every object."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
