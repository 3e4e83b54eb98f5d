import type { FrameFacts } from "./types";

export type Values =
  | Uint8Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>;

export interface Frame extends FrameFacts {
  values: Values;
}

const ARRAYS = {
  u1: Uint8Array,
  i1: Int8Array,
  u2: Uint16Array,
  i2: Int16Array,
  u4: Uint32Array,
  i4: Int32Array,
  f4: Float32Array,
  f8: Float64Array,
} as const;

/** A frame as it comes: the length of its facts (uint32), its facts as JSON, its values (little endian). */
export function decodeFrame(content: ArrayBuffer): Frame {
  const length = new DataView(content).getUint32(0, true);
  const facts = JSON.parse(new TextDecoder().decode(new Uint8Array(content, 4, length))) as FrameFacts;
  const type = ARRAYS[facts.type as keyof typeof ARRAYS];
  if (type === undefined) throw new Error(`values of an unknown type: ${facts.type}`);
  const count = facts.rows * facts.columns * facts.channels;
  return { ...facts, values: new type(content, 4 + length, count) };
}

/** The value of a pixel as the file has it: a reader turns MONOCHROME1 round, so that high values are bright. */
export function valueAt(frame: Frame, row: number, column: number): number[] {
  const start = (row * frame.columns + column) * frame.channels;
  const found = Array.from(frame.values.subarray(start, start + frame.channels), Number);
  return frame.mirror === null ? found : found.map((value) => (frame.mirror as number) - value);
}

const KEPT_BYTES = 1.5e9;

/** Frames that were loaded, the last used ones, up to a size. */
export class FrameCache {
  private readonly kept = new Map<string, Promise<Frame>>();
  private readonly loaded = new Map<string, Frame>();
  private bytes = 0;

  constructor(private readonly load: (key: string) => Promise<Frame>) {}

  /** A frame that is there already. */
  now(key: string): Frame | undefined {
    return this.loaded.get(key);
  }

  get(key: string): Promise<Frame> {
    const found = this.kept.get(key);
    if (found !== undefined) {
      this.kept.delete(key);
      this.kept.set(key, found);
      return found;
    }
    const asked = this.load(key).then((frame) => {
      this.loaded.set(key, frame);
      this.bytes += frame.values.byteLength;
      this.forget();
      return frame;
    });
    // What failed is asked for again the next time.
    asked.catch(() => this.kept.delete(key));
    this.kept.set(key, asked);
    return asked;
  }

  private forget(): void {
    for (const key of this.kept.keys()) {
      if (this.bytes <= KEPT_BYTES) return;
      const frame = this.loaded.get(key);
      if (frame === undefined) continue;
      this.bytes -= frame.values.byteLength;
      this.loaded.delete(key);
      this.kept.delete(key);
    }
  }
}
