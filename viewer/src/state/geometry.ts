// From the pixels of an image to the screen and to the patient. Pixel i covers [i, i + 1) along its axis.

import type { Point } from "../reading";

export type { Point } from "../reading";

/** [a, b, c, d, e, f] as of a canvas: x = a·column + c·row + e, y = b·column + d·row + f. */
export type Matrix = readonly [number, number, number, number, number, number];

export interface Placement {
  zoom: number;
  pan: Point;
  turn: number;
  mirrored: boolean;
}

export interface Grid {
  rows: number;
  columns: number;
  spacing: number[] | null;
}

/** How wide and high a pixel is beside the smaller of the two: pixels that are not square are shown as they lie. */
function aspect(grid: Grid): Point {
  const [high, wide] = grid.spacing?.slice(-2) ?? [1, 1];
  if (high === undefined || wide === undefined || !(high > 0) || !(wide > 0)) return [1, 1];
  const least = Math.min(high, wide);
  return [wide / least, high / least];
}

/** Screen pixels of an image pixel at zoom 1, where the whole image just fits. */
export function fitScale(grid: Grid, size: Point, turn: number): number {
  const [wide, high] = aspect(grid);
  const extent: Point = [grid.columns * wide, grid.rows * high];
  const [across, down] = turn % 180 === 0 ? extent : [extent[1], extent[0]];
  return Math.min(size[0] / across, size[1] / down);
}

/** From (column, row) to the screen. */
export function toScreen(grid: Grid, size: Point, place: Placement): Matrix {
  const [wide, high] = aspect(grid);
  const scale = fitScale(grid, size, place.turn) * place.zoom;
  const [cosine, sine] = [[1, 0], [0, 1], [-1, 0], [0, -1]][(((place.turn / 90) % 4) + 4) % 4] as [number, number];
  const sign = place.mirrored ? -1 : 1;
  const a = sign * cosine * scale * wide;
  const b = sign * sine * scale * wide;
  const c = -sine * scale * high;
  const d = cosine * scale * high;
  const [column, row] = [grid.columns / 2, grid.rows / 2];
  return [
    a,
    b,
    c,
    d,
    size[0] / 2 + place.pan[0] - a * column - c * row,
    size[1] / 2 + place.pan[1] - b * column - d * row,
  ];
}

export function apply(matrix: Matrix, [x, y]: Point): Point {
  return [matrix[0] * x + matrix[2] * y + matrix[4], matrix[1] * x + matrix[3] * y + matrix[5]];
}

export function inverse([a, b, c, d, e, f]: Matrix): Matrix {
  const area = a * d - b * c;
  return [d / area, -b / area, -c / area, a / area, (c * f - d * e) / area, (b * e - a * f) / area];
}

export interface Length {
  value: number;
  unit: "mm" | "px";
}

/** The distance between two points of an image, in millimetres where its spacing is known. */
export function distance(grid: Grid, from: Point, to: Point): Length {
  const [high, wide] = grid.spacing?.slice(-2) ?? [1, 1];
  const across = (to[0] - from[0]) * (wide ?? 1);
  const down = (to[1] - from[1]) * (high ?? 1);
  return { value: Math.hypot(across, down), unit: grid.spacing === null ? "px" : "mm" };
}

const SIDES: readonly (readonly [string, string])[] = [
  ["R", "L"],
  ["A", "P"],
  ["F", "H"],
];
const OPPOSITE: Readonly<Record<string, string>> = { R: "L", L: "R", A: "P", P: "A", F: "H", H: "F" };
// A direction is named by the axes that make up this much of it.
const LEAST_PART = 0.26;

/** The sides of the patient that a direction in millimetres (x to the left, y to the back, z to the head) points to. */
export function sidesOf(direction: readonly number[]): string {
  const length = Math.hypot(...direction);
  if (!(length > 0)) return "";
  return direction
    .map((part, axis) => ({ part: Math.abs(part) / length, side: SIDES[axis]?.[part > 0 ? 1 : 0] ?? "" }))
    .filter(({ part }) => part > LEAST_PART)
    .sort((one, other) => other.part - one.part)
    .map(({ side }) => side)
    .join("");
}

export const opposite = (sides: string): string => [...sides].map((side) => OPPOSITE[side] ?? "").join("");

/** What stands at the edges of the screen. */
export interface Edges {
  top: string;
  right: string;
  bottom: string;
  left: string;
}

/**
 * The sides of the patient at the edges of the screen; `null` where the image does not tell.
 *
 * `affine` takes (slice, row, column, 1) to millimetres; `sides` are those to which rows and columns run.
 */
export function edgesOf(
  affine: number[][] | null,
  sides: readonly [string, string] | null,
  turn: number,
  mirrored: boolean,
): Edges | null {
  const along = (axis: number): string => sidesOf((affine ?? []).slice(0, 3).map((line) => line[axis] ?? 0));
  const [across, down] = affine === null ? (sides ?? ["", ""]) : [along(2), along(1)];
  if (across === "" && down === "") return null;
  const right = mirrored ? opposite(across) : across;
  // Clockwise from the right; a turn to the right by 90° moves each on.
  const around = [right, down, opposite(right), opposite(down)];
  const at = (edge: number): string => around[(edge - turn / 90 + 8) % 4] ?? "";
  return { right: at(0), bottom: at(1), left: at(2), top: at(3) };
}

/** A round length in millimetres that takes at most so many pixels of the screen, and the pixels that it takes. */
export function scaleBar(grid: Grid, matrix: Matrix, longest: number): { millimetres: number; pixels: number } | null {
  const wide = grid.spacing?.at(-1);
  if (wide === undefined) return null;
  const pixelsOfOne = Math.hypot(matrix[0], matrix[1]) / wide;
  const most = longest / pixelsOfOne;
  const power = 10 ** Math.floor(Math.log10(most));
  const millimetres = [5, 2, 1].map((digit) => digit * power).find((length) => length <= most) ?? power;
  return { millimetres, pixels: millimetres * pixelsOfOne };
}
