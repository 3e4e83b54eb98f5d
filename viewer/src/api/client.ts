import type { Draft } from "../saving";
import { decodeFrame, type Frame } from "./frames";
import type { Case, CaseRow, OverlayFacts, Session, StackFacts } from "./types";

/** Why a request failed: `status` is that of HTTP, and 0 where nobody answered. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const TOKEN = "hounsfield-token";

// Whose the token is, once the service has said so.
let user = "";

/** Whether what a user entered can be sent: the token is that of the same user. */
export const isUser = (name: string): boolean => user === name;

export function setToken(token: string): void {
  user = "";
  if (token === "") sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, token);
}

async function ask(path: string, options: RequestInit = {}): Promise<Response> {
  const token = sessionStorage.getItem(TOKEN);
  const headers = new Headers(options.headers);
  if (token !== null) headers.set("Authorization", `Bearer ${token}`);
  let response: Response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Refusal(0, "");
  }
  if (response.ok) return response;
  const said: unknown = await response.json().catch(() => null);
  const detail = typeof said === "object" && said !== null && "detail" in said ? said.detail : "";
  throw new Refusal(response.status, typeof detail === "string" ? detail : "");
}

async function json<T>(path: string, options?: RequestInit): Promise<T> {
  return (await ask(path, options)).json() as Promise<T>;
}

const post = (content: unknown): RequestInit => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(content),
});

export const api = {
  session: async () => {
    const session = await json<Session>("api/session");
    user = session.name;
    return session;
  },
  cases: (after: number) => json<{ time: number; count: number; cases: CaseRow[] }>(`api/cases?after=${after}`),
  case: (key: string) => json<Case>(`api/cases/${key}`),
  stack: (key: string, revision: number, stack: number) =>
    json<StackFacts & { count: number }>(`api/cases/${key}/${revision}/stacks/${stack}`),
  frame: async (key: string, revision: number, stack: number, frame: number): Promise<Frame> =>
    decodeFrame(await (await ask(`api/cases/${key}/${revision}/stacks/${stack}/frames/${frame}`)).arrayBuffer()),
  overlay: (key: string, job: number, prediction: number, kind: string, label: string) =>
    json<OverlayFacts>(`api/cases/${key}/answers/${job}/${prediction}/${kind}?label=${encodeURIComponent(label)}`),
  layer: async (key: string, name: string, layer: number, frame: number): Promise<ArrayBuffer> =>
    (await ask(`api/cases/${key}/overlays/${name}/${layer}/${frame}`)).arrayBuffer(),
  card: async (model: string) => (await ask(`api/models/${encodeURIComponent(model)}/card`)).text(),
  upload: (model: string, files: File[]) => {
    const body = new FormData();
    for (const file of files) body.append("uploads", file);
    return json<{ job: number }>(`api/models/${encodeURIComponent(model)}/jobs?kept=true`, { method: "POST", body });
  },
  read: (key: string, after: number, { nonce, revision, state, reading }: Draft) =>
    json<{ id: number }>(`api/cases/${key}/readings`, post({ nonce, revision, state, after, content: reading })),
};
