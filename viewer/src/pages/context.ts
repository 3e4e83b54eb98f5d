import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Session } from "../api/types";
import { type Language, say, type WordKey } from "../words";

export interface Page {
  session: Session;
  language: Language;
  /** What to do about a request that failed; a sentence for the user, where it is theirs to know. */
  failed: (error: unknown) => string;
}

export const PageContext = createContext<Page | null>(null);

export function usePage(): Page & { text: (key: WordKey, values?: Record<string, string | number>) => string } {
  const page = useContext(PageContext);
  if (page === null) throw new Error("used outside the page");
  return { ...page, text: (key, values) => say(page.language, key, values) };
}
