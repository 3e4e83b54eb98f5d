// How a reading is changed: by edits that can be turned round.
import type { Mark, Opinion, Reading, Region } from "../reading";

export type { Mark, Opinion, Reading, Region } from "../reading";

export const EMPTY: Reading = { opinions: {}, marks: [], regions: [], comment: "" };
export const NO_OPINION: Opinion = { verdict: "", labels: {}, grade: "" };

/** A change that can be turned round; `null` for what is not there. */
export type Edit =
  | { what: "mark"; id: string; before: Mark | null; after: Mark | null }
  | { what: "region"; id: string; before: Region | null; after: Region | null }
  | { what: "opinion"; id: string; before: Opinion | null; after: Opinion | null }
  | { what: "comment"; id: ""; before: string; after: string };

export const invert = (edit: Edit): Edit => ({ ...edit, before: edit.after, after: edit.before }) as Edit;

export const regionKey = (region: Omit<Region, "runs">): string =>
  [region.model, region.label, region.stack, region.frame].join("\n");

export function applied(reading: Reading, edit: Edit): Reading {
  switch (edit.what) {
    case "mark":
      return { ...reading, marks: replaced(reading.marks, (mark) => mark.id === edit.id, edit.after) };
    case "region":
      return { ...reading, regions: replaced(reading.regions, (each) => regionKey(each) === edit.id, edit.after) };
    case "opinion": {
      const { [edit.id]: _, ...others } = reading.opinions;
      return { ...reading, opinions: edit.after === null ? others : { ...others, [edit.id]: edit.after } };
    }
    case "comment":
      return { ...reading, comment: edit.after };
  }
}

/** A list in which the one that is meant was replaced, taken out, or put at the end where it was not there. */
function replaced<T>(list: readonly T[], isMeant: (item: T) => boolean, after: T | null): readonly T[] {
  const place = list.findIndex(isMeant);
  if (after === null) return list.filter((_, index) => index !== place);
  return place < 0 ? [...list, after] : list.map((item, index) => (index === place ? after : item));
}

/** Edits that were made, and those that were taken back; each step may have several edits. */
export interface History {
  done: readonly (readonly Edit[])[];
  undone: readonly (readonly Edit[])[];
}

export const NO_HISTORY: History = { done: [], undone: [] };
const LONGEST = 500;

export interface Edited {
  reading: Reading;
  history: History;
}

export function edited({ reading, history }: Edited, step: readonly Edit[]): Edited {
  return {
    reading: step.reduce(applied, reading),
    history: { done: [...history.done, step].slice(-LONGEST), undone: [] },
  };
}

export function undone({ reading, history }: Edited): Edited | null {
  const step = history.done.at(-1);
  if (step === undefined) return null;
  const back = step.map(invert).reverse();
  return {
    reading: back.reduce(applied, reading),
    history: { done: history.done.slice(0, -1), undone: [...history.undone, step] },
  };
}

export function redone({ reading, history }: Edited): Edited | null {
  const step = history.undone.at(-1);
  if (step === undefined) return null;
  return {
    reading: step.reduce(applied, reading),
    history: { done: [...history.done, step], undone: history.undone.slice(0, -1) },
  };
}
