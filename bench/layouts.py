"""How many well-known layouts are read right at the first command, and how many by the command that is then named?

    python bench/layouts.py [NAME ...]

Each layout of `tests/layouts.py` is written to a temporary folder, tiny and with planted images, patients, labels and
splits, and given to `hounsfield inspect --json` as a person would: the folder alone, and where that is refused, what
the refusal names. There is no peer; the planted truth is one. The most important figure is the last: layouts that were
read otherwise than planted without a refusal.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from hounsfield.cli.main import app
from hounsfield.errors import HounsfieldError
from layouts import LAYOUTS, Truth, Writer

FLAGS = {"label_columns": "label-column"}


def inspect(data: Path, options: dict[str, Any]) -> Result:
    words = ["inspect", str(data), "--json", "--no-cost"]
    for name, value in options.items():
        flag = "--" + FLAGS.get(name, name).replace("_", "-")
        words += [word for one in (value if isinstance(value, list) else [value]) for word in (flag, str(one))]
    return CliRunner().invoke(app, words)


def is_right(found: dict[str, Any], truth: Truth) -> bool:
    figures = found["fingerprint"]
    splits = {split: count for split, count in figures["splits"].items() if split != "unassigned"}
    read = (figures["num_images"], figures["num_patients"], frozenset(figures["labels"]), splits)
    task = truth.task in {"", found["reading"]["task"]}
    return task and read == (truth.images, truth.patients, truth.labels, truth.splits)


def main(names: list[str]) -> None:
    chosen = [make for make in LAYOUTS if not names or make.__name__ in names]
    first, second, wrong = [], [], []
    for make in chosen:
        with tempfile.TemporaryDirectory() as folder:
            truth = make(Writer(Path(folder)))
            result = inspect(Path(folder), {})
            refused = isinstance(result.exception, HounsfieldError)
            told = str(result.exception) if refused else ""
            if refused:
                result = inspect(Path(folder) / truth.data, truth.options)
            right = result.exit_code == 0 and is_right(json.loads(result.stdout), truth)
        into = wrong if not right else second if refused else first
        into.append(make.__name__)
        print(f"{make.__name__:20} {'refused, then ' if refused else ''}{'right' if right else 'WRONG'}")
        if refused:
            print(f"    {told[:300]}")
    share = len(first) / len(chosen)
    print(
        f"\n{len(chosen)} layouts: {len(first)} right at once ({share:.0%}), {len(second)} by the named command, ",
        end="",
    )
    print(f"{len(wrong)} wrong or not readable: {', '.join(wrong) or 'none'}")


if __name__ == "__main__":
    main(sys.argv[1:])
