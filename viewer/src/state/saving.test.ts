import { expect, it } from "vitest";
import { EMPTY } from "./reading";
import { type Draft, entered, failed, insisted, isSaved, kept, outdated, savedAt, sending } from "./saving";

const draft = (comment: string, nonce: string): Draft => ({
  nonce,
  revision: 1,
  state: "draft",
  reading: { ...EMPTY, comment },
});

it("what is entered before it is sent is one step", () => {
  const saving = entered(entered(savedAt(4), draft("a", "t1")), draft("ab", "t2"));
  expect(saving).toMatchObject({ after: 4, sent: null, next: { nonce: "t1", reading: { comment: "ab" } } });
  expect(kept(sending(saving), 5)).toEqual(savedAt(5));
});

it("what is entered while a step is on its way is the next one, and waits for it", () => {
  const saving = entered(sending(entered(savedAt(0), draft("a", "t1"))), draft("ab", "t2"));
  expect(saving).toMatchObject({ sent: { nonce: "t1" }, next: { nonce: "t2" } });
  expect(sending(saving)).toEqual(saving);
  expect(kept(saving, 1)).toMatchObject({ after: 1, sent: null, next: { nonce: "t2" } });
});

it("what was not confirmed is sent again as it was, since it may have arrived", () => {
  const lost = failed(sending(entered(savedAt(0), draft("a", "t1"))), "no answer");
  const more = sending(entered(lost, draft("ab", "t2")));
  expect(more).toMatchObject({ sent: { nonce: "t1", reading: { comment: "a" } }, next: { reading: { comment: "ab" } } });
  expect(isSaved(more)).toBe(false);
});

it("what is outdated is kept until the reader decides", () => {
  const lost = entered(outdated(sending(entered(savedAt(0), draft("a", "t1"))), "elsewhere"), draft("ab", "t2"));
  expect(lost.outdated).toBe(true);
  const next = insisted(lost, 9, "t3");
  expect(next).toMatchObject({ after: 9, sent: null, next: { nonce: "t3", reading: { comment: "ab" } }, outdated: false });
});

it("what was finished stays finished when the same is entered again, and is open after a change", () => {
  const final = { ...draft("a", "t1"), state: "final" as const };
  const finished = entered(savedAt(0), final);
  expect(entered(finished, { ...final, state: "draft" })).toBe(finished);
  expect(entered(sending(finished), { ...final, state: "draft" }).next).toBeNull();
  expect(entered(finished, { ...final, reading: { ...final.reading }, state: "draft" }).next?.state).toBe("draft");
});
