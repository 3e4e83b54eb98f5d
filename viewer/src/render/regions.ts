// Masks as coloured pictures over an image.
import type { Frame } from "../api/frames";
import { type Region, regionKey } from "../state/reading";
import type { Screen } from "../state/screen";
import type { Layer } from "./picture";

// Told apart by who sees few colours, too (Okabe and Ito).
const COLOURS: readonly (readonly [number, number, number])[] = [
  [86, 180, 233],
  [230, 159, 0],
  [0, 158, 115],
  [204, 121, 167],
  [240, 228, 66],
  [213, 94, 0],
];
const OPACITY = 0.45;

/** The colour of a label by its place among those of the model. */
export const colourOf = (label: number): readonly [number, number, number] => COLOURS[label % COLOURS.length] ?? [255, 255, 255];

interface Labelled {
  name: string;
  labels: readonly string[];
}

/** The reader's masks in the frame that is shown, in the colours that the model's have, and the stroke that is drawn. */
export function regionLayers(screen: Screen, frame: Frame, models: readonly Labelled[]): Layer[] {
  const { stroke, view } = screen;
  const regions = screen.reading.regions.filter((region) => stroke === null || regionKey(region) !== regionKey(stroke));
  return [...regions, ...(stroke === null ? [] : [stroke])]
    .filter((region) => region.stack === view.stack && region.frame === view.frame)
    .map((region) => {
      const number = Math.max(0, models.find(({ name }) => name === region.model)?.labels.indexOf(region.label) ?? 0);
      return { picture: pictureOf(region, frame, number), opacity: OPACITY, smooth: false };
    });
}

function pictureOf(region: Region, frame: Frame, number: number): OffscreenCanvas {
  const picture = new OffscreenCanvas(frame.columns, frame.rows);
  const context = picture.getContext("2d");
  if (context === null) return picture;
  const image = new ImageData(frame.columns, frame.rows);
  const colour = colourOf(number);
  let [at, isInside] = [0, false];
  for (const run of region.runs) {
    if (isInside) for (let pixel = at; pixel < at + run; pixel += 1) image.data.set([...colour, 255], 4 * pixel);
    at += run;
    isInside = !isInside;
  }
  context.putImageData(image, 0, 0);
  return picture;
}
