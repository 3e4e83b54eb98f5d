// What a reader says of a model's answer, step by step.
import type { Finding, ModelInfo, Prediction } from "../api/types";
import type { Edit, Mark, Opinion, Reading } from "./reading";
import { NO_OPINION } from "./reading";

/** Under which an opinion of a prediction is kept. */
export const opinionKey = (model: string, prediction: Pick<Prediction, "stack" | "frame">): string =>
  [model, prediction.stack ?? "", prediction.frame ?? ""].join("|");

export const opinionOf = (reading: Reading, key: string): Opinion => reading.opinions[key] ?? NO_OPINION;

const same = (one: Opinion, other: Opinion): boolean =>
  one.verdict === other.verdict &&
  one.grade === other.grade &&
  JSON.stringify(Object.entries(one.labels).sort()) === JSON.stringify(Object.entries(other.labels).sort());

/** The edit from one opinion to another; none where nothing changes. */
export function opinionEdit(reading: Reading, key: string, after: Opinion): Edit[] {
  const before = reading.opinions[key] ?? null;
  return before !== null && same(before, after) ? [] : [{ what: "opinion", id: key, before, after }];
}

/** The labels of a prediction, each with whether it was predicted. */
export function predictedLabels(info: ModelInfo, prediction: Prediction): Record<string, boolean> | null {
  if (prediction.prediction === undefined || info.family !== "labels") return null;
  const chosen = new Set(prediction.prediction.split(";"));
  return Object.fromEntries(info.labels.map((label) => [label, chosen.has(label)]));
}

/** The answer is right as it is: labels, grade or value are those predicted, and boxes are taken over. */
export function accepted(reading: Reading, key: string, info: ModelInfo, prediction: Prediction): Edit[] {
  const after: Opinion = {
    verdict: "accepted",
    labels: predictedLabels(info, prediction) ?? {},
    grade: info.family === "values" ? (prediction.prediction ?? String(prediction.value ?? "")) : "",
  };
  const boxes = info.family === "boxes" ? takenOver(reading, info.name, prediction) : [];
  return [...opinionEdit(reading, key, after), ...boxes];
}

export const rejected = (reading: Reading, key: string): Edit[] =>
  opinionEdit(reading, key, { ...opinionOf(reading, key), verdict: "rejected" });

/** A label is there or not; of labels that exclude each other the others are then not. */
export function labelled(
  reading: Reading,
  key: string,
  info: ModelInfo,
  prediction: Prediction,
  label: string,
  isThere: boolean,
): Edit[] {
  const predicted = predictedLabels(info, prediction);
  const labels =
    info.task === "multi-label"
      ? { ...(predicted ?? {}), ...opinionOf(reading, key).labels, [label]: isThere }
      : Object.fromEntries(info.labels.map((each) => [each, each === label]));
  const isAsPredicted = predicted !== null && info.labels.every((each) => labels[each] === predicted[each]);
  return opinionEdit(reading, key, { ...NO_OPINION, verdict: isAsPredicted ? "accepted" : "corrected", labels });
}

export function graded(reading: Reading, key: string, prediction: Prediction, grade: string): Edit[] {
  const isAsPredicted = grade === (prediction.prediction ?? String(prediction.value ?? ""));
  return opinionEdit(reading, key, { ...NO_OPINION, verdict: isAsPredicted ? "accepted" : "corrected", grade });
}

export const isIn = (mark: Mark, model: string, prediction: Pick<Prediction, "stack" | "frame">): boolean =>
  mark.kind === "box" &&
  mark.model === model &&
  mark.stack === prediction.stack &&
  (mark.slices !== undefined || mark.frame === (prediction.frame ?? 0));

/** The boxes of a model as marks; one that the reader takes over keeps its name. */
export function boxesOf(model: string, prediction: Prediction): Mark[] {
  const { stack, frame, image } = prediction;
  if (stack === null) return [];
  return (prediction.findings ?? []).map((finding, index) =>
    boxOf(finding, { id: [model, image, index].join("|"), stack, frame: frame ?? 0, model }),
  );
}

/** The model's boxes as the reader's own, to be moved and deleted: those that are not yet. */
export function takenOver(reading: Reading, model: string, prediction: Prediction): Edit[] {
  const own = new Set(reading.marks.map((mark) => mark.id));
  return boxesOf(model, prediction)
    .filter((box) => !own.has(box.id))
    .map((box) => ({ what: "mark", id: box.id, before: null, after: box }));
}

/** The box of a finding as a mark. */
export function boxOf(finding: Finding, place: Pick<Mark, "id" | "stack" | "frame" | "model">): Mark {
  const { x0, y0, x1, y1, z0, z1, label } = finding;
  const mark: Mark = { ...place, kind: "box", from: [x0, y0], to: [x1, y1], label };
  return z0 === undefined || z1 === undefined ? mark : { ...mark, slices: [Math.floor(z0), Math.ceil(z1)] };
}
