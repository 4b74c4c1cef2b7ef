"""Published checkpoints of other code bases as kinema networks."""

from kinema.models.convert.importer import Imported, import_checkpoint

__all__ = ["Imported", "import_checkpoint"]
