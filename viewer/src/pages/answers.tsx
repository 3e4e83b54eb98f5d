import { Fragment } from "preact";
import { useState } from "preact/hooks";
import { api } from "../api/client";
import type { Answer, Case, Finding, ModelInfo, Prediction, Structure } from "../api/types";
import type { Screen } from "../state/screen";
import { colourOf } from "../render/regions";
import { usePage } from "./context";
import { type Change, OpinionForm } from "./correct";
import { type Overlay, OverlayControl } from "./overlays";
import { isElsewhere } from "./study";

interface AnswersProps {
  found: Case;
  screen: Screen;
  change: Change;
  show: (prediction: Pick<Prediction, "stack" | "frame">, slice?: number) => void;
  boxes: boolean;
  setBoxes: (shown: boolean) => void;
  overlay: Overlay | null;
  setOverlay: (overlay: Overlay | null) => void;
}

/** What the models say of a case. */
export function Answers(props: AnswersProps) {
  const { found, boxes, setBoxes } = props;
  const { text } = usePage();
  const answers = found.answers.filter((answer) => answer.state !== "refused");
  const left = found.answers.filter((answer) => answer.state === "refused");
  const hasBoxes = answers.some((answer) => answer.predictions.some((each) => each.findings !== undefined));
  return (
    <section class="answers">
      <h2>{text("modelSays")}</h2>
      {found.hidden && <p class="warning">{text("hiddenAnswer")}</p>}
      {answers.length === 0 && <p>{text("noAnswer")}</p>}
      {hasBoxes && (
        <label class="check">
          <input type="checkbox" checked={boxes} onChange={(event) => setBoxes(event.currentTarget.checked)} />
          {text("boxesShown")}
        </label>
      )}
      {answers.map((answer) => (
        <Model key={answer.job} answer={answer} {...props} />
      ))}
      {left.map((answer) => (
        <p key={answer.job} class="small">
          {text("leftBy", { model: answer.model, reason: answer.reason })}
        </p>
      ))}
    </section>
  );
}

function Model({ answer, found, screen, change, show, overlay, setOverlay }: AnswersProps & { answer: Answer }) {
  const { text, session } = usePage();
  const info = session.models.find((model) => model.name === answer.model);
  // Of several classes the most probable one is chosen, whatever its probability.
  const threshold = info === undefined || info.task === "multi-class" ? null : info.threshold;
  return (
    <article>
      <h3>{answer.model}</h3>
      {answer.state !== "done" && (
        <p>{answer.state === "dead" ? text("imageFailed", { reason: answer.reason }) : text("waitingAnswer")}</p>
      )}
      {answer.predictions.map((prediction) => (
        <Fragment key={prediction.image}>
          <Said
            prediction={prediction}
            found={found}
            show={show}
            threshold={threshold}
            isOne={answer.predictions.length === 1}
          />
          {info !== undefined && hasOverlay(info, prediction) && !found.hidden && !isElsewhere(found, prediction) && (
            <OverlayControl {...{ found, answer, info, prediction, overlay, setOverlay, change }} />
          )}
          {info !== undefined && prediction.stack !== null && prediction.reason === undefined && (
            <OpinionForm info={info} prediction={prediction} hidden={found.hidden} screen={screen} change={change} />
          )}
        </Fragment>
      ))}
      <Card model={answer.model} />
    </article>
  );
}

const hasOverlay = (info: ModelInfo, prediction: Prediction): boolean =>
  info.family !== "boxes" && prediction.stack !== null && prediction.reason === undefined && prediction.views === undefined;

interface SaidProps {
  prediction: Prediction;
  found: Case;
  show: AnswersProps["show"];
  threshold: number | number[] | null;
  isOne: boolean;
}

function Said({ prediction, found, show, threshold, isOne }: SaidProps) {
  const { text } = usePage();
  const place = prediction.stack === null ? "" : `${text("series")} ${prediction.stack + 1}`;
  const image = prediction.frame === null ? "" : `, ${text("image")} ${prediction.frame + 1}`;
  return (
    <div class="said">
      {!isOne && prediction.stack !== null && (
        <button type="button" class="link" onClick={() => show(prediction)}>
          {place}
          {image}
        </button>
      )}
      {prediction.reason !== undefined && <p class="warning">{text("imageFailed", { reason: prediction.reason })}</p>}
      <Warnings prediction={prediction} />
      {prediction.probabilities !== undefined && <Probabilities prediction={prediction} threshold={threshold} />}
      <Measured prediction={prediction} />
      {prediction.findings !== undefined && (
        <Boxes prediction={prediction} show={show} drawn={!isElsewhere(found, prediction)} />
      )}
      {prediction.labels !== undefined && <Structures labels={prediction.labels} />}
      {prediction.views !== undefined && (
        <ul class="views">
          {prediction.views.map((view) => (
            <li key={view.image}>
              <button type="button" class="link" onClick={() => show(view)} disabled={view.stack === null}>
                {view.stack === null ? view.image : `${text("series")} ${view.stack + 1}`}
              </button>{" "}
              {text("weight", { value: view.weight.toFixed(2) })}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

/** "Not sure" and "unlike what I know" stand above the answer, as clearly as a finding. */
function Warnings({ prediction }: { prediction: Prediction }) {
  const { text } = usePage();
  const several = prediction.set !== undefined && prediction.set.length > 1;
  return (
    <>
      {prediction.out_of_distribution === true && (
        <p class="warning">{text("unlikeKnown", { score: prediction.ood_score ?? "" })}</p>
      )}
      {prediction.answer === "abstain" && <p class="warning">{text("abstains")}</p>}
      {several && <p class="warning">{text("stillPossible", { labels: prediction.set?.join(", ") ?? "" })}</p>}
      {prediction.flags !== undefined && prediction.flags.length > 0 && (
        <p class="warning">{text("flags", { flags: prediction.flags.join(", ") })}</p>
      )}
    </>
  );
}

type ProbabilitiesProps = Pick<SaidProps, "prediction" | "threshold">;

function Probabilities({ prediction, threshold }: ProbabilitiesProps) {
  const { text } = usePage();
  const chosen = new Set((prediction.prediction ?? "").split(";"));
  const names = Object.keys(prediction.probabilities ?? {});
  return (
    <>
      <p class="verdict">{prediction.prediction === "" ? text("noLabel") : prediction.prediction}</p>
      <ul class="probabilities">
        {names.map((label, index) => {
          const value = prediction.probabilities?.[label] ?? 0;
          // The threshold of two labels is that of the second one.
          const own = Array.isArray(threshold) ? (threshold[index] ?? null) : threshold;
          const limit = names.length > 2 || index === 1 || Array.isArray(threshold) ? own : null;
          return (
            <li key={label} class={chosen.has(label) ? "chosen" : ""}>
              <span>{label}</span>
              <svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
                <rect class="all" width="100" height="8" />
                <rect class="part" width={100 * value} height="8" />
                {limit !== null && <path d={`M${100 * limit} 0v8`} />}
              </svg>
              <span class="number">{(100 * value).toFixed(1)} %</span>
            </li>
          );
        })}
      </ul>
      {threshold !== null && (
        <p class="small">
          {text("threshold", {
            value: [threshold]
              .flat()
              .map((limit) => `${(100 * limit).toFixed(1)} %`)
              .join(", "),
          })}
        </p>
      )}
    </>
  );
}

const short = (value: number): string => String(Number(value.toPrecision(4)));

/** How far a value may be off, in words; an end that is null lies at infinity. */
function useRange(): (low: number | null, high: number | null) => string {
  const { text } = usePage();
  return (low, high) => {
    if (low === null) return high === null ? text("rangeUnknown") : text("rangeTo", { high: short(high) });
    return high === null
      ? text("rangeFrom", { low: short(low) })
      : text("rangeOf", { low: short(low), high: short(high) });
  };
}

function Measured({ prediction }: { prediction: Prediction }) {
  const { text } = usePage();
  const range = useRange();
  const { value, low, high } = prediction;
  if (value === undefined) return null;
  if (low === undefined || high === undefined) return <p class="verdict">{short(value)}</p>;
  return <p class="verdict">{text("estimate", { value: short(value), range: range(low, high) })}</p>;
}

function Boxes({ prediction, show, drawn }: { prediction: Prediction; show: AnswersProps["show"]; drawn: boolean }) {
  const { text } = usePage();
  const range = useRange();
  const middle = ({ z0, z1 }: Finding): number | undefined =>
    z0 === undefined || z1 === undefined ? undefined : Math.floor((z0 + z1) / 2);
  return (
    <>
      {Object.entries(prediction.counts ?? {}).map(([label, count]) => {
        const ends = prediction.count_ranges?.[label];
        const told = text("countFound", { count });
        return (
          <p key={label}>
            <strong>{label}</strong>:{" "}
            {ends === undefined ? told : text("estimate", { value: told, range: range(...ends) })}
          </p>
        );
      })}
      {!drawn && <p class="warning">{text("resampledNote")}</p>}
      <ul class="findings">
        {prediction.findings?.map((finding, index) => (
          <li key={index}>
            <button type="button" class="link" onClick={() => show(prediction, middle(finding))}>
              {finding.label} {(100 * finding.score).toFixed(0)} %
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

function Structures({ labels }: { labels: Record<string, Structure> }) {
  const { text } = usePage();
  const range = useRange();
  return (
    <ul class="structures">
      {Object.entries(labels).map(([label, facts], number) => {
        const size = text("size", { size: facts.size === null ? "–" : short(facts.size), unit: facts.unit });
        const { size_low: low, size_high: high } = facts;
        return (
          <li key={label}>
            <svg class="swatch" viewBox="0 0 1 1" aria-hidden="true">
              <rect width={1} height={1} fill={`rgb(${colourOf(number).join(" ")})`} />
            </svg>
            <strong>{label}</strong>{" "}
            {low === undefined || high === undefined ? size : text("estimate", { value: size, range: range(low, high) })}
            {facts.dice_predicted !== undefined && facts.dice_predicted !== null && (
              <span class="small"> {text("likelyDice", { value: facts.dice_predicted.toFixed(2) })}</span>
            )}
          </li>
        );
      })}
    </ul>
  );
}

/** The model's card, loaded when it is asked for. */
function Card({ model }: { model: string }) {
  const { text, failed } = usePage();
  const [card, setCard] = useState("");
  const load = (isOpen: boolean): void => {
    if (isOpen && card === "")
      api.card(model).then(setCard, (error: unknown) => setCard(failed(error) || text("noCard")));
  };
  return (
    <details onToggle={(event) => load(event.currentTarget.open)}>
      <summary>{text("card")}</summary>
      <pre class="card" tabIndex={0}>
        {card}
      </pre>
    </details>
  );
}
