// Draws a frame in its window onto a canvas; the same with and without a graphics processor.
import type { Frame } from "../api/frames";
import type { Matrix } from "../state/geometry";
import { type Window, windowed } from "../state/windows";

/** A picture over the frame, such as a mask or a heat map, of the frame's size. */
export interface Layer {
  picture: OffscreenCanvas;
  opacity: number;
  smooth: boolean;
}

// From this magnification on pixels are shown as what they are.
const PIXELS_SEEN = 8;

export class Picture {
  private readonly windowed = new OffscreenCanvas(1, 1);
  private shown: { frame: Frame; window: Window; inverted: boolean } | null = null;

  /** Draw onto a canvas whose size is that of the screen in its own pixels. */
  draw(
    canvas: HTMLCanvasElement,
    frame: Frame,
    view: { window: Window; inverted: boolean; matrix: Matrix; ratio: number },
    layers: readonly Layer[] = [],
  ): void {
    const context = canvas.getContext("2d");
    if (context === null) return;
    this.update(frame, view.window, view.inverted);
    const [a, b, c, d, e, f] = view.matrix.map((part) => part * view.ratio) as [number, number, number, number, number, number];
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const scale = Math.hypot(a, b);
    // Without a change of size every pixel of the image is one of the screen.
    const isExact = Math.abs(scale - 1) < 1e-6;
    context.setTransform(a, b, c, d, isExact ? Math.round(e) : e, isExact ? Math.round(f) : f);
    context.imageSmoothingEnabled = !isExact && scale < PIXELS_SEEN;
    // Without a graphics processor the best interpolation takes most of the time of a frame, and shows no more detail.
    context.imageSmoothingQuality = scale < 1 ? "high" : "low";
    context.drawImage(this.windowed, 0, 0);
    for (const layer of layers) {
      context.globalAlpha = layer.opacity;
      context.imageSmoothingEnabled = layer.smooth;
      context.drawImage(layer.picture, 0, 0, frame.columns, frame.rows);
    }
    context.globalAlpha = 1;
  }

  private update(frame: Frame, window: Window, inverted: boolean): void {
    const { shown } = this;
    if (shown !== null && shown.frame === frame && shown.inverted === inverted && same(shown.window, window)) return;
    resize(this.windowed, frame.columns, frame.rows);
    const context = this.windowed.getContext("2d");
    if (context === null) return;
    const image = new ImageData(frame.columns, frame.rows);
    windowed(frame, window, inverted, image.data);
    context.putImageData(image, 0, 0);
    this.shown = { frame, window, inverted };
  }
}

/** Give a canvas a size; one that has it keeps its memory. */
export function resize(canvas: HTMLCanvasElement | OffscreenCanvas, width: number, height: number): void {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}

const same = (one: Window, other: Window): boolean => one[0] === other[0] && one[1] === other[1];
