import type { CaseRow } from "../api/types";

export interface Filters {
  search: string;
  modality: string;
  state: CaseState | "";
  finding: string;
  warned: boolean;
  /** What this reader has not finished, or has, or both. */
  read: "open" | "final" | "all";
  order: "urgency" | "teaching" | "newest" | "oldest";
}

export const NO_FILTERS: Filters = { search: "", modality: "", state: "", finding: "", warned: false, read: "open", order: "urgency" };

export type CaseState = "arriving" | "predicting" | "ready" | "left" | "failed";

/** Where a case stands: what most holds up its reader comes first. */
export function stateOf(row: CaseRow): CaseState {
  if (!row.complete) return "arriving";
  const states = new Set(row.answers.map((answer) => answer.state));
  if (states.has("waiting") || states.has("running")) return "predicting";
  if (states.has("done")) return "ready";
  return states.has("dead") ? "failed" : "left";
}

export type Urgency = "finding" | "unclear" | "none";

/** A finding comes first; then what the model is not sure of, or does not know; then the rest. */
export function urgencyOf(row: CaseRow): Urgency {
  if (row.answers.some((answer) => answer.findings.length > 0)) return "finding";
  return row.answers.some(isWarned) ? "unclear" : "none";
}

const isWarned = (answer: CaseRow["answers"][number]): boolean => answer.unlike || answer.unsure || answer.failed > 0;

const RANK: Readonly<Record<Urgency, number>> = { finding: 2, unclear: 1, none: 0 };

const scoreOf = (row: CaseRow): number => Math.max(0, ...row.answers.map((answer) => answer.score));

const teachingOf = (row: CaseRow): number => Math.max(0, ...row.answers.map((answer) => answer.teaches));

/** What a list is ordered by, the greatest first; where it is equal, by the next number. */
const ORDERS: Readonly<Record<Filters["order"], (row: CaseRow) => readonly number[]>> = {
  urgency: (row) => [RANK[urgencyOf(row)], scoreOf(row), -row.received],
  teaching: (row) => [teachingOf(row), -row.received],
  newest: (row) => [row.received],
  oldest: (row) => [-row.received],
};

function descending(one: readonly number[], other: readonly number[]): number {
  const place = one.findIndex((value, index) => value !== other[index]);
  return place < 0 ? 0 : (other[place] as number) - (one[place] as number);
}

/** Everything of a case that a person may look for, in small letters. */
function textOf(row: CaseRow): string {
  const { patient } = row;
  return [row.pseudonym, row.modality, row.body_part, row.description, row.date, patient?.name, patient?.id]
    .concat(row.answers.flatMap((answer) => [answer.model, ...answer.findings]))
    .join(" ")
    .replaceAll("^", " ")
    .toLowerCase();
}

export function listed(rows: readonly CaseRow[], filters: Filters): CaseRow[] {
  const words = filters.search.toLowerCase().split(/\s+/).filter(Boolean);
  return rows
    .filter(
      (row) =>
        (filters.modality === "" || row.modality === filters.modality) &&
        (filters.state === "" || stateOf(row) === filters.state) &&
        (filters.finding === "" || row.answers.some((answer) => answer.findings.includes(filters.finding))) &&
        (filters.read === "all" || (row.mine === "final") === (filters.read === "final")) &&
        (!filters.warned || row.answers.some(isWarned)) &&
        (words.length === 0 || words.every((word) => textOf(row).includes(word))),
    )
    .map((row) => ({ row, by: ORDERS[filters.order](row) }))
    .sort((one, other) => descending(one.by, other.by))
    .map(({ row }) => row);
}

/** Why nothing is listed: nothing came yet, this reader has finished everything, or the filters leave nothing over. */
export function emptiness(rows: readonly CaseRow[], filters: Filters): "noCases" | "allFinished" | "noMatch" {
  if (rows.length === 0) return "noCases";
  return filters.read === "open" && rows.every((row) => row.mine === "final") ? "allFinished" : "noMatch";
}

/** Whether any of the cases differs from what is listed. */
export function hasNews(rows: readonly CaseRow[], cases: readonly CaseRow[]): boolean {
  const byKey = new Map(rows.map((row) => [row.key, row]));
  return cases.some((row) => JSON.stringify(byKey.get(row.key)) !== JSON.stringify(row));
}

/** What occurs in a column, for the choices of a filter. */
export const choices = (rows: readonly CaseRow[], of: (row: CaseRow) => readonly string[]): string[] =>
  [...new Set(rows.flatMap(of))].filter(Boolean).sort();

/** A list with the cases that changed since. */
export function merged(rows: readonly CaseRow[], changed: readonly CaseRow[]): CaseRow[] {
  const byKey = new Map(rows.map((row) => [row.key, row]));
  for (const row of changed) byKey.set(row.key, row);
  return [...byKey.values()];
}
