import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { api, isUser, Refusal } from "../api/client";
import { readDraft, removeDraft, writeDraft } from "../api/drafts";
import type { Case } from "../api/types";
import type { Reading } from "../state/reading";
import { EMPTY } from "../state/reading";
import {
  entered,
  failed as withTrouble,
  insisted,
  isSaved,
  kept,
  outdated,
  type Saving,
  savedAt,
  sending,
  type State,
} from "../state/saving";
import { usePage } from "./context";

const WAIT_MILLISECONDS = 600;
const AGAIN_MILLISECONDS = 3000;

/** What a reader entered last: what is not yet saved, or else what the service has. */
export function firstReading(found: Case, reader: string): { reading: Reading; saving: Saving; isEarlier: boolean } {
  const { mine } = found;
  const draft = readDraft(reader, found.key);
  const last = draft?.next ?? draft?.sent ?? null;
  const isOfNow = last === null ? mine === null || mine.revision === found.revision : last.revision === found.revision;
  const content = last?.reading ?? mine?.content ?? EMPTY;
  const saving = { ...savedAt(mine?.id ?? 0), ...(draft ?? {}) };
  // Stacks are counted anew when images come: places of an earlier state mean nothing in this one.
  return { reading: isOfNow ? content : { ...EMPTY, comment: content.comment }, saving, isEarlier: !isOfNow };
}

export interface Saver {
  saving: Saving;
  /** Whether the browser's store could not take what is not yet saved. */
  isOnlyHere: boolean;
  enter: (reading: Reading, state: State) => void;
  /** Of what is outdated: count it all the same. */
  insist: () => Promise<void>;
  discard: () => void;
}

/** Sends what is entered, a moment later, until the service has it. */
export function useSaver(found: Case, first: Saving, reload: (isAnew: boolean) => void): Saver {
  const { session, failed, text } = usePage();
  const [saving, setSaving] = useState(first);
  const [isOnlyHere, setOnlyHere] = useState(false);
  const now = useRef(first);
  const timer = useRef(0);
  const isBusy = useRef(false);
  const isHere = useRef(true);
  const { key, revision } = found;

  const become = useCallback(
    (next: Saving): void => {
      now.current = next;
      setSaving(next);
      if (isSaved(next)) removeDraft(session.name, key);
      const { after, sent, next: waiting } = next;
      setOnlyHere(!isSaved(next) && !writeDraft(session.name, key, { after, sent, next: waiting }));
    },
    [session.name, key],
  );

  const send = useCallback(async (): Promise<void> => {
    if (isBusy.current || isSaved(now.current) || now.current.outdated) return;
    // Who signs in after somebody else does not send what that one entered: it waits in the browser.
    if (!isUser(session.name)) {
      if (isHere.current) later(AGAIN_MILLISECONDS);
      return;
    }
    isBusy.current = true;
    become(sending(now.current));
    const { sent, after } = now.current;
    let wait = WAIT_MILLISECONDS;
    try {
      if (sent !== null) become(kept(now.current, (await api.read(key, after, sent)).id));
      reload(false);
    } catch (error) {
      const said = failed(error);
      wait = AGAIN_MILLISECONDS;
      // What the service will never take is not sent again and again.
      const isLasting = error instanceof Refusal && [403, 404, 409, 413, 422].includes(error.status);
      become(isLasting ? outdated(now.current, said || text("removed")) : withTrouble(now.current, said));
    }
    isBusy.current = false;
    if (!isSaved(now.current)) later(wait);
  }, [become, key, failed, session.name]);

  const later = (wait: number): void => {
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => void send(), wait);
  };

  useEffect(() => {
    isHere.current = true;
    if (!isSaved(now.current)) later(0);
    const leave = (): void => void send();
    window.addEventListener("pagehide", leave);
    return () => {
      isHere.current = false;
      window.removeEventListener("pagehide", leave);
      clearTimeout(timer.current);
      void send();
    };
  }, [send]);

  return {
    saving,
    isOnlyHere,
    enter: (reading, state) => {
      become(entered(now.current, { nonce: crypto.randomUUID(), revision, state, reading }));
      later(state === "final" ? 0 : WAIT_MILLISECONDS);
    },
    insist: async () => {
      try {
        become(insisted(now.current, (await api.case(key)).mine?.id ?? 0, crypto.randomUUID()));
        later(0);
      } catch (error) {
        become(outdated(now.current, failed(error)));
      }
    },
    discard: () => {
      become(savedAt(now.current.after));
      reload(true);
    },
  };
}
