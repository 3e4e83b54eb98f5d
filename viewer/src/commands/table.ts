// Every command of the viewer: its name, its label, its keys, and who may give it.
import type { Role } from "../api/types";
import { edited, redone, undone } from "../state/reading";
import {
  atFrame,
  atStack,
  CINE_RATE,
  moved,
  PLACE,
  rewindowed,
  type Screen,
  type ToolName,
  withView,
  zoomed,
} from "../state/screen";
import { PRESETS } from "../state/windows";
import { type Field, markEdit, movedMark } from "../tools/drag";
import type { WordKey } from "../words";

/** What a command is given beside the screen. */
export interface Given {
  field: Field;
  /** Screen pixels of an image pixel at zoom 1. */
  fit: number;
  id: string;
}

export interface Command {
  name: string;
  word: WordKey;
  keys: readonly string[];
  role: Role;
  /** Which group of buttons it stands in; "" for none. */
  group: "tool" | "view" | "preset" | "edit" | "";
  /** The next screen; `null` where there is nothing to do. */
  run: (screen: Screen, given: Given) => Screen | null;
}

const STEP = 40;
const NUDGE = 1;

const command = (
  name: string,
  word: WordKey,
  keys: readonly string[],
  run: Command["run"],
  group: Command["group"] = "",
  role: Role = "reader",
): Command => ({ name, word, keys, role, group, run });

const take = (name: ToolName) => (screen: Screen) => ({ ...screen, tool: name, selected: null });

const tool = (name: ToolName, word: WordKey, key: string): Command =>
  command(`tool ${name}`, word, [key], take(name), "tool");

/** A tool that draws for a model: there has to be one whose answers are drawn. */
const correcting = (name: ToolName, word: WordKey, key: string): Command =>
  command(`tool ${name}`, word, [key], (screen) => (screen.model === "" ? null : take(name)(screen)), "tool", "annotator");

const scroll = (by: number) => (screen: Screen) => {
  const next = atFrame(screen, screen.view.frame + by);
  return next.view.frame === screen.view.frame ? null : next;
};

const pan = (x: number, y: number) => (screen: Screen) => withView(screen, moved(screen.view, [x, y]));

const rewindow = (wider: number, higher: number) => (screen: Screen) =>
  screen.view.window === null ? null : withView(screen, { window: rewindowed(screen.view.window, wider, higher) });

const stack = (by: number) => (screen: Screen) => {
  const next = screen.view.stack + by;
  return next < 0 || next >= screen.stacks ? null : atStack(screen, next);
};

/** A mark in the middle of the image, for who has no pointer; it is then moved by keys. */
const drop = (screen: Screen, { field, id }: Given): Screen | null => {
  if (screen.tool !== "length" && screen.tool !== "region" && screen.tool !== "box") return null;
  const { stack: at, frame } = screen.view;
  const [x, y] = [field.columns, field.rows];
  const mark = {
    id,
    kind: screen.tool,
    stack: at,
    frame,
    from: [Math.round(x * 0.4), Math.round(y * 0.4)] as const,
    to: [Math.round(x * 0.6), Math.round(y * 0.6)] as const,
    label: screen.tool === "box" ? screen.label : "",
    model: screen.tool === "box" ? screen.model : "",
  };
  return { ...screen, ...edited(screen, [markEdit(null, mark)]), selected: id };
};

const chosen = (screen: Screen) => screen.reading.marks.find((mark) => mark.id === screen.selected) ?? null;

const nudge =
  (x: number, y: number, grip: "whole" | "to") =>
  (screen: Screen, { field }: Given): Screen | null => {
    const mark = chosen(screen);
    if (mark === null) return null;
    return { ...screen, ...edited(screen, [markEdit(mark, movedMark(mark, [x, y], grip, field))]) };
  };

const remove = (screen: Screen): Screen | null => {
  const mark = chosen(screen);
  return mark === null ? null : { ...screen, ...edited(screen, [markEdit(mark, null)]), selected: null };
};

const restored = (change: typeof undone) => (screen: Screen) => {
  const next = change(screen);
  return next === null ? null : { ...screen, ...next, selected: null };
};

const nextMark = (screen: Screen): Screen | null => {
  const here = screen.reading.marks.filter((mark) => mark.stack === screen.view.stack);
  const place = here.findIndex((mark) => mark.id === screen.selected);
  const next = here[(place + 1) % Math.max(here.length, 1)];
  return next === undefined ? null : { ...atFrame(screen, next.frame), selected: next.id };
};

export const COMMANDS: readonly Command[] = [
  tool("window", "toolWindow", "w"),
  tool("scroll", "toolScroll", "s"),
  tool("zoom", "toolZoom", "z"),
  tool("pan", "toolPan", "p"),
  tool("length", "toolLength", "l"),
  tool("region", "toolRegion", "r"),
  correcting("box", "toolBox", "b"),
  correcting("brush", "toolBrush", "u"),
  correcting("eraser", "toolEraser", "k"),
  command("fit", "fit", ["0"], (screen) => withView(screen, { zoom: 1, pan: [0, 0] }), "view"),
  command(
    "actual size",
    "actualSize",
    ["1"],
    (screen, { fit }) => withView(screen, { zoom: 1 / fit, pan: [0, 0] }),
    "view",
  ),
  command("invert", "invert", ["i"], (screen) => withView(screen, { inverted: !screen.view.inverted }), "view"),
  command("turn", "turn", ["t"], (screen) => withView(screen, { turn: (screen.view.turn + 90) % 360 }), "view"),
  command("mirror", "mirror", ["m"], (screen) => withView(screen, { mirrored: !screen.view.mirrored }), "view"),
  command(
    "cine",
    "cine",
    ["c"],
    (screen) => (screen.count < 2 ? null : withView(screen, { cine: screen.view.cine === 0 ? CINE_RATE : 0 })),
    "view",
  ),
  command(
    "reset",
    "reset",
    ["x"],
    (screen) => ({
      ...withView(screen, { ...PLACE, window: null, inverted: false, cine: 0 }),
      selected: null,
      tool: "window",
    }),
    "view",
  ),
  ...PRESETS.map(({ name, window }, index) =>
    command(`preset ${name}`, name, [String(index + 2)], (screen) => withView(screen, { window }), "preset"),
  ),
  command("undo", "undo", ["Control+z"], restored(undone), "edit"),
  command("redo", "redo", ["Control+y", "Control+Shift+Z"], restored(redone), "edit"),
  command("remove", "remove", ["Delete", "Backspace"], remove, "edit"),
  command("deselect", "deselect", ["Escape"], (screen) => (screen.selected === null ? null : { ...screen, selected: null })),
  command("previous slice", "previousSlice", ["ArrowUp"], scroll(-1)),
  command("next slice", "nextSlice", ["ArrowDown"], scroll(1)),
  command("ten slices back", "tenBack", ["PageUp"], scroll(-10)),
  command("ten slices on", "tenOn", ["PageDown"], scroll(10)),
  command("first slice", "firstSlice", ["Home"], scroll(-Infinity)),
  command("last slice", "lastSlice", ["End"], scroll(Infinity)),
  command("previous series", "previousSeries", ["["], stack(-1)),
  command("next series", "nextSeries", ["]"], stack(1)),
  command("larger", "larger", ["+", "="], (screen) => withView(screen, zoomed(screen.view, 1.25))),
  command("smaller", "smaller", ["-"], (screen) => withView(screen, zoomed(screen.view, 0.8))),
  command("left", "panLeft", ["Shift+ArrowLeft"], pan(-STEP, 0)),
  command("right", "panRight", ["Shift+ArrowRight"], pan(STEP, 0)),
  command("up", "panUp", ["Shift+ArrowUp"], pan(0, -STEP)),
  command("down", "panDown", ["Shift+ArrowDown"], pan(0, STEP)),
  command("brighter", "brighter", ["d"], rewindow(0, -0.05)),
  command("darker", "darker", ["a"], rewindow(0, 0.05)),
  command("more contrast", "moreContrast", ["e"], rewindow(-0.05, 0)),
  command("less contrast", "lessContrast", ["q"], rewindow(0.05, 0)),
  command("place", "placeMark", ["Enter"], drop),
  command("next mark", "nextMark", ["n"], nextMark),
  command("mark left", "markLeft", ["Alt+ArrowLeft"], nudge(-NUDGE, 0, "whole")),
  command("mark right", "markRight", ["Alt+ArrowRight"], nudge(NUDGE, 0, "whole")),
  command("mark up", "markUp", ["Alt+ArrowUp"], nudge(0, -NUDGE, "whole")),
  command("mark down", "markDown", ["Alt+ArrowDown"], nudge(0, NUDGE, "whole")),
  command("mark narrower", "markNarrower", ["Alt+Shift+ArrowLeft"], nudge(-NUDGE, 0, "to")),
  command("mark wider", "markWider", ["Alt+Shift+ArrowRight"], nudge(NUDGE, 0, "to")),
  command("mark shorter", "markShorter", ["Alt+Shift+ArrowUp"], nudge(0, -NUDGE, "to")),
  command("mark taller", "markTaller", ["Alt+Shift+ArrowDown"], nudge(0, NUDGE, "to")),
];

interface Press {
  key: string;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
  shiftKey: boolean;
}

/** The command of a key; `undefined` for none. Shift counts where the key itself does not tell it. */
export function commandOf(press: Press): Command | undefined {
  const isNamed = press.key.length > 1 || press.ctrlKey || press.metaKey;
  const parts = [
    press.ctrlKey || press.metaKey ? "Control" : "",
    press.altKey ? "Alt" : "",
    press.shiftKey && isNamed ? "Shift" : "",
    press.key.length === 1 && !press.shiftKey ? press.key.toLowerCase() : press.key,
  ];
  const name = parts.filter(Boolean).join("+");
  return COMMANDS.find((each) => each.keys.includes(name));
}

const RANKS: readonly Role[] = ["reader", "annotator", "admin"];

/** Whether a role may do what another one may. */
export const may = (role: Role, needed: Role): boolean => RANKS.indexOf(role) >= RANKS.indexOf(needed);
