import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api } from "../api/client";
import type { CaseRow } from "../api/types";
import { choices, emptiness, type Filters, hasNews, listed, merged, NO_FILTERS, stateOf, urgencyOf } from "../state/worklist";
import type { WordKey } from "../words";
import { usePage } from "./context";

const POLL_MILLISECONDS = 3000;
const SHOWN = 100;
// Clocks of two processes may differ a little, and records be written in another order.
const OVERLAP_SECONDS = 2;

// The list stays as it was while a case is looked at.
let kept: { rows: CaseRow[]; latest: number } = { rows: [], latest: 0 };
let filters: Filters = NO_FILTERS;

export function Worklist() {
  const { text } = usePage();
  const [rows, trouble] = useCases();
  const [chosen, setChosen] = useState(filters);
  const [most, setMost] = useState(SHOWN);
  filters = chosen;
  const set = (change: Partial<Filters>): void => {
    setChosen({ ...chosen, ...change });
    setMost(SHOWN);
  };
  const found = useMemo(() => listed(rows ?? [], chosen), [rows, chosen]);
  return (
    <main class="worklist">
      <header>
        <h1>{text("worklist")}</h1>
        <OpenFiles />
      </header>
      {trouble !== "" && (
        <p class="notice" role="alert">
          {trouble}
        </p>
      )}
      <FilterBar rows={rows ?? []} chosen={chosen} set={set} />
      {rows === null ? (
        <p class="message">{text("loading")}</p>
      ) : (
        <Table rows={found.slice(0, most)} reason={emptiness(rows, chosen)} />
      )}
      <p class="small" role="status">
        {rows !== null && text("shown", { shown: Math.min(most, found.length), all: rows.length })}{" "}
        {found.length > most && (
          <button type="button" onClick={() => setMost(most + SHOWN)}>
            {text("more")}
          </button>
        )}
      </p>
    </main>
  );
}

/** All cases, kept up to date. */
function useCases(): [CaseRow[] | null, string] {
  const { failed } = usePage();
  const [rows, setRows] = useState<CaseRow[] | null>(kept.rows.length > 0 ? kept.rows : null);
  const [trouble, setTrouble] = useState("");
  useEffect(() => {
    let alive = true;
    let timer = 0;
    const look = async (): Promise<void> => {
      try {
        const { time, count, cases } = await api.cases(Math.max(0, kept.latest - OVERLAP_SECONDS));
        let next = kept.latest === 0 ? cases : merged(kept.rows, cases);
        // Some were removed.
        if (next.length !== count && kept.latest > 0) next = (await api.cases(0)).cases;
        if (!alive) return;
        const isSame = next.length === kept.rows.length && !hasNews(kept.rows, cases);
        kept = { rows: isSame && kept.latest > 0 ? kept.rows : next, latest: time };
        setRows(kept.rows);
        setTrouble("");
      } catch (error) {
        if (alive) setTrouble(failed(error));
      }
      if (alive) timer = window.setTimeout(() => void look(), POLL_MILLISECONDS);
    };
    void look();
    return () => {
      alive = false;
      clearTimeout(timer);
    };
  }, []);
  return [rows, trouble];
}

/** The cases as they were listed last, or are now. */
export async function rowsNow(): Promise<readonly CaseRow[]> {
  return kept.rows.length > 0 ? kept.rows : (await api.cases(0)).cases;
}

/** Forget what was listed, as when another user signs in. */
export function forgetCases(): void {
  kept = { rows: [], latest: 0 };
  filters = NO_FILTERS;
}

const STATES = ["arriving", "predicting", "ready", "left", "failed"] as const;

interface FilterBarProps {
  rows: readonly CaseRow[];
  chosen: Filters;
  set: (change: Partial<Filters>) => void;
}

function FilterBar({ rows, chosen, set }: FilterBarProps) {
  const { text } = usePage();
  const modalities = useMemo(() => choices(rows, (row) => [row.modality]), [rows]);
  const findings = useMemo(() => choices(rows, (row) => row.answers.flatMap((answer) => answer.findings)), [rows]);
  return (
    <form class="filters" onSubmit={(event) => event.preventDefault()}>
      <input
        type="search"
        aria-label={text("search")}
        placeholder={text("search")}
        value={chosen.search}
        onInput={(event) => set({ search: event.currentTarget.value })}
      />
      <Choice
        label={text("modality")}
        value={chosen.modality}
        all={text("allModalities")}
        options={modalities.map((each) => [each, each])}
        choose={(modality) => set({ modality })}
      />
      <Choice
        label={text("state")}
        value={chosen.state}
        all={text("allStates")}
        options={STATES.map((each) => [each, text(each)])}
        choose={(state) => set({ state: state as Filters["state"] })}
      />
      <Choice
        label={text("finding")}
        value={chosen.finding}
        all={text("allFindings")}
        options={findings.map((each) => [each, each])}
        choose={(finding) => set({ finding })}
      />
      <Choice
        label={text("readState")}
        value={chosen.read}
        options={[
          ["open", text("toRead")],
          ["final", text("finalByMe")],
          ["all", text("allRead")],
        ]}
        choose={(read) => set({ read: read as Filters["read"] })}
      />
      <Choice
        label={text("order")}
        value={chosen.order}
        options={[
          ["urgency", text("byUrgency")],
          ["teaching", text("byTeaching")],
          ["newest", text("byNewest")],
          ["oldest", text("byOldest")],
        ]}
        choose={(order) => set({ order: order as Filters["order"] })}
      />
      <label class="check">
        <input
          type="checkbox"
          checked={chosen.warned}
          onChange={(event) => set({ warned: event.currentTarget.checked })}
        />
        {text("onlyWarned")}
      </label>
    </form>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  all?: string;
  options: (readonly [string, string])[];
  choose: (value: string) => void;
}

function Choice({ label, value, all, options, choose }: ChoiceProps) {
  return (
    <select aria-label={label} value={value} onChange={(event) => choose(event.currentTarget.value)}>
      {all !== undefined && <option value="">{all}</option>}
      {options.map(([key, said]) => (
        <option key={key} value={key}>
          {said}
        </option>
      ))}
    </select>
  );
}

function Table({ rows, reason }: { rows: readonly CaseRow[]; reason: WordKey }) {
  const { text } = usePage();
  const columns: WordKey[] = ["urgency", "patient", "modality", "study", "findings", "warnings", "state", "readState", "received"];
  if (rows.length === 0) return <p class="message">{text(reason)}</p>;
  return (
    <div class="table">
      <table>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column} scope="col">
                {text(column)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <Row key={row.key} row={row} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

const URGENCIES = { finding: "urgencyFinding", unclear: "urgencyUnclear", none: "urgencyNone" } as const;

function Row({ row }: { row: CaseRow }) {
  const { text } = usePage();
  const urgency = urgencyOf(row);
  const state = stateOf(row);
  const isDone = state === "ready";
  const warned = (["unlike", "unsure"] as const).filter((kind) => row.answers.some((answer) => answer[kind]));
  const others = row.readers - (row.mine === "final" ? 1 : 0);
  const hasFailed = row.answers.some((answer) => answer.failed > 0);
  return (
    <tr>
      <td>
        {row.hidden && <span class="flag blind">{text("blindCase")}</span>}
        {isDone && !row.hidden && <span class={`flag ${urgency}`}>{text(URGENCIES[urgency])}</span>}
      </td>
      <td>
        <a href={`#/case/${row.key}`}>{patientText(row, false) || row.description || row.key}</a>
      </td>
      <td>{row.modality}</td>
      <td>{[row.patient === null && row.pseudonym === "" ? "" : row.description, row.body_part, isoDate(row.date)].filter(Boolean).join(" · ")}</td>
      <td>{row.answers.flatMap((answer) => answer.findings).join(", ")}</td>
      <td>
        {warned.map((kind) => (
          <span key={kind} class="flag unclear">
            {text(kind)}
          </span>
        ))}
        {hasFailed && <span class="flag unclear">{text("someFailed")}</span>}
      </td>
      <td>{text(state)}</td>
      <td>
        {[
          row.mine === null ? "" : text(row.mine === "final" ? "finalByMe" : "draftByMe"),
          others > 0 ? text("readByOthers", { count: others }) : "",
        ]
          .filter(Boolean)
          .join(", ")}
      </td>
      <td>
        <time dateTime={new Date(1000 * row.received).toISOString()}>
          {localTime(row.received)}
        </time>
      </td>
    </tr>
  );
}

/** DICOM's date in the form of ISO 8601. */
export const isoDate = (date: string): string => date.replace(/^(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3");

const localTime = (seconds: number): string => {
  const here = new Date(1000 * seconds - 60_000 * new Date(1000 * seconds).getTimezoneOffset());
  return here.toISOString().slice(0, 16).replace("T", " ");
};

type Named = Pick<CaseRow, "patient" | "pseudonym" | "description" | "key">;

/** Whose images these are: the patient for who may know, and else a pseudonym. */
export function patientText(row: Named, isLong: boolean): string {
  if (row.patient === null) return row.pseudonym;
  const name = row.patient.name.replaceAll("^", " ").trim();
  const more = [row.patient.id, isoDate(row.patient.birth), row.patient.sex].filter(Boolean).join(", ");
  return [name, isLong || name === "" ? more : row.patient.id].filter(Boolean).join(isLong ? " · " : ", ");
}

/** Files that are predicted and can be read here. */
function OpenFiles() {
  const { text, session, failed } = usePage();
  const [model, setModel] = useState(session.models[0]?.name ?? "");
  const [said, setSaid] = useState("");
  const input = useRef<HTMLInputElement>(null);
  const send = async (): Promise<void> => {
    const files = Array.from(input.current?.files ?? []);
    if (files.length === 0) return;
    setSaid(text("uploading"));
    try {
      await api.upload(model, files);
      setSaid("");
    } catch (error) {
      setSaid(failed(error));
    }
    if (input.current !== null) input.current.value = "";
  };
  return (
    <div class="open">
      {session.models.length > 1 && (
        <Choice
          label={text("openFilesFor")}
          value={model}
          options={session.models.map((each) => [each.name, each.name])}
          choose={setModel}
        />
      )}
      <label class="button">
        {text("openFiles")}
        <input ref={input} class="hidden" type="file" multiple onChange={() => void send()} />
      </label>
      <span role="status">{said}</span>
    </div>
  );
}
