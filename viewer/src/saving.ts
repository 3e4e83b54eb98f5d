// What lies in the browser until the service has it.
import type { Reading } from "./reading";

export type State = "draft" | "final";

export interface Draft {
  /** By which the service knows a step that is sent again. */
  nonce: string;
  revision: number;
  state: State;
  reading: Reading;
}

export interface Unsaved {
  /** The number of the step that it is based on: the last that the service has. */
  after: number;
  /** What was sent and not yet confirmed: sent again as it was, since it may have arrived. */
  sent: Draft | null;
  /** What was entered since. */
  next: Draft | null;
}
