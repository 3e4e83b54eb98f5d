// Which slice of another stack lies where a slice of this one does.

/** A slice that is there: its number, and its affine, which takes (slice, row, column, 1) to millimetres. */
export interface Placed {
  number: number;
  affine: number[][] | null;
}

const column = (affine: number[][], axis: number): number[] => affine.slice(0, 3).map((line) => line[axis] ?? 0);

const dot = (one: number[], other: number[]): number => one.reduce((sum, part, axis) => sum + part * (other[axis] ?? 0), 0);

function normalOf(affine: number[][]): number[] {
  const [a, b, c] = column(affine, 1) as [number, number, number];
  const [d, e, f] = column(affine, 2) as [number, number, number];
  const normal = [b * f - c * e, c * d - a * f, a * e - b * d];
  const length = Math.hypot(...normal);
  return normal.map((part) => part / length);
}

// Stacks whose planes differ by more have no slice in common.
const PARALLEL = 0.95;

/**
 * The slice of another stack: the nearest one in the patient where both tell their places and are parallel, and else
 * that in the same part of the stack.
 */
export function linkedFrame(
  here: Placed,
  count: number,
  others: readonly Placed[],
  otherCount: number,
): number {
  const { affine } = here;
  if (affine !== null) {
    const normal = normalOf(affine);
    const depth = dot(normal, column(affine, 3));
    const depths = others.flatMap(({ number, affine: other }) =>
      other !== null && Math.abs(dot(normalOf(other), normal)) > PARALLEL
        ? [{ number, away: Math.abs(dot(normal, column(other, 3)) - depth) }]
        : [],
    );
    const nearest = depths.sort((one, other) => one.away - other.away)[0];
    if (nearest !== undefined) return nearest.number;
  }
  return count < 2 ? 0 : Math.round((here.number / (count - 1)) * (otherCount - 1));
}
