"""For the documentation site: "Example:" in a docstring is the section "Examples:" of griffe.

Without it, griffe would take the section for plain text and its `>>>` for quotations.
"""

from typing import Any

import griffe


class DocstringExamples(griffe.Extension):
    """Renames the section in every docstring that is read; named in mkdocs.yml."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object with what griffe has read of it."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
