import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { firstScreen, type Screen } from "../state/screen";
import { LANGUAGES, WORDS } from "../words";
import { COMMANDS, commandOf } from "./table";

const GIVEN = { field: { rows: 100, columns: 100 }, fit: 2, id: "m" };
const press = (key: string, held: Partial<Record<"ctrlKey" | "altKey" | "shiftKey", boolean>> = {}) => ({
  key,
  ctrlKey: false,
  metaKey: false,
  altKey: false,
  shiftKey: false,
  ...held,
});
const run = (screen: Screen, name: string): Screen | null =>
  COMMANDS.find((command) => command.name === name)?.run(screen, GIVEN) ?? null;

it("no key has two commands, and each command has a key", () => {
  const keys = COMMANDS.flatMap((command) => command.keys);
  expect(new Set(keys).size).toBe(keys.length);
  expect(COMMANDS.filter((command) => command.keys.length === 0)).toEqual([]);
});

it("every key finds its command", () => {
  for (const command of COMMANDS)
    for (const name of command.keys) {
      const parts = name === "+" ? ["+"] : name.split("+");
      const key = parts.at(-1) ?? "";
      const held = {
        ctrlKey: parts.includes("Control"),
        altKey: parts.includes("Alt"),
        shiftKey: parts.includes("Shift"),
      };
      expect(commandOf(press(key, held))?.name).toBe(command.name);
    }
});

it("what cannot be done is greyed: nothing to take back, no further image, no film of one image", () => {
  const screen = firstScreen(1);
  for (const name of ["undo", "redo", "remove", "next slice", "previous slice", "next series", "cine"])
    expect(run(screen, name)).toBeNull();
});

it("a measurement is placed and moved by keys alone", () => {
  let screen: Screen | null = run(firstScreen(1), "tool length");
  for (const name of ["place", "mark right", "mark taller"]) screen = screen === null ? null : run(screen, name);
  expect(screen?.reading.marks).toMatchObject([{ from: [41, 40], to: [61, 61] }]);
  expect(screen !== null && run(screen, "remove")?.reading.marks).toEqual([]);
});

it("every word is there in every language, with the same places", () => {
  const places = (text: string): string[] => [...text.matchAll(/\{\w+\}/g)].map(([found]) => found).sort();
  for (const [key, texts] of Object.entries(WORDS)) {
    expect(texts, key).toHaveLength(LANGUAGES.length);
    expect(places(texts[1]), key).toEqual(places(texts[0]));
    expect(texts.every(Boolean), key).toBe(true);
  }
});

describe("rooms import down only", () => {
  const source = join(dirname(fileURLToPath(import.meta.url)), "..");
  const below: Record<string, string[]> = {
    api: ["api"],
    state: ["api", "state"],
    tools: ["api", "state", "tools"],
    commands: ["api", "state", "tools", "commands"],
    render: ["api", "state", "render"],
  };
  it.each(Object.keys(below))("%s", (room) => {
    const files = readdirSync(join(source, room)).filter((name) => !name.endsWith(".test.ts"));
    for (const name of files) {
      const text = readFileSync(join(source, room, name), "utf-8");
      for (const [, path] of text.matchAll(/from "([^"]+)"/g)) {
        const target = path?.startsWith("./") ? room : (path?.match(/^\.\.\/(\w+)/)?.[1] ?? path);
        expect([...(below[room] ?? []), "words", "reading", "saving"], `${room}/${name}`).toContain(target);
      }
      if (room === "state" || room === "tools" || room === "commands")
        expect(text, name).not.toMatch(/\b(document|window\.|localStorage|fetch\()/);
    }
  });
});
