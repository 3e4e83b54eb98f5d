// Masks as lengths of runs, row by row: first of pixels outside, then inside, and so on.

export function encode(mask: Uint8Array): number[] {
  const runs: number[] = [];
  let [value, length] = [0, 0];
  for (const pixel of mask) {
    const found = pixel === 0 ? 0 : 1;
    if (found === value) length += 1;
    else {
      runs.push(length);
      [value, length] = [found, 1];
    }
  }
  return [...runs, length];
}

export function decode(runs: readonly number[], size: number): Uint8Array {
  const mask = new Uint8Array(size);
  let [at, value] = [0, 0];
  for (const run of runs) {
    if (value === 1) mask.fill(1, at, at + run);
    at += run;
    value = 1 - value;
  }
  return mask;
}
