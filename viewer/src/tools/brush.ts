// A round brush over the pixels of a label.
import type { Point } from "../state/geometry";
import { type Region, regionKey } from "../state/reading";
import type { Screen } from "../state/screen";
import type { Field } from "./drag";
import { decode, encode } from "./runs";

/** The region of a label in a frame as it was saved last; `null` where it has none. */
export const regionAt = (screen: Screen, like: Omit<Region, "runs">): Region | null =>
  screen.reading.regions.find((region) => regionKey(region) === regionKey(like)) ?? null;

/** The region below the brush with the pixels of a stroke added or taken away. */
export function erasedOrPainted(screen: Screen, from: Point, to: Point, field: Field, painted: boolean): Region {
  const { stack, frame } = screen.view;
  const like = { stack, frame, label: screen.label, model: screen.model };
  const region = screen.stroke ?? regionAt(screen, like) ?? { ...like, runs: [] };
  const mask = decode(region.runs, field.rows * field.columns);
  const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1])));
  for (let step = 0; step <= steps; step += 1) {
    const part = step / steps;
    stamp(mask, [from[0] + part * (to[0] - from[0]), from[1] + part * (to[1] - from[1])], screen.brush / 2, field, painted);
  }
  return { ...region, runs: encode(mask) };
}

function stamp(mask: Uint8Array, [x, y]: Point, radius: number, field: Field, painted: boolean): void {
  const rows = range(y, radius, field.rows);
  const columns = range(x, radius, field.columns);
  for (let row = rows[0]; row < rows[1]; row += 1)
    for (let column = columns[0]; column < columns[1]; column += 1) {
      const isInside = Math.hypot(column + 0.5 - x, row + 0.5 - y) <= Math.max(radius, 0.71);
      if (isInside) mask[row * field.columns + column] = painted ? 1 : 0;
    }
}

const range = (middle: number, radius: number, most: number): [number, number] => [
  Math.max(0, Math.floor(middle - radius - 1)),
  Math.min(most, Math.ceil(middle + radius + 1)),
];
