import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { api } from "../api/client";
import { type Frame, FrameCache, valueAt } from "../api/frames";
import { commandOf, may } from "../commands/table";
import { type Layer, Picture, resize } from "../render/picture";
import { apply, edgesOf, fitScale, inverse, type Matrix, type Point, scaleBar, toScreen } from "../state/geometry";
import type { Mark } from "../state/reading";
import { atFrame, isInFrame, type Screen, withView, zoomed } from "../state/screen";
import { firstWindow } from "../state/windows";
import { begun, cancelled, type Drag, dragged, ended, type Pointer } from "../tools/drag";
import { usePage } from "./context";
import { hitAt, Marks } from "./marks";

/** Frames of all cases that were looked at. */
export const FRAMES = new FrameCache((key) => {
  const [kase, revision, stack, frame] = key.split("/");
  return api.frame(kase ?? "", Number(revision), Number(stack), Number(frame));
});

// Frames ahead and behind that are loaded while one is looked at, and how many at one time.
const AHEAD = 400;
const AT_ONCE = 6;

interface PaneProps {
  kase: string;
  revision: number;
  screen: Screen;
  change: (next: (screen: Screen) => Screen) => void;
  /** Marks of the model in this frame. */
  found: readonly Mark[];
  layersOf?: (frame: Frame) => readonly Layer[];
  label: string;
  given: { current: { field: { rows: number; columns: number }; fit: number } };
}

/** One image with everything that is done to it. */
export function Pane({ kase, revision, screen, change, found, layersOf, label, given }: PaneProps) {
  const { text, session, failed } = usePage();
  const { view } = screen;
  const keyOf = useCallback(
    (number: number) => `${kase}/${revision}/${view.stack}/${number}`,
    [kase, revision, view.stack],
  );
  const { frame, isCurrent, trouble } = useFrame(keyOf, view.frame, screen.count, failed);
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const size = useSize(box);
  const [pointer, setPointer] = useState<Point | null>(null);
  const picture = useMemo(() => new Picture(), []);

  useEffect(() => {
    let alive = true;
    api
      .stack(kase, revision, view.stack)
      .then(({ count }) => alive && change((now) => ({ ...now, count })))
      .catch(failed);
    return () => {
      alive = false;
    };
  }, [kase, revision, view.stack]);

  useEffect(() => {
    if (frame !== null && view.window === null) change((now) => withView(now, { window: firstWindow(frame) }));
  }, [frame, view.window]);

  const matrix = frame === null ? null : toScreen(frame, size, view);
  if (frame !== null) given.current = { field: frame, fit: fitScale(frame, size, view.turn) };

  useLayoutEffect(() => {
    const target = canvas.current;
    if (target === null || frame === null || matrix === null || view.window === null) return;
    const ratio = window.devicePixelRatio || 1;
    resize(target, Math.round(size[0] * ratio), Math.round(size[1] * ratio));
    picture.draw(target, frame, { window: view.window, inverted: view.inverted, matrix, ratio }, layersOf?.(frame));
    target.dataset.matrix = matrix.join(" ");
  }, [frame, view, size, layersOf]);

  useCine(view.cine, screen.count, change);
  const drag = usePointers(box, matrix, frame, screen, change, setPointer);
  const marks = [...screen.reading.marks.filter((mark) => mark.id !== screen.draft?.id), ...draftOf(screen)].filter(
    (mark) => mark.stack === view.stack && isInFrame(mark, view.frame),
  );
  const showKeys = (event: KeyboardEvent): void => {
    if (event.key === "Escape" && drag.cancel()) return;
    const found = commandOf(event);
    if (found === undefined || !may(session.role, found.role)) return;
    event.preventDefault();
    change((now) => found.run(now, { ...given.current, id: crypto.randomUUID() }) ?? now);
  };

  return (
    <div
      ref={box}
      class={`pane tool-${screen.tool}`}
      tabIndex={0}
      role="application"
      aria-label={label}
      onKeyDown={showKeys}
      data-drawn={isCurrent && view.window !== null ? `${view.stack}/${view.frame}` : ""}
    >
      <canvas ref={canvas} />
      {isCurrent && frame !== null && matrix !== null && (
        <svg class="marks" width={size[0]} height={size[1]} aria-hidden="true">
          <Marks marks={marks} selected={screen.selected} frame={frame} matrix={matrix} found={found} />
          <Scale frame={frame} matrix={matrix} size={size} />
        </svg>
      )}
      {frame !== null && <Edge frame={frame} turn={view.turn} mirrored={view.mirrored} />}
      <div class="corner lower-left">
        <span>{text("slice", { number: view.frame + 1, count: screen.count })}</span>
        {view.window !== null && (
          <span>
            {text("window")} {short(view.window[0])} / {short(view.window[1])}
          </span>
        )}
      </div>
      <div class="corner upper-left" aria-live="off">
        {frame !== null && <span>{`${frame.columns} × ${frame.rows}`}</span>}
        {isCurrent && frame !== null && matrix !== null && pointer !== null && (
          <Value frame={frame} point={apply(inverse(matrix), pointer)} />
        )}
      </div>
      {!isCurrent && trouble === "" && <p class="over">{text("loading")}</p>}
      {trouble !== "" && (
        <p class="over" role="alert">
          {text("cannotRead")} {trouble}
        </p>
      )}
    </div>
  );
}

const short = (value: number): string => (Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));

const draftOf = (screen: Screen): Mark[] => (screen.draft === null ? [] : [screen.draft]);

/** The value below the pointer, with its unit; of colours all of them. */
function Value({ frame, point }: { frame: Frame; point: Point }) {
  const { text } = usePage();
  const [column, row] = [Math.floor(point[0]), Math.floor(point[1])];
  if (column < 0 || row < 0 || column >= frame.columns || row >= frame.rows) return null;
  const values = valueAt(frame, row, column).map((value) => Number(value.toPrecision(6)));
  return (
    <span data-value={values.join(" ")}>
      {text("value")} {values.join(", ")} {frame.units ?? ""} ({column}, {row})
    </span>
  );
}

function Edge({ frame, turn, mirrored }: { frame: Frame; turn: number; mirrored: boolean }) {
  const edges = edgesOf(frame.affine, frame.sides, turn, mirrored);
  if (edges === null) return null;
  return (
    <>
      {(["top", "right", "bottom", "left"] as const).map((edge) => (
        <span key={edge} class={`edge ${edge}`} data-edge={edge}>
          {edges[edge]}
        </span>
      ))}
    </>
  );
}

const BAR_PART = 0.3;

function Scale({ frame, matrix, size }: { frame: Frame; matrix: Matrix; size: Point }) {
  const bar = scaleBar(frame, matrix, size[0] * BAR_PART);
  if (bar === null) return null;
  const [right, y] = [size[0] - 14, size[1] - 14];
  return (
    <g class="scale" data-millimetres={bar.millimetres}>
      <path d={`M${right - bar.pixels} ${y - 6}v6h${bar.pixels}v-6`} />
      <text x={right} y={y - 10} text-anchor="end">
        {bar.millimetres >= 10 ? `${bar.millimetres / 10} cm` : `${bar.millimetres} mm`}
      </text>
    </g>
  );
}

interface Shown {
  frame: Frame | null;
  /** Whether it is the one asked for: until it is there the one before stays on the screen. */
  isCurrent: boolean;
  trouble: string;
}


function useFrame(
  keyOf: (number: number) => string,
  number: number,
  count: number,
  failed: (error: unknown) => string,
): Shown {
  const [state, setState] = useState<{ key: string; frame: Frame | null; trouble: string }>({
    key: "",
    frame: null,
    trouble: "",
  });
  const key = keyOf(number);
  useEffect(() => {
    let alive = true;
    const finish = (frame: Frame | null, trouble: string) => alive && setState({ key, frame, trouble });
    FRAMES.get(key)
      .then((frame) => finish(frame, ""))
      .catch((error: unknown) => finish(null, failed(error)));
    return () => {
      alive = false;
    };
  }, [key]);
  useEffect(() => {
    let alive = true;
    const waiting = outward(number, count)
      .map(keyOf)
      .filter((next) => FRAMES.now(next) === undefined);
    const work = async (): Promise<void> => {
      for (let next = waiting.shift(); alive && next !== undefined; next = waiting.shift())
        await FRAMES.get(next).catch(() => null);
    };
    if (state.key === key) for (let worker = 0; worker < AT_ONCE; worker += 1) void work();
    return () => {
      alive = false;
    };
  }, [keyOf, count, state.key === key]);
  const ready = FRAMES.now(key);
  if (ready !== undefined) return { frame: ready, isCurrent: true, trouble: "" };
  const isOfThisStack = state.key.startsWith(keyOf(0).slice(0, -1));
  if (!isOfThisStack) return { frame: null, isCurrent: false, trouble: "" };
  return { frame: state.frame, isCurrent: false, trouble: state.key === key ? state.trouble : "" };
}

/** The numbers of frames from one outward. */
function outward(from: number, count: number): number[] {
  const found: number[] = [];
  for (let by = 1; by <= AHEAD; by += 1) for (const next of [from + by, from - by]) if (next >= 0 && next < count) found.push(next);
  return found;
}

function useSize(box: { current: HTMLDivElement | null }): Point {
  const [size, setSize] = useState<Point>([1, 1]);
  useLayoutEffect(() => {
    const target = box.current;
    if (target === null) return undefined;
    const measure = (): void => setSize([target.clientWidth, target.clientHeight]);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(target);
    return () => observer.disconnect();
  }, []);
  return size;
}

function useCine(rate: number, count: number, change: PaneProps["change"]): void {
  useEffect(() => {
    if (rate === 0 || count < 2) return undefined;
    const timer = setInterval(
      () => change((now) => withView(now, { frame: (now.view.frame + 1) % now.count })),
      1000 / rate,
    );
    return () => clearInterval(timer);
  }, [rate, count]);
}

/** Mouse, pen and fingers: drags of the tool, two fingers to zoom and move, the wheel. */
function usePointers(
  box: { current: HTMLDivElement | null },
  matrix: Matrix | null,
  frame: Frame | null,
  screen: Screen,
  change: PaneProps["change"],
  setPointer: (point: Point | null) => void,
) {
  const drag = useRef<Drag | null>(null);
  const fingers = useRef(new Map<number, Point>());
  const now = useRef({ matrix, frame, screen });
  now.current = { matrix, frame, screen };

  const cancel = (): boolean => {
    const begunDrag = drag.current;
    drag.current = null;
    if (begunDrag !== null) change(() => cancelled(begunDrag));
    return begunDrag !== null;
  };

  useEffect(() => {
    const target = box.current;
    if (target === null) return undefined;
    const at = (event: PointerEvent | WheelEvent): Point => {
      const { left, top } = target.getBoundingClientRect();
      return [event.clientX - left, event.clientY - top];
    };
    const pointerAt = (point: Point): Pointer => ({
      screen: [point[0] - target.clientWidth / 2, point[1] - target.clientHeight / 2],
      image: apply(inverse(now.current.matrix ?? [1, 0, 0, 1, 0, 0]), point),
    });
    const onDown = (event: PointerEvent): void => {
      const { matrix, screen } = now.current;
      if (matrix === null) return;
      target.focus({ preventScroll: true });
      target.setPointerCapture(event.pointerId);
      const point = at(event);
      fingers.current.set(event.pointerId, point);
      if (fingers.current.size > 1) {
        cancel();
        return;
      }
      const tool = event.button === 1 ? "pan" : event.button === 2 ? "zoom" : screen.tool;
      const here = screen.reading.marks.filter(
        (mark) => mark.stack === screen.view.stack && isInFrame(mark, screen.view.frame),
      );
      const hit = event.button === 0 && tool !== "brush" && tool !== "eraser" ? hitAt(here, matrix, point) : null;
      const [next, shown] = begun(screen, tool, pointerAt(point), hit, crypto.randomUUID());
      drag.current = next;
      change(() => shown);
    };
    const onMove = (event: PointerEvent): void => {
      const point = at(event);
      setPointer(point);
      const last = fingers.current.get(event.pointerId);
      if (fingers.current.size === 2 && last !== undefined) {
        const other = [...fingers.current].find(([id]) => id !== event.pointerId)?.[1] ?? last;
        fingers.current.set(event.pointerId, point);
        change((screen) => pinched(screen, last, point, other, pointerAt));
        return;
      }
      if (drag.current === null || now.current.frame === null) return;
      const { frame } = now.current;
      const begunDrag = drag.current;
      const to = pointerAt(point);
      drag.current = { ...begunDrag, last: to };
      change((screen) => dragged(begunDrag, screen, to, frame)[1]);
    };
    const onUp = (event: PointerEvent): void => {
      fingers.current.delete(event.pointerId);
      const begunDrag = drag.current;
      drag.current = null;
      if (begunDrag !== null) change((screen) => ended(begunDrag, screen));
    };
    const onWheel = (event: WheelEvent): void => {
      event.preventDefault();
      const by = Math.sign(event.deltaY);
      const around = pointerAt(at(event)).screen;
      if (event.ctrlKey || event.metaKey)
        change((screen) => withView(screen, zoomed(screen.view, by > 0 ? 0.9 : 1 / 0.9, around)));
      else change((screen) => atFrame(screen, screen.view.frame + by));
    };
    const onLeave = (): void => setPointer(null);
    const onMenu = (event: Event): void => event.preventDefault();
    target.addEventListener("pointerdown", onDown);
    target.addEventListener("pointermove", onMove);
    target.addEventListener("pointerup", onUp);
    target.addEventListener("pointercancel", cancel);
    target.addEventListener("pointerleave", onLeave);
    target.addEventListener("wheel", onWheel, { passive: false });
    target.addEventListener("contextmenu", onMenu);
    return () => {
      target.removeEventListener("pointerdown", onDown);
      target.removeEventListener("pointermove", onMove);
      target.removeEventListener("pointerup", onUp);
      target.removeEventListener("pointercancel", cancel);
      target.removeEventListener("pointerleave", onLeave);
      target.removeEventListener("wheel", onWheel);
      target.removeEventListener("contextmenu", onMenu);
    };
  }, []);
  return { cancel };
}

/** Two fingers: what lay below them stays below them. */
function pinched(
  screen: Screen,
  last: Point,
  point: Point,
  other: Point,
  pointerAt: (point: Point) => Pointer,
): Screen {
  const reach = (from: Point): number => Math.hypot(from[0] - other[0], from[1] - other[1]);
  const factor = reach(point) / Math.max(reach(last), 1);
  const [x, y] = [(point[0] - last[0]) / 2, (point[1] - last[1]) / 2];
  const around = pointerAt([(point[0] + other[0]) / 2, (point[1] + other[1]) / 2]).screen;
  const larger = withView(screen, zoomed(screen.view, factor, around));
  return withView(larger, { pan: [larger.view.pan[0] + x, larger.view.pan[1] + y] });
}
