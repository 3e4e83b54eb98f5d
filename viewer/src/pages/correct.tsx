import type { ComponentChildren } from "preact";
import type { Case, ModelInfo, Prediction } from "../api/types";
import { may } from "../commands/table";
import { accepted, graded, isIn, labelled, opinionKey, opinionOf, rejected, takenOver } from "../state/opinions";
import { type Edit, edited, type Opinion } from "../state/reading";
import type { Screen } from "../state/screen";
import type { WordKey } from "../words";
import { usePage } from "./context";
import type { Saver } from "./saving";

export type Change = (next: (screen: Screen) => Screen) => void;

/** One step of edits; nothing where there is nothing to edit. */
const step =
  (change: Change) =>
  (edits: (screen: Screen) => readonly Edit[]): void =>
    change((screen) => {
      const found = edits(screen);
      return found.length === 0 ? screen : { ...screen, ...edited(screen, found) };
    });

interface OpinionProps {
  info: ModelInfo;
  prediction: Prediction;
  /** Whether the model's answer is not shown. */
  hidden: boolean;
  screen: Screen;
  change: Change;
}

const VERDICTS: Readonly<Record<Exclude<Opinion["verdict"], "">, WordKey>> = {
  accepted: "isAccepted",
  rejected: "isRejected",
  corrected: "isCorrected",
};

/** What the reader says of one answer. */
export function OpinionForm({ info, prediction, hidden, screen, change }: OpinionProps) {
  const { text, session } = usePage();
  const key = opinionKey(info.name, prediction);
  const opinion = opinionOf(screen.reading, key);
  const edit = step(change);
  if (!may(session.role, "annotator")) return null;
  return (
    <fieldset class="opinion">
      <legend>
        {text("yourReading")} {opinion.verdict !== "" && !hidden && <strong>({text(VERDICTS[opinion.verdict])})</strong>}
      </legend>
      {!hidden && (
        <p>
          <button
            type="button"
            aria-pressed={opinion.verdict === "accepted"}
            onClick={() => edit(({ reading }) => accepted(reading, key, info, prediction))}
          >
            {text("accept")}
          </button>{" "}
          <button
            type="button"
            aria-pressed={opinion.verdict === "rejected"}
            onClick={() => edit(({ reading }) => rejected(reading, key))}
          >
            {text("reject")}
          </button>
        </p>
      )}
      {info.family === "labels" &&
        info.labels.map((label) => (
          <label class="check" key={label}>
            <input
              type={info.task === "multi-label" ? "checkbox" : "radio"}
              name={key}
              checked={opinion.labels[label] ?? false}
              onChange={(event) => {
                const { checked } = event.currentTarget;
                edit(({ reading }) => labelled(reading, key, info, prediction, label, checked));
              }}
            />
            {label}
          </label>
        ))}
      {info.family === "values" && <Grade info={info} prediction={prediction} opinion={opinion} edit={edit} />}
      {info.family === "boxes" && (
        <p>
          {!hidden && (
            <button
              type="button"
              disabled={takenOver(screen.reading, info.name, prediction).length === 0}
              onClick={() => edit(({ reading }) => takenOver(reading, info.name, prediction))}
            >
              {text("editBoxes")}
            </button>
          )}{" "}
          {text("boxesDrawn", { count: screen.reading.marks.filter((mark) => isIn(mark, info.name, prediction)).length })}
        </p>
      )}
    </fieldset>
  );
}

interface GradeProps {
  info: ModelInfo;
  prediction: Prediction;
  opinion: Opinion;
  edit: (edits: (screen: Screen) => readonly Edit[]) => void;
}

function Grade({ info, prediction, opinion, edit }: GradeProps) {
  const { text } = usePage();
  const key = opinionKey(info.name, prediction);
  const enter = (value: string): void => edit(({ reading }) => graded(reading, key, prediction, value));
  return (
    <label>
      {text("gradeOrValue")}{" "}
      {info.task === "ordinal" ? (
        <select value={opinion.grade} onChange={(event) => enter(event.currentTarget.value)}>
          <option value="" />
          {info.labels.map((label) => (
            <option key={label}>{label}</option>
          ))}
        </select>
      ) : (
        <input inputMode="decimal" value={opinion.grade} onChange={(event) => enter(event.currentTarget.value.trim())} />
      )}
    </label>
  );
}

/** The label that boxes and strokes of the brush get. */
export function LabelBar({ models, screen, change }: { models: readonly ModelInfo[]; screen: Screen; change: Change }) {
  const { text, session } = usePage();
  const drawn = models.filter((model) => model.family === "boxes" || model.family === "masks");
  if (!may(session.role, "annotator") || drawn.length === 0) return null;
  const choices = drawn.flatMap((model) => model.labels.map((label) => ({ model: model.name, label })));
  const chosen = choices.findIndex(({ model, label }) => model === screen.model && label === screen.label);
  return (
    <div class="toolbar">
      <label class="check">
        {text("labelOfMarks")}
        <select
          value={Math.max(chosen, 0)}
          onChange={(event) => {
            const choice = choices[Number(event.currentTarget.value)];
            if (choice !== undefined) change((now) => ({ ...now, ...choice }));
          }}
        >
          {choices.map(({ model, label }, index) => (
            <option key={index} value={index}>
              {drawn.length > 1 ? `${model}: ${label}` : label}
            </option>
          ))}
        </select>
      </label>
      {(screen.tool === "brush" || screen.tool === "eraser") && (
        <label class="check">
          {text("brushSize")}
          <input
            type="range"
            min={1}
            max={60}
            value={screen.brush}
            onInput={(event) => {
              const brush = Number(event.currentTarget.value);
              change((now) => ({ ...now, brush }));
            }}
          />
        </label>
      )}
    </div>
  );
}

interface ReadingFormProps {
  found: Case;
  screen: Screen;
  change: Change;
  saver: Saver;
  isEarlier: boolean;
}

/** Comment, state of saving, the end of a reading, and what other readers said. */
export function ReadingForm({ found, screen, change, saver, isEarlier }: ReadingFormProps) {
  const { text, session } = usePage();
  if (!may(session.role, "annotator")) return <p class="small">{text("onlyAnnotators")}</p>;
  const isFinal = found.mine?.state === "final";
  return (
    <section class="reading">
      <h2>{text("yourReading")}</h2>
      {isEarlier && <p class="warning">{text("earlier")}</p>}
      <label>
        {text("comment")}
        <textarea
          rows={3}
          maxLength={20000}
          value={screen.reading.comment}
          onInput={(event) => {
            const after = event.currentTarget.value;
            change((now) => ({ ...now, ...commented(now, after) }));
          }}
        />
      </label>
      <p>
        <button
          type="button"
          class="main"
          disabled={!found.complete}
          onClick={() => saver.enter(screen.reading, "final")}
        >
          {text(isFinal ? "finishAgain" : "finish")}
        </button>
      </p>
      <SavingState saver={saver} isFinal={isFinal} />
      <Others found={found} />
    </section>
  );
}

/** Letters that follow each other are one step of the history. */
function commented(screen: Screen, after: string): Pick<Screen, "reading" | "history"> {
  const last = screen.history.done.at(-1)?.[0];
  const before = screen.reading.comment;
  if (last?.what !== "comment" || screen.history.undone.length > 0)
    return edited(screen, [{ what: "comment", id: "", before, after }]);
  const done = [...screen.history.done.slice(0, -1), [{ ...last, after }]];
  return { reading: { ...screen.reading, comment: after }, history: { done, undone: [] } };
}

function SavingState({ saver, isFinal }: { saver: Saver; isFinal: boolean }) {
  const { text } = usePage();
  const { saving } = saver;
  const said = (content: ComponentChildren, kind: string) => (
    <p class={kind} role="status">
      {content}
    </p>
  );
  if (saving.outdated)
    return said(
      <>
        {text("outdated", { reason: saving.trouble })}{" "}
        <button type="button" onClick={() => void saver.insist()}>
          {text("keepMine")}
        </button>{" "}
        <button type="button" onClick={saver.discard}>
          {text("takeSaved")}
        </button>
      </>,
      "warning",
    );
  if (saver.isOnlyHere) return said(text("onlyHere"), "warning");
  if (saving.trouble !== "") return said(text("notSaved", { reason: saving.trouble }), "warning");
  if (saving.sent !== null || saving.next !== null) return said(text("isSaving"), "small");
  return saving.after === 0 ? null : said(text(isFinal ? "isFinished" : "isSaved"), "small");
}

function Others({ found }: { found: Case }) {
  const { text } = usePage();
  if (found.mine?.state !== "final") return <p class="small">{text("othersAfter")}</p>;
  return (
    <>
      <h3>{text("othersReadings")}</h3>
      {found.others.length === 0 && <p class="small">{text("nobodyElse")}</p>}
      <ul class="others">
        {found.others.map((other) => {
          const { labels, same_labels, boxes, same_boxes } = other.agreement;
          const parts = [
            other.blind ? text("readBlind") : "",
            labels > 0 ? text("agreesLabels", { same: same_labels, all: labels }) : "",
            boxes > 0 ? text("agreesBoxes", { same: same_boxes, all: boxes }) : "",
            other.content.comment,
          ];
          return (
            <li key={other.id}>
              <strong>{other.reader}</strong>: {parts.filter(Boolean).join("; ")}
            </li>
          );
        })}
      </ul>
    </>
  );
}
