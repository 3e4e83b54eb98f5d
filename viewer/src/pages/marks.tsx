import type { Frame } from "../api/frames";
import { apply, distance, type Matrix, type Point } from "../state/geometry";
import type { Mark } from "../state/reading";
import { statisticsOf } from "../state/statistics";
import { usePage } from "./context";

const number = (value: number): string =>
  Math.abs(value) >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toPrecision(3);

/** What stands beside a mark. */
export function useCaption(): (mark: Mark, frame: Frame) => string[] {
  const { text } = usePage();
  return (mark, frame) => {
    if (mark.kind === "length") {
      const length = distance(frame, mark.from, mark.to);
      return [`${length.value.toFixed(1)} ${length.unit}`];
    }
    if (mark.kind === "box") return [mark.label];
    const found = statisticsOf(frame, mark);
    if (found === null) return [];
    const unit = frame.units ?? "";
    return [
      `${text("mean")} ${number(found.mean)} ${unit} ${text("deviation")} ${number(found.deviation)}`,
      `${text("range")} ${number(found.least)}…${number(found.most)}`,
      `${text("area")} ${found.area.toFixed(found.unit === "px" ? 0 : 1)} ${found.unit}`,
    ];
  };
}

interface MarksProps {
  marks: readonly Mark[];
  selected: string | null;
  frame: Frame;
  matrix: Matrix;
  /** Of the model's own, which are shown and not moved. */
  found: readonly Mark[];
}

/** Marks over an image. */
export function Marks({ marks, selected, frame, matrix, found }: MarksProps) {
  const caption = useCaption();
  return (
    <>
      {found.map((mark) => (
        <Shape key={mark.id} mark={mark} kind="found" matrix={matrix} lines={[mark.label]} />
      ))}
      {marks.map((mark) => (
        <Shape
          key={mark.id}
          mark={mark}
          kind={mark.id === selected ? "chosen" : "own"}
          matrix={matrix}
          lines={caption(mark, frame)}
        />
      ))}
    </>
  );
}

const corners = ({ from, to }: Mark): Point[] => [from, [to[0], from[1]], to, [from[0], to[1]]];

function Shape({ mark, kind, matrix, lines }: { mark: Mark; kind: string; matrix: Matrix; lines: string[] }) {
  const points = (mark.kind === "length" ? [mark.from, mark.to] : corners(mark)).map((point) => apply(matrix, point));
  const path = points.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join(" ");
  const right = Math.max(...points.map(([x]) => x));
  const below = Math.max(...points.map(([, y]) => y));
  return (
    <g class={`mark ${mark.kind} ${kind}`} data-mark={mark.id}>
      {mark.kind === "length" ? <polyline points={path} /> : <polygon points={path} />}
      {kind === "chosen" &&
        [mark.from, mark.to].map((end, index) => {
          const [x, y] = apply(matrix, end);
          return <circle key={index} cx={x} cy={y} r={5} />;
        })}
      {lines.map((line, index) => (
        <text key={index} x={right + 6} y={below - 2 + 15 * (index - lines.length + 1)}>
          {line}
        </text>
      ))}
    </g>
  );
}

const REACH = 9;

/** The mark, and the part of it, at a point of the screen. */
export function hitAt(marks: readonly Mark[], matrix: Matrix, [x, y]: Point) {
  const near = (point: Point): boolean => {
    const [across, down] = apply(matrix, point);
    return Math.hypot(across - x, down - y) <= REACH;
  };
  for (const mark of [...marks].reverse()) {
    if (near(mark.to)) return { mark, grip: "to" as const };
    if (near(mark.from)) return { mark, grip: "from" as const };
    const points = (mark.kind === "length" ? [mark.from, mark.to] : corners(mark)).map((point) => apply(matrix, point));
    const edges = points.map((point, index) => [point, points[(index + 1) % points.length] as Point] as const);
    if (edges.some(([from, to]) => distanceTo([x, y], from, to) <= REACH)) return { mark, grip: "whole" as const };
  }
  return null;
}

function distanceTo([x, y]: Point, from: Point, to: Point): number {
  const [across, down] = [to[0] - from[0], to[1] - from[1]];
  const squared = across ** 2 + down ** 2;
  const part = squared === 0 ? 0 : Math.min(Math.max(((x - from[0]) * across + (y - from[1]) * down) / squared, 0), 1);
  return Math.hypot(from[0] + part * across - x, from[1] + part * down - y);
}
