import { expect, it } from "vitest";
import type { Frame } from "../api/frames";
import { decodeFrame, valueAt } from "../api/frames";
import { firstWindow, windowed, windowOf } from "./windows";

const frameOf = (values: Frame["values"], type: string, more: Partial<Frame> = {}): Frame => ({
  rows: 1,
  columns: values.length,
  channels: 1,
  type,
  spacing: null,
  affine: null,
  sides: null,
  windows: [],
  units: null,
  bits: null,
  modality: null,
  mirror: null,
  values,
  ...more,
});

const grey = (frame: Frame, window: readonly [number, number], inverted = false): number[] => {
  const into = new Uint8ClampedArray(4 * frame.rows * frame.columns);
  windowed(frame, window, inverted, into);
  return Array.from(into).filter((_, index) => index % 4 === 0);
};

it("a window is DICOM's linear function (PS3.3, C.11.2.1.2.1), worked by hand", () => {
  // ((x − 39.5) / 399 + 0.5) · 255
  const values = [-160, -159, 40, 240, 300];
  const expected = [0, 1, 128, 255, 255];
  expect(grey(frameOf(Int16Array.from(values), "i2"), [40, 400])).toEqual(expected);
  expect(grey(frameOf(Float32Array.from(values), "f4"), [40, 400])).toEqual(expected);
  expect(grey(frameOf(Int16Array.from(values), "i2"), [40, 400], true)).toEqual(expected.map((value) => 255 - value));
});

it("a width of 1 is a threshold", () => {
  expect(grey(frameOf(Uint8Array.from([99, 100]), "u1"), [100, 1])).toEqual([0, 255]);
});

it("the whole range of 8 bits is shown as it is", () => {
  const values = Uint8Array.from({ length: 256 }, (_, index) => index);
  expect(grey(frameOf(values, "u1"), windowOf(0, 255))).toEqual(Array.from(values));
});

it("colours keep their places", () => {
  const into = new Uint8ClampedArray(8);
  const frame = frameOf(Uint8Array.from([1, 2, 3, 250, 251, 252]), "u1", { columns: 2, channels: 3 });
  windowed(frame, firstWindow(frame), false, into);
  expect(Array.from(into)).toEqual([1, 2, 3, 255, 250, 251, 252, 255]);
});

it("the file's own window comes first, then what suits the values", () => {
  const values = Float32Array.from({ length: 1001 }, (_, index) => index / 1000);
  expect(firstWindow(frameOf(values, "f4", { windows: [[7, 3]] }))).toEqual([7, 3]);
  expect(firstWindow(frameOf(values, "f4", { units: "HU" }))).toEqual([40, 400]);
  const [dark, bright] = [0.005, 0.995].map((value) => frameOf(Float32Array.from([value]), "f4"));
  const own = firstWindow(frameOf(values, "f4"));
  expect(grey(dark as Frame, own)[0]).toBeLessThan(2);
  expect(grey(bright as Frame, own)[0]).toBeGreaterThan(253);
});

it("a frame is read from its bytes, and MONOCHROME1 tells the value of the file", () => {
  const facts = { ...frameOf(Uint8Array.of(), "u2"), columns: 2, mirror: 4095, values: undefined };
  const text = new TextEncoder().encode(JSON.stringify(facts));
  const padded = Math.ceil((text.length + 4) / 8) * 8 - 4;
  const content = new Uint8Array(4 + padded + 4).fill(32);
  new DataView(content.buffer).setUint32(0, padded, true);
  content.set(text, 4);
  new Uint16Array(content.buffer, 4 + padded, 2).set([1000, 4095]);
  const frame = decodeFrame(content.buffer);
  expect(Array.from(frame.values)).toEqual([1000, 4095]);
  expect(valueAt(frame, 0, 0)).toEqual([3095]);
});
