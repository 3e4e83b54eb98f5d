"""What holds for samples of several images: the views of a breast, the images of a study, the tiles of a slide."""

from __future__ import annotations

import pandas as pd

from hounsfield.errors import CohortError

# What all images of a sample must agree on.
SHARED = ("label", "patient", "split", "unknown_labels")


def check_views(table: pd.DataFrame, name: str) -> None:
    """Refuse samples whose images do not belong together.

    Args:
        table: of a cohort.
        name: of the cohort.

    Raises:
        CohortError: images of one sample have different labels, patients or splits, or one image stands there twice.
    """
    if table["sample"].is_unique:
        return
    twice = table.duplicated(["sample", "image"])
    if twice.any():
        first = table[twice].iloc[0]
        raise CohortError(
            f"The cohort '{name}' has several rows for the image '{first['image']}' of the sample '{first['sample']}': "
            "expected one row per image. Merge these rows, or give each its own key in the column 'sample'."
        )
    codes = pd.factorize(table["sample"])[0]
    for column in (column for column in SHARED if column in table.columns):
        values = pd.factorize(table[column], use_na_sentinel=False)[0]
        pairs = pd.DataFrame({"sample": codes, "value": values}).drop_duplicates()
        several = pairs["sample"][pairs["sample"].duplicated()]
        if len(several):
            rows = table[codes == several.iloc[0]]
            # Patients are counted and never named.
            found = "" if column == "patient" else f" ({', '.join(sorted(set(rows[column].astype(str))))})"
            raise CohortError(
                f"The images of a sample are judged together, but in the cohort '{name}' those of "
                f"{several.nunique():,} samples differ in the column '{column}', first '{rows['sample'].iloc[0]}'"
                f"{found}. Correct the rows, or name another column with --sample-column; a column called 'sample' "
                "that means something else must be renamed."
            )
