import { expect, it } from "vitest";
import { linkedFrame, type Placed } from "./linking";

const axial = (number: number, depth: number): Placed => ({
  number,
  affine: [
    [0, 0, 1, 5],
    [0, 1, 0, 7],
    [1, 0, 0, depth],
    [0, 0, 0, 1],
  ],
});
const sagittal = (number: number): Placed => ({
  number,
  affine: [
    [1, 0, 0, number],
    [0, 0, 1, 0],
    [0, -1, 0, 0],
    [0, 0, 0, 1],
  ],
});

it("the nearest slice in the patient is linked, whatever the distances of slices", () => {
  const prior = [0, 1, 2, 3].map((number) => axial(number, 10 + 5 * number));
  expect(linkedFrame(axial(7, 16), 40, prior, 4)).toBe(1);
  expect(linkedFrame(axial(0, 99), 40, prior, 4)).toBe(3);
});

it("stacks of other planes, or without places, are linked by their part", () => {
  expect(linkedFrame(axial(10, 16), 21, [0, 1, 2].map(sagittal), 3)).toBe(1);
  expect(linkedFrame({ number: 20, affine: null }, 21, [], 11)).toBe(10);
  expect(linkedFrame({ number: 0, affine: null }, 1, [], 11)).toBe(0);
});
