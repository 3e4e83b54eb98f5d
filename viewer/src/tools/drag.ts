// What a tool does between the press of a button and its release; nothing here touches the page.
import type { Point } from "../state/geometry";
import type { Edit, Mark } from "../state/reading";
import { edited, regionKey } from "../state/reading";
import { atFrame, moved, rewindowed, type Screen, type ToolName, withView, zoomed } from "../state/screen";
import { erasedOrPainted, regionAt } from "./brush";

/** A point on the screen from its middle, and the point of the image below it. */
export interface Pointer {
  screen: Point;
  image: Point;
}

export interface Field {
  rows: number;
  columns: number;
}

/** A drag that goes on; `before` is the screen to which its end is compared, and its cancelling returns. */
export interface Drag {
  tool: ToolName | "move";
  before: Screen;
  start: Pointer;
  last: Pointer;
  /** Of a mark that is moved: which of its ends, or all of it. */
  grip: "from" | "to" | "whole";
}

export interface Hit {
  mark: Mark;
  grip: Drag["grip"];
}

const FRAMES_PER_PIXEL = 1 / 8;
const ZOOM_PER_PIXEL = 1 / 150;
const WINDOW_PER_PIXEL = 1 / 250;

/** A press: what it begins, and how the screen looks with it. */
export function begun(screen: Screen, tool: ToolName, pointer: Pointer, hit: Hit | null, id: string): [Drag, Screen] {
  const before = { ...screen, selected: hit?.mark.id ?? null };
  const drag = { before, start: pointer, last: pointer, grip: hit?.grip ?? "whole" };
  if (hit !== null) return [{ ...drag, tool: "move" }, { ...before, draft: hit.mark }];
  if (tool !== "length" && tool !== "region" && tool !== "box") return [{ ...drag, tool }, before];
  const { stack, frame } = screen.view;
  const mark: Mark = {
    id,
    kind: tool,
    stack,
    frame,
    from: pointer.image,
    to: pointer.image,
    label: tool === "box" ? screen.label : "",
    model: tool === "box" ? screen.model : "",
  };
  return [{ ...drag, tool }, { ...before, draft: mark, selected: id }];
}

/** A move. */
export function dragged(drag: Drag, screen: Screen, to: Pointer, field: Field): [Drag, Screen] {
  return [{ ...drag, last: to }, shown(drag, screen, to, field)];
}

function shown(drag: Drag, screen: Screen, to: Pointer, field: Field): Screen {
  const { view } = drag.before;
  const by: Point = [to.screen[0] - drag.start.screen[0], to.screen[1] - drag.start.screen[1]];
  switch (drag.tool) {
    case "window":
      if (view.window === null) return screen;
      return withView(screen, { window: rewindowed(view.window, by[0] * WINDOW_PER_PIXEL, by[1] * WINDOW_PER_PIXEL) });
    case "scroll":
      return atFrame(screen, view.frame + by[1] * FRAMES_PER_PIXEL);
    case "zoom":
      return withView(screen, zoomed(view, Math.exp(-by[1] * ZOOM_PER_PIXEL), drag.start.screen));
    case "pan":
      return withView(screen, moved(view, by));
    case "brush":
    case "eraser":
      return { ...screen, stroke: erasedOrPainted(screen, drag.last.image, to.image, field, drag.tool === "brush") };
    case "move":
    case "length":
    case "region":
    case "box":
      return screen.draft === null ? screen : { ...screen, draft: drawn(drag, to, screen.draft, field) };
  }
}

function drawn(drag: Drag, to: Pointer, draft: Mark, field: Field): Mark {
  if (drag.tool !== "move") return { ...draft, to: within(to.image, field) };
  const original = drag.before.reading.marks.find((mark) => mark.id === draft.id) ?? draft;
  const by: Point = [to.image[0] - drag.start.image[0], to.image[1] - drag.start.image[1]];
  return movedMark(original, by, drag.grip, field);
}

/** A mark, or one end of it, moved by pixels of the image, and kept within it. */
export function movedMark(mark: Mark, by: Point, grip: Drag["grip"], field: Field): Mark {
  const plus = (point: Point, way: Point): Point => [point[0] + way[0], point[1] + way[1]];
  if (grip !== "whole") return { ...mark, [grip]: within(plus(mark[grip], by), field) };
  const limited = ([0, 1] as const).map((axis) => {
    const ends = [mark.from[axis], mark.to[axis]];
    const most = axis === 0 ? field.columns : field.rows;
    return Math.min(Math.max(by[axis], -Math.min(...ends)), most - Math.max(...ends));
  });
  const way: Point = [limited[0] ?? 0, limited[1] ?? 0];
  return { ...mark, from: plus(mark.from, way), to: plus(mark.to, way) };
}

const within = ([x, y]: Point, field: Field): Point => [
  Math.min(Math.max(x, 0), field.columns),
  Math.min(Math.max(y, 0), field.rows),
];

/** A release: one step of the history, or none where nothing came of it. */
export function ended(drag: Drag, screen: Screen): Screen {
  const { draft, stroke } = screen;
  const rest: Screen = { ...screen, draft: null, stroke: null };
  if (stroke !== null) {
    const before = regionAt(screen, stroke);
    return { ...rest, ...edited(screen, [{ what: "region", id: regionKey(stroke), before, after: stroke }]) };
  }
  if (draft === null) return rest;
  const before = drag.before.reading.marks.find((mark) => mark.id === draft.id) ?? null;
  const isSame = before !== null && before.from === draft.from && before.to === draft.to;
  if (isSame || !hasExtent(draft)) return before === null ? { ...rest, selected: null } : rest;
  return { ...rest, ...edited(screen, [markEdit(before, ordered(draft))]) };
}

/** Nothing of a drag is kept. */
export const cancelled = (drag: Drag): Screen => ({ ...drag.before, draft: null, stroke: null });

const hasExtent = ({ kind, from, to }: Mark): boolean => {
  const [across, down] = [Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1])];
  return kind === "length" ? across + down > 0.5 : across > 0.5 && down > 0.5;
};

/** A rectangle from its upper left to its lower right corner. */
export function ordered(mark: Mark): Mark {
  if (mark.kind === "length") return mark;
  const [from, to] = [mark.from, mark.to];
  return {
    ...mark,
    from: [Math.min(from[0], to[0]), Math.min(from[1], to[1])],
    to: [Math.max(from[0], to[0]), Math.max(from[1], to[1])],
  };
}

export function markEdit(before: Mark | null, after: Mark | null): Edit {
  return { what: "mark", id: (after ?? before)?.id ?? "", before, after };
}
