import type { Frame } from "../api/frames";

/** Center and width, as DICOM has them (PS3.3, C.11.2.1.2.1). */
export type Window = readonly [number, number];

/** In Hounsfield units. */
export const PRESETS: readonly { name: "softTissue" | "lung" | "bone" | "brain" | "mediastinum"; window: Window }[] = [
  { name: "softTissue", window: [40, 400] },
  { name: "lung", window: [-600, 1500] },
  { name: "bone", window: [400, 1800] },
  { name: "brain", window: [40, 80] },
  { name: "mediastinum", window: [50, 350] },
];

const SAMPLES = 20_000;
const [LOW, HIGH] = [0.005, 0.995];

/** The window of a range of values: its ends become black and white. */
export const windowOf = (low: number, high: number): Window => {
  const width = high - low + 1;
  return [low + width / 2, Math.max(width, 1)];
};

/** The window in which an image is shown first: its own, or one that suits its values. */
export function firstWindow(frame: Frame): Window {
  const own = frame.windows[0];
  if (own !== undefined) return own;
  if (frame.units === "HU") return PRESETS[0]?.window ?? [40, 400];
  if (frame.channels > 1 || frame.type === "u1") return windowOf(0, frame.type === "u2" ? 65_535 : 255);
  return spread(frame);
}

/** The window of all values but the outermost. */
export function spread(frame: Frame): Window {
  const step = Math.max(1, Math.floor(frame.values.length / SAMPLES));
  const sample: number[] = [];
  for (let index = 0; index < frame.values.length; index += step) {
    const value = frame.values[index] as number;
    if (Number.isFinite(value)) sample.push(value);
  }
  sample.sort((one, other) => one - other);
  const at = (part: number): number => sample[Math.floor(part * (sample.length - 1))] ?? 0;
  const [low, high] = [at(LOW), at(HIGH)];
  // Values such as those of a probability map lie closer together than 1.
  return high - low >= 1 ? windowOf(low, high) : [(low + high) / 2 + 0.5, Math.max(high - low, 1e-6) + 1];
}

/** Grey values, 0 to 255, of values in a window, by DICOM's linear function. */
export function windowed(frame: Frame, [center, width]: Window, inverted: boolean, into: Uint8ClampedArray): void {
  const { values, channels } = frame;
  const scale = width > 1 ? 255 / (width - 1) : Infinity;
  const offset = center - 0.5;
  const grey = (value: number): number => {
    if (width <= 1) return value > offset ? 255 : 0;
    const found = (value - offset) * scale + 127.5;
    return found <= 0 ? 0 : found >= 255 ? 255 : Math.round(found);
  };
  const table = tableOf(frame, grey);
  const pixels = frame.rows * frame.columns;
  const flip = inverted ? 255 : 0;
  const isColour = channels >= 3;
  for (let pixel = 0, from = 0, to = 0; pixel < pixels; pixel += 1, from += channels, to += 4) {
    for (let part = 0; part < 3; part += 1) {
      const value = values[from + (isColour ? part : 0)] as number;
      const found = table === null ? grey(value) : (table[value + table.length / 2] as number);
      into[to + part] = flip === 0 ? found : 255 - found;
      if (!isColour) {
        into[to + 1] = into[to + 2] = into[to] as number;
        break;
      }
    }
    into[to + 3] = 255;
  }
}

/** Grey values of all that 16 bits can hold, from the middle; other types are computed one by one. */
function tableOf(frame: Frame, grey: (value: number) => number): Uint8Array | null {
  if (!["u1", "i1", "u2", "i2"].includes(frame.type)) return null;
  const half = frame.type === "u2" ? 65_536 : 32_768;
  const table = new Uint8Array(2 * half);
  const first = frame.type.startsWith("i") ? -half : 0;
  for (let value = first; value < half; value += 1) table[value + half] = grey(value);
  return table;
}
