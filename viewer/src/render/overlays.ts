// What a model lays over an image: evidence for a label, or masks.
import { colourOf } from "./regions";

const FOR: readonly [number, number, number] = [255, 120, 0];
const AGAINST: readonly [number, number, number] = [60, 140, 255];

/** Evidence: what speaks for the label is orange, what speaks against it blue, each the stronger the more it says. */
export function evidencePicture(values: Float32Array, rows: number, columns: number, most: number): OffscreenCanvas {
  return picture(rows, columns, (data) => {
    values.forEach((value, index) => {
      const strength = most > 0 ? Math.abs(value) / most : 0;
      data.set([...(value > 0 ? FOR : AGAINST), Math.round(255 * Math.min(strength, 1))], 4 * index);
    });
  });
}

/** The mask of one label. */
export function maskPicture(values: Uint8Array, rows: number, columns: number, label: number): OffscreenCanvas {
  const colour = colourOf(label);
  return picture(rows, columns, (data) => {
    values.forEach((value, index) => {
      if (value !== 0) data.set([...colour, 255], 4 * index);
    });
  });
}

function picture(rows: number, columns: number, fill: (data: Uint8ClampedArray) => void): OffscreenCanvas {
  const canvas = new OffscreenCanvas(columns, rows);
  const image = new ImageData(columns, rows);
  fill(image.data);
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  return canvas;
}
