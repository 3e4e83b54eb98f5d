// How what a reader enters reaches the service: nothing is given up before the service has said that it is kept.
import type { Draft, Unsaved } from "../saving";

export type { Draft, State, Unsaved } from "../saving";

export interface Saving extends Unsaved {
  /** Why the last try failed; "" where it did not. */
  trouble: string;
  /** Whether the service has another step of this reader, or another state of the case: the reader has to decide. */
  outdated: boolean;
}

export const savedAt = (after: number): Saving => ({ after, sent: null, next: null, trouble: "", outdated: false });

export const isSaved = ({ sent, next }: Unsaved): boolean => sent === null && next === null;

/** Something was entered. What was finished does not become a draft again by being entered once more unchanged. */
export function entered(saving: Saving, draft: Draft): Saving {
  const last = saving.next ?? saving.sent;
  if (draft.state === "draft" && last?.state === "final" && last.reading === draft.reading) return saving;
  return { ...saving, next: { ...draft, nonce: saving.next?.nonce ?? draft.nonce } };
}

/** What has to be sent now is on its way. */
export const sending = (saving: Saving): Saving =>
  saving.sent === null ? { ...saving, sent: saving.next, next: null } : saving;

/** The service has kept what was sent. */
export const kept = (saving: Saving, number: number): Saving => ({
  after: number,
  sent: null,
  next: saving.next,
  trouble: "",
  outdated: false,
});

export const failed = (saving: Saving, trouble: string): Saving => ({ ...saving, trouble });

export const outdated = (saving: Saving, trouble: string): Saving => ({ ...saving, trouble, outdated: true });

/** What was entered last is to count, after all that the service has. */
export function insisted(saving: Saving, after: number, nonce: string): Saving {
  const last = saving.next ?? saving.sent;
  return { ...savedAt(after), next: last === null ? null : { ...last, nonce } };
}
