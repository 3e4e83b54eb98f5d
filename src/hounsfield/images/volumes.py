"""Which of several volumes in one file is meant."""

from __future__ import annotations

from collections.abc import Sequence

from hounsfield.errors import ImageError, SeveralVolumes

# Far beyond the time points of any acquisition; a header may declare 2³² of them.
MAX_VOLUMES = 2**20


def chosen_volume(volumes: Sequence[str], volume: int | None, path: object) -> int:
    """The number of a file's one volume, or of the one that was asked for.

    Args:
        volumes: a few words about each.
        volume: the number asked for, from 0.
        path: of the file or the folder.

    Raises:
        SeveralVolumes: there are several and none was asked for.
        ImageError: there are fewer.
    """
    if volume is None and len(volumes) > 1:
        raise SeveralVolumes(path, volumes)
    if volume is not None and not 0 <= volume < len(volumes):
        raise ImageError(
            f"'{path}' holds {len(volumes)} volume(s), and number {volume} was asked for. They count from 0."
        )
    return volume or 0


def alike(shape: Sequence[int], number: int) -> list[str]:
    """The words for so many volumes of one shape.

    Raises:
        ImageError: there are more than any acquisition has.
    """
    if number > MAX_VOLUMES:
        raise ImageError(f"The header declares {number:,} volumes: it is damaged. Copy the file again from its source.")
    return [f"{'×'.join(map(str, shape))} voxels"] * number
