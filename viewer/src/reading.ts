// What a reader says of a case, as the service keeps it.

/** (column, row) in pixels of an image, or a place on the screen. */
export type Point = readonly [number, number];

/** A length, a rectangle that is measured, or a box around a finding; in pixels of its frame. */
export interface Mark {
  id: string;
  kind: "length" | "region" | "box";
  stack: number;
  frame: number;
  from: Point;
  to: Point;
  /** Of a box: what was found, and by which model; "" for one that the reader drew. */
  label: string;
  model: string;
  /** Of a box in a volume: its first slice, and the one behind its last. */
  slices?: readonly [number, number];
}

/** What a reader says of one model's answer. */
export interface Opinion {
  verdict: "accepted" | "rejected" | "corrected" | "";
  /** Label → whether it is there. */
  labels: Readonly<Record<string, boolean>>;
  /** Of grades or values. */
  grade: string;
}

/** The pixels of one label in one frame, as lengths of runs in rows: first of pixels outside, then inside, and so on. */
export interface Region {
  stack: number;
  frame: number;
  label: string;
  model: string;
  runs: readonly number[];
}

export interface Reading {
  opinions: Readonly<Record<string, Opinion>>;
  marks: readonly Mark[];
  regions: readonly Region[];
  comment: string;
}
