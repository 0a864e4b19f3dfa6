"""Files that are inputs themselves, one each."""

from curation.pool.inputs import Input
from curation.pool.place import Place, Refused, read_bounded


def read_file(place: Place, name: str, max_bytes: int) -> Input:
    """The file as an input; what cannot be read is one too, with the status that says why.

    Raises OSError when the store, not the file, fails: the unit is then tried again.
    """
    try:
        size, sha256, data, status = read_bounded(place.target(name), max_bytes)
    except Refused as error:
        return Input(name, None, None, 0, "", None, error.status)
    return Input(name, None, None, size, sha256, data, status)
