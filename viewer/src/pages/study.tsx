import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, Refusal } from "../api/client";
import type { Frame } from "../api/frames";
import type { Case, ModelInfo, Prediction, Session } from "../api/types";
import { COMMANDS, may } from "../commands/table";
import { regionLayers } from "../render/regions";
import { boxesOf } from "../state/opinions";
import type { Mark, Reading } from "../state/reading";
import { atFrame, atStack, firstScreen, isInFrame, type Screen, withView } from "../state/screen";
import type { Window } from "../state/windows";
import { Answers } from "./answers";
import { type Beside, BesidePane, CompareBar } from "./compare";
import { usePage } from "./context";
import { LabelBar, ReadingForm } from "./correct";
import { Keys } from "./keys";
import { type Overlay, useLayers } from "./overlays";
import { FRAMES, Pane } from "./pane";
import { firstReading, useSaver } from "./saving";
import { isoDate, patientText } from "./worklist";

const POLL_MILLISECONDS = 5000;

/** One case: its images, what the models say, and the tools. */
export function Study({ kase }: { kase: string }) {
  const { text } = usePage();
  const { session } = usePage();
  const { found, trouble, turn, reload } = useCase(kase);
  if (found === null && trouble === "") return <p class="message">{text("loading")}</p>;
  if (found === null)
    return (
      <p class="message" role="alert">
        {trouble}{" "}
        <a href="#/" class="button">
          ← {text("back")}
        </a>
      </p>
    );
  const first = firstReading(found, session.name);
  // Images are shown once all of them are there.
  return <Opened key={`${found.key}/${found.revision}/${found.complete}/${turn}`} {...{ found, trouble, reload, first }} />;
}

interface OpenedProps {
  found: Case;
  trouble: string;
  /** Read the case again: in its place where nothing is to be kept of this one. */
  reload: (isAnew: boolean) => void;
  first: ReturnType<typeof firstReading>;
}

function Opened({ found, trouble, reload, first }: OpenedProps) {
  const { text, session } = usePage();
  const [begun] = useState(first);
  const [screen, setScreen] = useState<Screen>(() => ({
    ...firstScreen(found.stacks.length, labelsOf(session, found)),
    reading: begun.reading,
  }));
  const change = useCallback((next: (screen: Screen) => Screen) => setScreen(next), []);
  const saver = useSaver(found, begun.saving, reload);
  const entered = useRef(begun.reading);
  // At once with the page that shows it: an end of the reading that is entered after it stays the last word.
  useLayoutEffect(() => {
    if (screen.reading === entered.current) return;
    entered.current = screen.reading;
    saver.enter(screen.reading, "draft");
  }, [screen.reading]);
  const [boxes, setBoxes] = useState(true);
  const [keys, setKeys] = useState(false);
  const [beside, setBeside] = useState<Beside | null>(null);
  const [linked, setLinked] = useState(true);
  const [overlay, setOverlay] = useState<Overlay | null>(null);
  const given = useRef({ field: { rows: 1, columns: 1 }, fit: 1 });
  const { view } = screen;
  const marks = useMemo(
    () => (boxes ? foundMarks(found, screen.reading, view.stack, view.frame) : []),
    [found, boxes, screen.reading, view.stack, view.frame],
  );
  const layers = useLayers(found, overlay, view);
  const layersOf = useCallback(
    (frame: Frame) => [...layers, ...regionLayers(screen, frame, session.models)],
    [layers, screen.reading.regions, screen.stroke, view.stack, view.frame, session.models],
  );
  const show = (prediction: Pick<Prediction, "stack" | "frame">, slice?: number): void => {
    if (prediction.stack === null) return;
    const stack = prediction.stack;
    const frame = prediction.frame ?? slice ?? 0;
    change((now) => {
      if (now.view.stack === stack) return atFrame(now, frame);
      const next = atStack(now, stack);
      return { ...withView(next, { frame }), count: frame + 1 };
    });
  };
  return (
    <main class="study">
      <header>
        <a href="#/" class="button">
          ← {text("back")}
        </a>
        <h1>
          {patientText(found, true)} <small>{[found.description, isoDate(found.date)].filter(Boolean).join(" · ")}</small>
        </h1>
        <button type="button" onClick={() => setKeys(true)}>
          {text("keys")}
        </button>
      </header>
      {trouble !== "" && (
        <p class="notice" role="alert">
          {trouble}{" "}
          <button type="button" onClick={() => reload(true)}>
            {text("reload")}
          </button>
        </p>
      )}
      <div class="room">
        <Stacks found={found} chosen={view.stack} choose={(stack) => change((now) => atStack(now, stack))} />
        <section class="images" aria-label={text("viewer")}>
          {found.stacks.length === 0 ? (
            <p class="message">{text(found.complete ? "noImages" : "stillArriving")}</p>
          ) : (
            <>
              <Toolbar screen={screen} change={change} given={given} own={ownWindows(found, view)} role={session.role} />
              <LabelBar models={modelsOf(session, found)} screen={screen} change={change} />
              <CompareBar {...{ found, beside, setBeside, linked, setLinked }} shown={view.stack} />
              <div class="panes">
                <Pane
                  kase={found.key}
                  revision={found.revision}
                  screen={screen}
                  change={change}
                  found={marks}
                  label={text("viewer")}
                  given={given}
                  layersOf={layersOf}
                />
                {beside !== null && (
                  <BesidePane key={`${beside.key}/${beside.stack}`} main={screen} {...{ found, beside, linked }} />
                )}
              </div>
            </>
          )}
        </section>
        <aside>
          <Answers {...{ found, screen, change, show, boxes, setBoxes, overlay, setOverlay }} />
          <ReadingForm found={found} screen={screen} change={change} saver={saver} isEarlier={begun.isEarlier} />
        </aside>
      </div>
      {keys && <Keys close={() => setKeys(false)} />}
    </main>
  );
}

/** The case, read again now and then; a new state of it is not put in place of the one that is looked at. */
interface Looked {
  found: Case | null;
  trouble: string;
  /** Counts how often it was read anew. */
  turn: number;
  reload: (isAnew: boolean) => void;
}

function useCase(kase: string): Looked {
  const { failed, text } = usePage();
  const [found, setFound] = useState<Case | null>(null);
  const [trouble, setTrouble] = useState("");
  const [turn, setTurn] = useState(0);
  const again = useRef<() => void>(() => undefined);
  useEffect(() => {
    let alive = true;
    let current: Case | null = null;
    const look = async (): Promise<void> => {
      try {
        const next = await api.case(kase);
        if (!alive) return;
        const isSame = current === null || current.revision === next.revision;
        setTrouble(isSame ? "" : text("changedStudy"));
        if (isSame && JSON.stringify(current) !== JSON.stringify(next)) {
          current = next;
          setFound(next);
        }
      } catch (error) {
        if (alive) setTrouble(error instanceof Refusal && error.status === 404 ? text("removed") : failed(error));
      }
    };
    again.current = () => void look();
    if (turn > 0) setFound(null);
    void look();
    const timer = setInterval(() => void look(), POLL_MILLISECONDS);
    return () => {
      alive = false;
      clearInterval(timer);
    };
  }, [kase, turn]);
  const reload = useCallback((isAnew: boolean) => (isAnew ? setTurn((now) => now + 1) : again.current()), []);
  return { found, trouble, turn, reload };
}

/** The boxes of the models that lie in a frame, without those that the reader has taken over. */
export function foundMarks(found: Case, reading: Reading, stack: number, frame: number): Mark[] {
  const own = new Set(reading.marks.map((mark) => mark.id));
  return found.answers.flatMap((answer) =>
    answer.predictions
      .filter((prediction) => prediction.stack === stack && !isElsewhere(found, prediction))
      .flatMap((prediction) =>
        boxesOf(answer.model, prediction).map((box, index) => ({
          ...box,
          label: `${box.label} ${(100 * (prediction.findings?.[index]?.score ?? 0)).toFixed(0)} %`,
        })),
      )
      .filter((box) => !own.has(box.id) && isInFrame(box, frame)),
  );
}

const modelsOf = (session: Session, found: Case): ModelInfo[] =>
  session.models.filter((model) =>
    found.answers.some((answer) => answer.model === model.name && answer.state !== "refused"),
  );

/** What is drawn first is called by the first label of a model that draws. */
function labelsOf(session: Session, found: Case): { model: string; label: string } {
  const model = modelsOf(session, found).find(({ family }) => family === "boxes" || family === "masks");
  return { model: model?.name ?? "", label: model?.labels[0] ?? "" };
}

/** Whether a prediction speaks of other slices than those that are shown. */
export const isElsewhere = (found: Case, prediction: Prediction): boolean =>
  prediction.frame === null && prediction.stack !== null && (found.stacks[prediction.stack]?.resampled ?? false);

function Stacks({ found, chosen, choose }: { found: Case; chosen: number; choose: (stack: number) => void }) {
  const { text } = usePage();
  return (
    <nav class="stacks" aria-label={text("series")}>
      {found.stacks.map((stack, number) => (
        <button
          key={number}
          type="button"
          aria-current={number === chosen}
          title={stack.note}
          onClick={() => choose(number)}
        >
          <strong>
            {number + 1} {stack.modality ?? ""}
          </strong>
          <span>{stack.words}</span>
          {stack.files > 1 && <span>{text("slices", { count: stack.files })}</span>}
        </button>
      ))}
    </nav>
  );
}

const ownWindows = (found: Case, view: Screen["view"]): Window[] =>
  FRAMES.now(`${found.key}/${found.revision}/${view.stack}/${view.frame}`)?.windows.slice(0, 4) ?? [];

interface ToolbarProps {
  screen: Screen;
  change: (next: (screen: Screen) => Screen) => void;
  given: { current: { field: { rows: number; columns: number }; fit: number } };
  own: Window[];
  role: "reader" | "annotator" | "admin";
}

const NO_PRESET = "";

function Toolbar({ screen, change, given, own, role }: ToolbarProps) {
  const { text } = usePage();
  const usable = COMMANDS.filter((command) => may(role, command.role));
  const run = (name: string): void => {
    const command = usable.find((each) => each.name === name);
    change((now) => command?.run(now, { ...given.current, id: crypto.randomUUID() }) ?? now);
  };
  return (
    <div class="toolbar" role="toolbar" aria-label={text("tools")}>
      {(["tool", "view", "edit"] as const).map((group) => (
        <span class="group" key={group}>
          {usable
            .filter((command) => command.group === group)
            .map((command) => (
              <button
                key={command.name}
                type="button"
                title={`${text(command.word)} (${command.keys[0] ?? ""})`}
                aria-pressed={group === "tool" ? command.name === `tool ${screen.tool}` : undefined}
                disabled={command.run(screen, { ...given.current, id: "" }) === null}
                onClick={() => run(command.name)}
              >
                {text(command.word)}
              </button>
            ))}
        </span>
      ))}
      <select
        aria-label={text("presets")}
        value={NO_PRESET}
        onChange={(event) => {
          const { value } = event.currentTarget;
          event.currentTarget.value = NO_PRESET;
          const chosen = own[Number(value)];
          if (value in own && chosen !== undefined) change((now) => withView(now, { window: chosen }));
          else run(value);
        }}
      >
        <option value={NO_PRESET}>{text("presets")}</option>
        {own.map((window, index) => (
          <option key={index} value={index}>
            {text("ownWindow")}: {window.map((part) => Number(part.toPrecision(4))).join(" / ")}
          </option>
        ))}
        {usable
          .filter((command) => command.group === "preset")
          .map((command) => (
            <option key={command.name} value={command.name}>
              {text(command.word)}
            </option>
          ))}
      </select>
    </div>
  );
}
