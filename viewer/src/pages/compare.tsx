import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { api } from "../api/client";
import type { Case, CaseRow } from "../api/types";
import { linkedFrame, type Placed } from "../state/linking";
import { atFrame, atStack, firstScreen, type Screen, withView } from "../state/screen";
import { usePage } from "./context";
import { FRAMES, Pane } from "./pane";
import { isoDate, rowsNow } from "./worklist";

/** What stands beside the image: a stack of this case, or of another one of the patient. */
export interface Beside {
  key: string;
  revision: number;
  stack: number;
  stacks: number;
}

interface CompareBarProps {
  found: Case;
  beside: Beside | null;
  setBeside: (beside: Beside | null) => void;
  linked: boolean;
  setLinked: (linked: boolean) => void;
  /** The stack that is looked at, which is not compared with itself. */
  shown: number;
}

/** Chooses what to compare with. */
export function CompareBar({ found, beside, setBeside, linked, setLinked, shown }: CompareBarProps) {
  const { text, failed } = usePage();
  const [priors, setPriors] = useState<CaseRow[]>([]);
  const [chosen, setChosen] = useState<Case | null>(null);
  useEffect(() => {
    let alive = true;
    rowsNow()
      .then((rows) => alive && setPriors(priorsOf(found, rows)))
      .catch(failed);
    return () => {
      alive = false;
    };
  }, [found.key]);
  const choose = async (key: string): Promise<void> => {
    try {
      const next = key === "" ? null : key === found.key ? found : await api.case(key);
      setChosen(next);
      setBeside(next === null || next.stacks.length === 0 ? null : besideOf(next, next === found && shown === 0 ? 1 : 0));
    } catch (error) {
      failed(error);
    }
  };
  // It is there before the earlier studies are known, and without any, so that the image does not move under the reader.
  return (
    <div class="toolbar">
      <label class="check">
        {text("compareWith")}
        <select
          value={chosen?.key ?? ""}
          disabled={found.stacks.length < 2 && priors.length === 0}
          onChange={(event) => void choose(event.currentTarget.value)}
        >
          <option value="">{text("nothing")}</option>
          {found.stacks.length > 1 && <option value={found.key}>{text("series")}</option>}
          {priors.map((row) => (
            <option key={row.key} value={row.key}>
              {[isoDate(row.date), row.modality, row.description].filter(Boolean).join(" ")}
            </option>
          ))}
        </select>
      </label>
      {chosen !== null && beside !== null && (
        <>
          <select
            aria-label={text("series")}
            value={beside.stack}
            onChange={(event) => setBeside(besideOf(chosen, Number(event.currentTarget.value)))}
          >
            {chosen.stacks.map((stack, number) => (
              <option key={number} value={number}>
                {[number + 1, stack.modality, stack.words].filter(Boolean).join(" ")}
              </option>
            ))}
          </select>
          <label class="check">
            <input type="checkbox" checked={linked} onChange={(event) => setLinked(event.currentTarget.checked)} />
            {text("linked")}
          </label>
        </>
      )}
    </div>
  );
}

const besideOf = (found: Case, stack: number): Beside => ({
  key: found.key,
  revision: found.revision,
  stack,
  stacks: found.stacks.length,
});

/** Other cases of the patient, the latest first. */
const priorsOf = (found: Case, rows: readonly CaseRow[]): CaseRow[] =>
  rows
    .filter((row) => found.pseudonym !== "" && row.pseudonym === found.pseudonym && row.key !== found.key)
    .sort((one, other) => other.date.localeCompare(one.date));

interface BesidePaneProps {
  found: Case;
  main: Screen;
  beside: Beside;
  linked: boolean;
}

/** The other image, whose slices follow those of the main one. */
export function BesidePane({ found, main, beside, linked }: BesidePaneProps) {
  const { text } = usePage();
  const [screen, setScreen] = useState<Screen>(() => atStack(firstScreen(beside.stacks), beside.stack));
  const change = useCallback((next: (screen: Screen) => Screen) => setScreen(next), []);
  const given = useRef({ field: { rows: 1, columns: 1 }, fit: 1 });
  const { frame, stack } = main.view;
  useEffect(() => {
    if (!linked) return;
    const here = { number: frame, affine: affineOf(`${found.key}/${found.revision}/${stack}/${frame}`) };
    change((now) => {
      const others = placed(`${beside.key}/${beside.revision}/${now.view.stack}`, now.count);
      return atFrame(now, linkedFrame(here, main.count, others, now.count));
    });
  }, [linked, frame, stack, main.count, screen.count]);
  // Of one modality, the same window makes them alike.
  const isSame = beside.key === found.key && screen.view.stack === stack;
  useEffect(() => {
    if (isSame && main.view.window !== null) change((now) => withView(now, { window: main.view.window }));
  }, [isSame, main.view.window]);
  return (
    <Pane
      kase={beside.key}
      revision={beside.revision}
      screen={screen}
      change={change}
      found={[]}
      label={text("compare")}
      given={given}
    />
  );
}

const affineOf = (key: string): number[][] | null => FRAMES.now(key)?.affine ?? null;

const placed = (stack: string, count: number): Placed[] =>
  Array.from({ length: count }, (_, number) => ({ number, affine: affineOf(`${stack}/${number}`) })).filter(
    ({ affine }) => affine !== null,
  );
