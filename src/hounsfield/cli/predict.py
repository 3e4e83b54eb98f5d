"""``hounsfield predict``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from hounsfield.cli.console import check_folder, picture_name, print_json, progress_bars, say
from hounsfield.cli.options import chosen
from hounsfield.cli.results import ENGINE_HELP, conclude, good_results, reasons
from hounsfield.cli.workers import Crew, RayAddress, Table, TimeLimit, WorkerMemory, Workers, check_output, make_table
from hounsfield.errors import UsageError
from hounsfield.progress import Progress, silent

if TYPE_CHECKING:
    from hounsfield.bundle import Bundle
    from hounsfield.cli.dicom_objects import Objects
    from hounsfield.images import Image
    from hounsfield.inference import BadImage, BasePrediction, BasePredictor


def command(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or of a bundle.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders of images, or .npy arrays.")],
    *,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the table to this file: .csv, .parquet or .json. Segmenters: or masks and the table to this "
            "folder. With --workers or --ray: or shards of the table to this folder or s3:// URL.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Decision threshold in place of the bundle's own; for detectors the lowest score."
        ),
    ] = None,
    sets: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="COVERAGE",
            help="Classifiers: add sets of labels that contain the true one this often, such as 0.9. Segmenters: the "
            "coverage of the intervals of sizes and of predicted Dice, 0.9 by default.",
        ),
    ] = None,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="Let the coverage of --sets hold within each true label.")
    ] = False,
    abstain: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="RISK",
            help="Classifiers: answer only where at most this share of answers is wrong, such as 0.05.",
        ),
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw the prediction on each image, into this folder.")
    ] = None,
    counts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Detectors: write the objects of each label per image to this file: .csv or .parquet."
        ),
    ] = None,
    mirror: Annotated[
        bool,
        typer.Option("--mirror", help="Segmenters: average mirrored views; slower, and often a little better."),
    ] = False,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Segmenters: with -o DIR also write the probability of each label."),
    ] = False,
    dicom_results: Annotated[
        Path | None,
        typer.Option(
            "--dicom-results",
            metavar="DIR",
            help="Of DICOM images: write DICOM objects with the results into this folder (docs/serving.md).",
        ),
    ] = None,
    dicom_kind: Annotated[
        list[str] | None,
        typer.Option(
            "--dicom-kind",
            metavar="KIND",
            help="Of --dicom-results: report, segmentation, map, capture; several times.",
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "auto",
    workers: Workers = None,
    ray: RayAddress = None,
    time_limit: TimeLimit = None,
    worker_memory: WorkerMemory = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print predictions (with -o their number), bad images and engine as JSON."),
    ] = False,
) -> None:
    """Predict images, folders of images or arrays; the table goes to standard output or to a file.

    A detector's table has one row per finding, with its box in pixels of the image as read; as .json it is in COCO's
    form. Where it outlines objects, -o DIR also writes a map of their numbers for each image, as PNG. A segmenter's
    has one row per image and label, with the volume or area; -o DIR writes the masks, on the grid of the image as read,
    as NIfTI, of 2D images as PNG.
    """
    from hounsfield.bundle import Bundle
    from hounsfield.cli.backend import announce_engine
    from hounsfield.inference import PREDICTORS, open_predictor
    from hounsfield.inference.tables import check_table_path
    from hounsfield.tasks import MODEL_NAMES

    _check_shares({"--sets": sets, "--abstain": abstain})
    crew = Crew(workers, ray, time_limit, worker_memory)
    crew.check()
    outputs = Outputs(Path(output) if output else None, overlay, {"counts": counts} if counts else {}, as_json)
    bundle = Bundle.load(run)
    if crew.is_wanted:
        alone = {"--overlay": overlay, "--counts": counts, "--probabilities": probabilities}
        crew.refuse(alone | {"--dicom-results": dicom_results, "--json without -o": as_json and not output})
        check_output(output, inputs, masks=PREDICTORS[bundle.family].has_files(bundle))
    else:
        outputs.check(check_table_path, inputs, has_files=PREDICTORS[bundle.family].has_files(bundle))
    objects = _objects(dicom_results, dicom_kind, bundle, inputs)
    announce_engine(engine)
    takes = {family: kind.OPTIONS | kind.TABLES for family, kind in PREDICTORS.items()}
    given = {"threshold": threshold, "coverage": sets, "by_class": by_class or None, "max_risk": abstain}
    given |= {"mirror": mirror or None, "probabilities": probabilities or None}
    options = chosen(run, bundle.family, takes, given | outputs.tables, MODEL_NAMES)
    if by_class and sets is None:
        raise UsageError("--by-class changes how the coverage of --sets holds. Give --sets COVERAGE too.")
    if probabilities and not outputs.is_folder:
        raise UsageError("--probabilities writes files: name a folder for them with -o DIR.")
    options = {name: value for name, value in options.items() if name not in outputs.tables}
    predictor = open_predictor(bundle, engine, **options)
    if crew.is_wanted:
        _predict_in_crew(predictor, inputs, Request(output, engine, options, as_json), crew)
        return
    if objects is not None:
        objects.options = options
    _predict(predictor, inputs, outputs, objects)


def _objects(folder: Path | None, kinds: list[str] | None, bundle: Bundle, inputs: list[str]) -> Objects | None:
    """What writes DICOM results, where they are wanted; what could not be written is refused before any work."""
    if folder is None:
        if kinds:
            raise UsageError("--dicom-kind says what --dicom-results writes. Give --dicom-results DIR too.")
        return None
    # Takes longer than a prediction.
    from hounsfield.cli.dicom_objects import Objects, check_kinds, check_sources

    chosen_kinds = check_kinds(kinds, bundle)
    check_folder(folder, inputs)
    check_sources(inputs)
    return Objects(bundle, folder, chosen_kinds)


def _check_shares(options: Mapping[str, float | None]) -> None:
    """Refuse the ends of the range, at which nothing could be promised."""
    for name, share in options.items():
        if share is not None and not 0 < share < 1:
            raise UsageError(
                f"The option {name} is {share:g}, and a share strictly between 0 and 1 is expected. Give one, such as "
                "--sets 0.9 or --abstain 0.05."
            )


@dataclass(frozen=True)
class Outputs:
    """What is wanted: a table or a folder of files, pictures, further tables by name, JSON on standard output."""

    output: Path | None
    pictures: Path | None
    tables: dict[str, Path]
    as_json: bool

    @property
    def is_folder(self) -> bool:
        """Whether predictions are written as files into a folder, with their table."""
        return self.output is not None and (self.output.is_dir() or not self.output.suffix)

    @property
    def table(self) -> Path | None:
        """Where the table is written."""
        return self.output / "predictions.csv" if self.output is not None and self.is_folder else self.output

    def check(self, check_table_path: Any, inputs: list[str], *, has_files: bool) -> None:
        """Refuse, before any work is done, what could not be written."""
        if self.is_folder and has_files:
            check_folder(self.output, inputs)
        elif self.output is not None:
            check_table_path(self.output)
        for path in self.tables.values():
            check_table_path(path, (".csv", ".parquet"))
        check_folder(self.pictures, inputs)


@dataclass
class Tally:
    """What went through: images, rows of their table, rows of further tables, bad images."""

    predictor: BasePredictor[Any]
    wanted: tuple[str, ...]
    folder: Path | None = None
    images: int = 0
    rows: int = 0
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    bad: list[BadImage] = field(default_factory=list)

    def __call__(self, predictions: Iterator[BasePrediction]) -> Iterator[BasePrediction]:
        """The same predictions, taken note of."""
        makers = {name: self.predictor.table(name).row for name in self.wanted}
        self.tables = {name: [] for name in self.wanted}
        taken: set[str] = set()
        for prediction in predictions:
            self.images += 1
            for name, row in makers.items():
                self.tables[name].append(row(prediction))
            if self.folder is not None:
                self.predictor.write_files(self.folder, picture_name(prediction.image, taken), prediction)
            yield prediction

    def summary(self) -> dict[str, Any]:
        """For machines."""
        return {"engine": self.predictor.engine.description, "count": self.images, "bad": reasons(self.bad)}


class Pictures:
    """Draws each image with its prediction into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[str] = set()
        # Matplotlib draws one picture at a time.
        self._lock = threading.Lock()

    def __call__(self, image: Image, prediction: BasePrediction) -> None:
        """Draw one image."""
        from hounsfield.reports.figures import save_figure

        with self._lock:
            path = self._folder / f"{picture_name(prediction.image, self._taken)}.png"
            save_figure(prediction.draw(image), path)


def _predict(
    predictor: BasePredictor[Any], inputs: list[str], outputs: Outputs, objects: Objects | None = None
) -> None:
    from hounsfield.inference.tables import write_table

    say(f"Engine: {predictor.engine.description}")
    tally = Tally(predictor, tuple(outputs.tables), outputs.output if outputs.is_folder else None)
    pictures = Pictures(outputs.pictures) if outputs.pictures is not None else None

    def results(progress: Progress) -> Iterator[BasePrediction]:
        good = good_results(predictor.stream(inputs, progress=progress, viewer=pictures), tally.bad)
        return tally(good if objects is None else objects(good))

    if outputs.table is not None:
        if tally.folder is not None:
            tally.folder.mkdir(parents=True, exist_ok=True)
        with progress_bars() as bars:
            tally.rows = predictor.write(outputs.table, results(bars))
        if outputs.as_json:
            print_json(tally.summary() | {"rows": tally.rows, "file": str(outputs.table)})
    elif outputs.as_json:
        predictions = [(prediction.json(), len(prediction.rows())) for prediction in results(silent)]
        tally.rows = sum(rows for _, rows in predictions)
        print_json(tally.summary() | {"predictions": [content for content, _ in predictions]})
    else:
        tally.rows = _print(predictor, results(silent))
    for name, path in outputs.tables.items():
        write_table(path, predictor.table(name).columns, tally.tables[name])
    if told := predictor.summary(tally.images, tally.rows):
        say(told)
    if objects is not None:
        objects.write()
    conclude(tally.images, tally.bad, outputs.output)


class Request(NamedTuple):
    """What workers are to do: the output, by which engine, with which options of the predictor, and how it is told."""

    output: str | None
    engine: str
    options: dict[str, Any]
    as_json: bool


def _predict_in_crew(predictor: BasePredictor[Any], inputs: list[str], asked: Request, crew: Crew) -> None:
    from hounsfield.distributed import PredictionWork
    from hounsfield.distributed.predicting import BundleCopy
    from hounsfield.inference.fitting import DifferenceLog
    from hounsfield.inference.tables import write_csv, write_table

    say(f"Engine: {predictor.engine.description}")
    parts = list(predictor.parts(inputs))
    copy = BundleCopy.of(predictor.bundle)
    work = PredictionWork(copy, asked.engine, asked.options, alone=len(parts) == 1)

    def write(rows: Iterable[dict[str, Any]]) -> int:
        if asked.output is None:
            return write_csv(sys.stdout, predictor.columns, rows)
        return write_table(asked.output, predictor.columns, rows)

    facts = {"bundle": copy.identity, "engine": asked.engine, "options": asked.options}
    table = Table("predict", asked.output, predictor.columns, write, facts, asked.as_json)
    whole = make_table(table, crew, work, parts)
    log = DifferenceLog(predictor.bundle.source_range)
    log.add(whole.differences)
    log.conclude()
    if told := predictor.summary(whole.images, whole.num_rows):
        say(told)
    conclude(whole.images, whole.bad, Path(asked.output) if asked.output else None)


def _print(predictor: BasePredictor[Any], predictions: Iterator[BasePrediction]) -> int:
    from hounsfield.inference.tables import write_csv

    return write_csv(sys.stdout, predictor.columns, (row for prediction in predictions for row in prediction.rows()))
