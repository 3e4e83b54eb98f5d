import { expect, it } from "vitest";
import type { CaseRow, Summary } from "../api/types";
import { emptiness, hasNews, listed, merged, NO_FILTERS, stateOf, urgencyOf } from "./worklist";

const answer = (change: Partial<Summary> = {}): Summary => ({
  model: "chest",
  state: "done",
  reason: "",
  bundle: "b",
  findings: [],
  score: 0,
  unlike: false,
  unsure: false,
  failed: 0,
  teaches: 0,
  ...change,
});

const row = (key: string, change: Partial<CaseRow> = {}): CaseRow => ({
  key,
  revision: 1,
  received: 0,
  changed: 0,
  complete: true,
  patient: { name: "Mustermann^Erika", id: "P1", birth: "", sex: "F" },
  pseudonym: "ABC",
  modality: "CT",
  body_part: "",
  description: "",
  date: "",
  answers: [answer()],
  hidden: false,
  mine: null,
  readers: 0,
  ...change,
});

const keys = (rows: readonly CaseRow[]): string => rows.map((each) => each.key).join("");

it("findings come first, the surest before others, then what is unclear, the longest waiting before others", () => {
  const rows = [
    row("a", { received: 3 }),
    row("b", { answers: [answer({ unlike: true })] }),
    row("c", { answers: [answer({ findings: ["opacity"], score: 0.6 })] }),
    row("d", { answers: [answer({ findings: ["opacity"], score: 0.9 })] }),
    row("e", { received: 1 }),
  ];
  expect(keys(listed(rows, NO_FILTERS))).toBe("dcbea");
  expect(rows.map(urgencyOf)).toEqual(["none", "unclear", "finding", "finding", "none"]);
});

it("what teaches most comes first where this is asked for", () => {
  const rows = [0.2, 0.9, 0.5].map((teaches, number) => row("abc"[number] ?? "", { answers: [answer({ teaches })] }));
  expect(keys(listed(rows, { ...NO_FILTERS, order: "teaching" }))).toBe("bca");
});

it("filters and words all have to fit", () => {
  const rows = [
    row("a", { modality: "MR" }),
    row("b", { answers: [answer({ findings: ["opacity"], unsure: true })] }),
    row("c", { patient: null }),
  ];
  expect(keys(listed(rows, { ...NO_FILTERS, search: "erika muster" }))).toBe("ba");
  expect(keys(listed(rows, { ...NO_FILTERS, modality: "MR" }))).toBe("a");
  expect(keys(listed(rows, { ...NO_FILTERS, finding: "opacity", warned: true }))).toBe("b");
  expect(keys(listed(rows, { ...NO_FILTERS, search: "p1", modality: "CT", order: "newest" }))).toBe("b");
});

it("the state is that which its reader waits for", () => {
  expect(stateOf(row("a", { complete: false }))).toBe("arriving");
  expect(stateOf(row("a", { answers: [answer(), answer({ state: "running" })] }))).toBe("predicting");
  expect(stateOf(row("a", { answers: [answer(), answer({ state: "refused" })] }))).toBe("ready");
  expect(stateOf(row("a", { answers: [answer({ state: "refused" })] }))).toBe("left");
  expect(stateOf(row("a", { answers: [answer({ state: "dead" })] }))).toBe("failed");
});

it("what a reader has finished is out of their way, and can be asked for", () => {
  const rows = [row("a", { mine: "final", readers: 1 }), row("b", { mine: "draft" }), row("c")];
  expect(keys(listed(rows, NO_FILTERS))).toBe("bc");
  expect(keys(listed(rows, { ...NO_FILTERS, read: "final" }))).toBe("a");
  expect(keys(listed(rows, { ...NO_FILTERS, read: "all" }))).toHaveLength(3);
});

it("nothing left to read is told apart from filters that fit nothing", () => {
  const finished = [row("a", { mine: "final" }), row("b", { mine: "final" })];
  expect(emptiness([], NO_FILTERS)).toBe("noCases");
  expect(emptiness(finished, NO_FILTERS)).toBe("allFinished");
  expect(emptiness([...finished, row("c")], { ...NO_FILTERS, search: "x" })).toBe("noMatch");
  expect(emptiness([row("c")], { ...NO_FILTERS, read: "final" })).toBe("noMatch");
});

it("news are cases that are new or differ", () => {
  const rows = [row("a"), row("b")];
  expect(hasNews(rows, [row("b")])).toBe(false);
  expect(hasNews(rows, [row("b", { mine: "final" })])).toBe(true);
  expect(hasNews(rows, [row("c")])).toBe(true);
});

it("what changed replaces what was listed", () => {
  const next = merged([row("a"), row("b")], [row("b", { modality: "MR" }), row("c")]);
  expect(next.map((each) => each.key + each.modality)).toEqual(["aCT", "bMR", "cCT"]);
});
