import { expect, it } from "vitest";
import { begun, cancelled, dragged, ended, type Pointer } from "../tools/drag";
import { decode, encode } from "../tools/runs";
import { edited, type Mark, redone, undone } from "./reading";
import { atFrame, firstScreen, type Screen, type ToolName } from "./screen";

const FIELD = { rows: 50, columns: 60 };
const at = (x: number, y: number): Pointer => ({ screen: [x, y], image: [x, y] });

const drawn = (screen: Screen, tool: ToolName, from: Pointer, to: Pointer, id: string): Screen => {
  const [drag, shown] = begun(screen, tool, from, null, id);
  const [next, more] = dragged(drag, shown, to, FIELD);
  return ended(next, more);
};

it("a drag is one step, which can be taken back and done again", () => {
  const screen = drawn(firstScreen(1), "region", at(30, 40), at(10, 20), "a");
  expect(screen.reading.marks).toMatchObject([{ kind: "region", from: [10, 20], to: [30, 40] }]);
  const back = undone(screen);
  expect(back?.reading.marks).toEqual([]);
  expect(back !== null && redone(back)?.reading).toEqual(screen.reading);
});

it("a drag that is cancelled, or has no extent, leaves nothing", () => {
  const screen = firstScreen(1);
  const [drag, shown] = begun(screen, "length", at(5, 5), null, "a");
  const [next] = dragged(drag, shown, at(20, 20), FIELD);
  expect(cancelled(next).reading).toEqual(screen.reading);
  expect(drawn(screen, "length", at(5, 5), at(5, 5), "b").history.done).toEqual([]);
});

it("marks stay within the image, whole", () => {
  const screen = drawn(firstScreen(1), "box", at(10, 10), at(20, 20), "a");
  const [mark] = screen.reading.marks as [Mark];
  const [drag, shown] = begun(screen, "window", at(15, 10), { mark, grip: "whole" }, "");
  const [next, more] = dragged(drag, shown, at(500, -500), FIELD);
  expect(ended(next, more).reading.marks).toMatchObject([{ from: [50, 0], to: [60, 10] }]);
});

it("views are changed by drags and keep no history", () => {
  const screen: Screen = { ...firstScreen(1), count: 10 };
  const [drag, shown] = begun(screen, "scroll", at(0, 0), null, "");
  const [next, more] = dragged(drag, shown, at(0, 40), FIELD);
  expect(ended(next, more)).toMatchObject({ view: { frame: 5 }, history: { done: [] } });
  expect(atFrame(screen, 99).view.frame).toBe(9);
});

it("any order of edits, taken back one by one, ends where it began", () => {
  let now: Screen = firstScreen(1);
  const first = now.reading;
  now = drawn(now, "box", at(1, 1), at(9, 9), "a");
  now = drawn(now, "length", at(2, 2), at(30, 9), "b");
  now = { ...now, ...edited(now, [{ what: "comment", id: "", before: "", after: "seen" }]) };
  for (let step = undone(now); step !== null; step = undone(now)) now = { ...now, ...step };
  expect(now.reading).toEqual(first);
});

it("runs hold a mask exactly", () => {
  for (const mask of [[0, 0, 0], [1, 1], [1, 0, 0, 1, 1, 0], [0, 1]]) {
    const bytes = Uint8Array.from(mask);
    expect(decode(encode(bytes), bytes.length)).toEqual(bytes);
  }
});
