// Everything that one pane of the viewer shows, as plain values.
import type { Placement, Point } from "./geometry";
import type { Edited, Mark, Region } from "./reading";
import { EMPTY, NO_HISTORY } from "./reading";
import type { Window } from "./windows";

export type ToolName = "window" | "scroll" | "zoom" | "pan" | "length" | "region" | "box" | "brush" | "eraser";

export interface View extends Placement {
  stack: number;
  frame: number;
  /** `null` until the first frame tells which suits it. */
  window: Window | null;
  inverted: boolean;
  /** Frames a second; 0 while it stands. */
  cine: number;
}

export interface Screen extends Edited {
  view: View;
  tool: ToolName;
  /** Slices or frames of the stack. */
  count: number;
  stacks: number;
  selected: string | null;
  /** What a drag would make, before it ends. */
  draft: Mark | null;
  stroke: Region | null;
  /** What boxes and strokes are called. */
  label: string;
  model: string;
  brush: number;
}

export const PLACE: Placement = { zoom: 1, pan: [0, 0], turn: 0, mirrored: false };
export const CINE_RATE = 12;
const [LEAST_ZOOM, MOST_ZOOM] = [0.1, 40];

export function firstScreen(stacks: number, drawn = { model: "", label: "" }): Screen {
  return {
    view: { ...PLACE, stack: 0, frame: 0, window: null, inverted: false, cine: 0 },
    tool: "window",
    count: 1,
    stacks,
    selected: null,
    draft: null,
    stroke: null,
    ...drawn,
    brush: 8,
    reading: EMPTY,
    history: NO_HISTORY,
  };
}

const clamp = (value: number, low: number, high: number): number => Math.min(Math.max(value, low), high);

export const withView = (screen: Screen, change: Partial<View>): Screen => ({
  ...screen,
  view: { ...screen.view, ...change },
});

export const atFrame = (screen: Screen, frame: number): Screen =>
  withView(screen, { frame: clamp(Math.round(frame), 0, screen.count - 1) });

/** Another stack, from its middle where it is a volume, in the window that suits it. */
export const atStack = (screen: Screen, stack: number): Screen => ({
  ...withView(screen, { ...PLACE, stack, frame: 0, window: null, inverted: false, cine: 0 }),
  count: 1,
  selected: null,
  draft: null,
});

/** Zoomed so that a point of the screen, measured from its middle, stays where it is. */
export function zoomed(view: View, factor: number, around: Point = [0, 0]): Partial<View> {
  const zoom = clamp(view.zoom * factor, LEAST_ZOOM, MOST_ZOOM);
  const real = zoom / view.zoom;
  const pan = view.pan.map((part, axis) => (around[axis] ?? 0) + (part - (around[axis] ?? 0)) * real);
  return { zoom, pan: [pan[0] ?? 0, pan[1] ?? 0] };
}

export const moved = (view: View, by: Point): Partial<View> => ({ pan: [view.pan[0] + by[0], view.pan[1] + by[1]] });

/** A window changed by parts of its width: brighter by a lower center, more contrast by a smaller width. */
export function rewindowed(window: Window, wider: number, higher: number): Window {
  const width = Math.max(window[1] * Math.exp(wider), 1);
  return [window[0] + higher * Math.max(window[1], 1), width];
}

/** Whether a mark of a stack is to be seen in one of its frames. */
export const isInFrame = (mark: Mark, frame: number): boolean =>
  mark.slices === undefined ? mark.frame === frame : frame >= mark.slices[0] && frame < mark.slices[1];
