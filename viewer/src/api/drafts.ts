// What is not yet saved, in the browser's own store: it outlives the tab and the browser.
import type { Unsaved } from "../saving";

const keyOf = (reader: string, kase: string): string => `hounsfield-draft/${reader}/${kase}`;

export function readDraft(reader: string, kase: string): Unsaved | null {
  const text = localStorage.getItem(keyOf(reader, kase));
  if (text === null) return null;
  try {
    return JSON.parse(text) as Unsaved;
  } catch {
    return null;
  }
}

/** Whether it could be written: the store of a browser is small. */
export function writeDraft(reader: string, kase: string, unsaved: Unsaved): boolean {
  try {
    localStorage.setItem(keyOf(reader, kase), JSON.stringify(unsaved));
    return true;
  } catch {
    return false;
  }
}

export const removeDraft = (reader: string, kase: string): void => localStorage.removeItem(keyOf(reader, kase));
