import { describe, expect, it } from "vitest";
import { apply, distance, edgesOf, fitScale, inverse, type Placement, scaleBar, sidesOf, toScreen } from "./geometry";

const GRID = { rows: 100, columns: 200, spacing: [2, 1] };
const AXIAL = [
  [0, 0, 0.5, -100],
  [0, 0.5, 0, -100],
  [3, 0, 0, 40],
  [0, 0, 0, 1],
];
const place = (change: Partial<Placement> = {}): Placement => ({ zoom: 1, pan: [0, 0], turn: 0, mirrored: false, ...change });

describe("toScreen", () => {
  it("fits the whole image, with pixels that are twice as high as wide", () => {
    const matrix = toScreen(GRID, [400, 400], place());
    expect(apply(matrix, [0, 0])).toEqual([0, 0]);
    expect(apply(matrix, [200, 100])).toEqual([400, 400]);
  });

  it.each([0, 90, 180, 270])("keeps the middle in the middle, turned by %i°", (turn) => {
    for (const mirrored of [false, true]) {
      const matrix = toScreen(GRID, [300, 500], place({ turn, mirrored, zoom: 2.5 }));
      const [x, y] = apply(matrix, [100, 50]);
      expect([x, y].map((part) => Number(part.toFixed(9)))).toEqual([150, 250]);
    }
  });

  it("turns to the right: what was on top is on the right", () => {
    const [x, y] = apply(toScreen(GRID, [400, 400], place({ turn: 90 })), [100, 0]);
    expect(x).toBeGreaterThan(399);
    expect(y).toBeCloseTo(200);
  });

  it("is undone by its inverse", () => {
    const matrix = toScreen(GRID, [321, 123], place({ turn: 270, mirrored: true, zoom: 3, pan: [17, -4] }));
    const [x, y] = apply(inverse(matrix), apply(matrix, [12.25, 80.5]));
    expect(x).toBeCloseTo(12.25, 9);
    expect(y).toBeCloseTo(80.5, 9);
  });

  it("shows one pixel as one at the zoom that undoes the fit", () => {
    const square = { rows: 64, columns: 64, spacing: null };
    const matrix = toScreen(square, [512, 300], place({ zoom: 1 / fitScale(square, [512, 300], 0) }));
    expect(matrix[0]).toBeCloseTo(1, 12);
  });
});

describe("distance", () => {
  it("is in millimetres along both axes", () => {
    expect(distance(GRID, [0, 0], [3, 2])).toEqual({ value: 5, unit: "mm" });
  });

  it("is in pixels without a spacing", () => {
    expect(distance({ ...GRID, spacing: null }, [0, 0], [3, 4])).toEqual({ value: 5, unit: "px" });
  });
});

describe("the sides of the patient", () => {
  it("are those of DICOM's axes, the main one first", () => {
    expect(sidesOf([1, 0, 0])).toBe("L");
    expect(sidesOf([0, -1, 0])).toBe("A");
    expect(sidesOf([0, 0.5, 0.8])).toBe("HP");
    expect(sidesOf([0.1, 0, -1])).toBe("F");
  });

  it("stand at the edges of an axial slice, the patient's right on the left", () => {
    expect(edgesOf(AXIAL, null, 0, false)).toEqual({ left: "R", right: "L", top: "A", bottom: "P" });
  });

  it("follow turns and flips", () => {
    expect(edgesOf(AXIAL, null, 90, false)).toEqual({ top: "R", right: "A", bottom: "L", left: "P" });
    expect(edgesOf(AXIAL, null, 0, true)).toEqual({ left: "L", right: "R", top: "A", bottom: "P" });
  });

  it("come from the header of a radiograph, and are left out where nothing tells them", () => {
    expect(edgesOf(null, ["L", "F"], 0, false)).toEqual({ left: "R", right: "L", top: "H", bottom: "F" });
    expect(edgesOf(null, null, 0, false)).toBeNull();
  });

  it.each([0, 90, 180, 270])("agree with where points of the patient come to lie, turned by %i°", (turn) => {
    for (const mirrored of [false, true]) {
      const matrix = toScreen({ rows: 10, columns: 10, spacing: null }, [100, 100], place({ turn, mirrored }));
      const origin = apply(matrix, [5, 5]);
      const towardsLeft = apply(matrix, [6, 5]);
      const [x, y] = [Math.sign(Math.round(towardsLeft[0] - origin[0])), Math.sign(Math.round(towardsLeft[1] - origin[1]))];
      const edge = x > 0 ? "right" : x < 0 ? "left" : y > 0 ? "bottom" : "top";
      expect(edgesOf(AXIAL, null, turn, mirrored)?.[edge]).toBe("L");
    }
  });
});

it("the scale is a round length that fits", () => {
  const matrix = toScreen(GRID, [400, 400], place());
  expect(scaleBar(GRID, matrix, 120)).toEqual({ millimetres: 50, pixels: 100 });
  expect(scaleBar({ ...GRID, spacing: null }, matrix, 120)).toBeNull();
});
