// What the service says; see hounsfield/serving/web_reading.py.
import type { Reading } from "../reading";

export interface ModelInfo {
  name: string;
  family: "labels" | "values" | "boxes" | "masks";
  task: string;
  labels: string[];
  /** One for each label where they have thresholds of their own. */
  threshold: number | number[] | null;
  bundle: string;
}

export type Role = "reader" | "annotator" | "admin";

export interface Session {
  name: string;
  role: Role;
  local: boolean;
  models: ModelInfo[];
  version: string;
}

export interface Patient {
  name: string;
  id: string;
  birth: string;
  sex: string;
}

export interface Summary {
  model: string;
  state: string;
  reason: string;
  bundle: string | null;
  findings: string[];
  score: number;
  unlike: boolean;
  unsure: boolean;
  failed: number;
  /** How much a label may teach the model, 0 to 1. */
  teaches: number;
}

interface CaseFacts {
  key: string;
  revision: number;
  received: number;
  changed: number;
  complete: boolean;
  patient: Patient | null;
  pseudonym: string;
  modality: string;
  body_part: string;
  description: string;
  date: string;
}

export interface CaseRow extends CaseFacts {
  answers: Summary[];
  hidden: boolean;
  mine: "draft" | "final" | null;
  /** How many readers have finished. */
  readers: number;
}

export interface StackFacts {
  modality: string | null;
  words: string;
  note: string;
  files: number;
  resampled: boolean;
}

export interface Finding {
  label: string;
  score: number;
  y0: number;
  x0: number;
  y1: number;
  x1: number;
  z0?: number;
  z1?: number;
}

export interface Prediction {
  image: string;
  stack: number | null;
  frame: number | null;
  reason?: string;
  prediction?: string;
  probabilities?: Record<string, number>;
  set?: string[];
  answer?: string;
  value?: number;
  low?: number | null;
  high?: number | null;
  findings?: Finding[];
  counts?: Record<string, number>;
  count_ranges?: Record<string, [number, number | null]>;
  labels?: Record<string, Structure>;
  ood_score?: number;
  out_of_distribution?: boolean;
  flags?: string[];
  views?: { image: string; weight: number; stack: number | null; frame: number | null }[];
}

export interface Structure {
  pixels: number;
  size: number | null;
  unit: string;
  size_low?: number | null;
  size_high?: number | null;
  dice_predicted?: number | null;
}

export interface Answer {
  job: number;
  model: string;
  state: string;
  reason: string;
  bundle: string | null;
  predictions: Prediction[];
}

/** A reader's last step in a case. */
export interface Step {
  id: number;
  reader: string;
  state: "draft" | "final";
  revision: number;
  time: number;
  blind: boolean;
  content: Reading;
}

export interface Agreement {
  labels: number;
  same_labels: number;
  boxes: number;
  same_boxes: number;
}

export interface Case extends CaseFacts {
  stacks: StackFacts[];
  answers: Answer[];
  /** Whether the models' answers are hidden until this reader has finished. */
  hidden: boolean;
  mine: Step | null;
  others: (Step & { agreement: Agreement })[];
}

export interface FrameFacts {
  rows: number;
  columns: number;
  channels: number;
  type: string;
  spacing: number[] | null;
  affine: number[][] | null;
  sides: [string, string] | null;
  windows: [number, number][];
  units: string | null;
  bits: number | null;
  modality: string | null;
  mirror: number | null;
}

/** What was made of a prediction to lie over its image. */
export interface OverlayFacts {
  name: string;
  labels: string[];
  shape: number[];
  most: number;
}
