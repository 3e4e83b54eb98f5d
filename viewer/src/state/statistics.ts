import { type Frame, valueAt } from "../api/frames";
import { distance } from "./geometry";
import type { Mark } from "./reading";

export interface Statistics {
  mean: number;
  deviation: number;
  least: number;
  most: number;
  pixels: number;
  area: number;
  unit: "mm²" | "px";
}

/** Of the pixels whose centres lie in a rectangle; `null` where there are none, or of colours. */
export function statisticsOf(frame: Frame, mark: Mark): Statistics | null {
  if (frame.channels !== 1) return null;
  const values: number[] = [];
  const [low, high] = ([0, 1] as const).map((axis) => [mark.from[axis], mark.to[axis]].sort((a, b) => a - b)) as [
    [number, number],
    [number, number],
  ];
  for (let row = Math.ceil(high[0] - 0.5); row + 0.5 < high[1] && row < frame.rows; row += 1)
    for (let column = Math.ceil(low[0] - 0.5); column + 0.5 < low[1] && column < frame.columns; column += 1)
      values.push(valueAt(frame, row, column)[0] as number);
  if (values.length === 0) return null;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  const wide = distance(frame, mark.from, [mark.to[0], mark.from[1]]);
  const tall = distance(frame, mark.from, [mark.from[0], mark.to[1]]);
  return {
    mean,
    deviation: Math.sqrt(variance),
    least: values.reduce((one, other) => Math.min(one, other)),
    most: values.reduce((one, other) => Math.max(one, other)),
    pixels: values.length,
    area: wide.value * tall.value,
    unit: wide.unit === "mm" ? "mm²" : "px",
  };
}
