"""Saved models changed in their files, as by hand or by damage."""

from so3ntk.saving import archive


def rewritten(path, change):
    """The file with its document changed."""
    document, arrays = archive.read(path)
    change(document, arrays)
    archive.write(path, document, arrays)
    return path


def set_at(*keys, value):
    """A change of one entry of the document."""

    def change(document, arrays):
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change
