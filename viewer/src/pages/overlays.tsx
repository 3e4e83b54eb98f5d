import { useEffect, useMemo, useState } from "preact/hooks";
import { api } from "../api/client";
import type { Answer, Case, ModelInfo, OverlayFacts, Prediction } from "../api/types";
import { may } from "../commands/table";
import { evidencePicture, maskPicture } from "../render/overlays";
import type { Layer } from "../render/picture";
import { type Edit, edited, regionKey } from "../state/reading";
import type { View } from "../state/screen";
import { encode } from "../tools/runs";
import { usePage } from "./context";
import type { Change } from "./correct";

/** An overlay that is shown. */
export interface Overlay {
  job: number;
  model: string;
  kind: "evidence" | "masks";
  stack: number;
  /** Of a prediction of one frame; `null` where it is of the whole stack. */
  frame: number | null;
  facts: OverlayFacts;
  opacity: number;
}

const FIRST_OPACITY = 0.5;

const sizeOf = ({ shape }: OverlayFacts): [number, number] => [shape.at(-2) ?? 0, shape.at(-1) ?? 0];

/** The layers of an overlay in the frame that is shown. */
export function useLayers(found: Case, overlay: Overlay | null, view: View): readonly Layer[] {
  const { failed } = usePage();
  const [shown, setShown] = useState<{ key: string; pictures: OffscreenCanvas[] }>({ key: "", pictures: [] });
  const isHere =
    overlay !== null && overlay.stack === view.stack && (overlay.frame === null || overlay.frame === view.frame);
  const key = isHere ? `${overlay.facts.name}/${view.frame}` : "";
  useEffect(() => {
    let alive = true;
    if (!isHere) return undefined;
    const { facts, kind } = overlay;
    const [rows, columns] = sizeOf(facts);
    const load = async (label: number): Promise<OffscreenCanvas> => {
      const content = await api.layer(found.key, facts.name, label, view.frame);
      return kind === "evidence"
        ? evidencePicture(new Float32Array(content), rows, columns, facts.most)
        : maskPicture(new Uint8Array(content), rows, columns, label);
    };
    Promise.all(facts.labels.map((_, label) => load(label)))
      .then((pictures) => alive && setShown({ key, pictures }))
      .catch(failed);
    return () => {
      alive = false;
    };
  }, [key]);
  const opacity = overlay?.opacity ?? 0;
  const smooth = overlay?.kind === "evidence";
  return useMemo(
    () => (key === "" || shown.key !== key ? [] : shown.pictures.map((picture) => ({ picture, opacity, smooth }))),
    [key, shown, opacity, smooth],
  );
}

interface OverlayControlProps {
  found: Case;
  answer: Answer;
  info: ModelInfo;
  prediction: Prediction;
  overlay: Overlay | null;
  setOverlay: (overlay: Overlay | null) => void;
  change: Change;
}

/** Shows and hides the evidence or the masks of a prediction. */
export function OverlayControl({ found, answer, info, prediction, overlay, setOverlay, change }: OverlayControlProps) {
  const { text, failed, session } = usePage();
  const [said, setSaid] = useState("");
  const [label, setLabel] = useState("");
  const [isAsked, setAsked] = useState(false);
  const kind = info.family === "masks" ? "masks" : "evidence";
  const number = answer.predictions.indexOf(prediction);
  const isShown =
    overlay !== null &&
    overlay.job === answer.job &&
    overlay.stack === prediction.stack &&
    overlay.frame === prediction.frame;
  const toggle = async (isOn: boolean, chosen: string): Promise<void> => {
    if (!isOn || prediction.stack === null) {
      setOverlay(null);
      return;
    }
    setSaid(text("computing"));
    setAsked(true);
    try {
      const facts = await api.overlay(found.key, answer.job, number, kind, chosen);
      const { stack, frame } = prediction;
      setOverlay({
        job: answer.job,
        model: answer.model,
        kind,
        stack,
        frame,
        facts,
        opacity: overlay?.opacity ?? FIRST_OPACITY,
      });
      setSaid("");
    } catch (error) {
      setSaid(failed(error));
    }
    setAsked(false);
  };
  const takeOver = async (): Promise<void> => {
    if (overlay === null) return;
    setSaid(text("computing"));
    try {
      const steps = await maskEdits(found.key, overlay);
      change((screen) => {
        const known = new Map(screen.reading.regions.map((region) => [regionKey(region), region]));
        const edits = steps.map((edit) => ({ ...edit, before: known.get(edit.id) ?? null }) as Edit);
        return edits.length === 0 ? screen : { ...screen, ...edited(screen, edits) };
      });
      setOverlay(null);
      setSaid("");
    } catch (error) {
      setSaid(failed(error));
    }
  };
  return (
    <div class="overlay">
      <label class="check">
        <input
          type="checkbox"
          checked={isShown || isAsked}
          onChange={(event) => void toggle(event.currentTarget.checked, label)}
        />
        {text(kind === "masks" ? "showMasks" : "showEvidence")}
      </label>
      {kind === "evidence" && info.family === "labels" && (
        <select
          aria-label={text("evidenceFor")}
          value={label}
          onChange={(event) => {
            setLabel(event.currentTarget.value);
            if (isShown) void toggle(true, event.currentTarget.value);
          }}
        >
          <option value="">{text("evidenceFor")}</option>
          {info.labels.map((each) => (
            <option key={each}>{each}</option>
          ))}
        </select>
      )}
      {isShown && (
        <>
          <label class="check">
            {text("opacity")}
            <input
              type="range"
              min={0}
              max={100}
              value={100 * overlay.opacity}
              onInput={(event) => setOverlay({ ...overlay, opacity: Number(event.currentTarget.value) / 100 })}
            />
          </label>
          {kind === "evidence" ? (
            <p class="small">{text("evidenceNote", { label: overlay.facts.labels[0] ?? "" })}</p>
          ) : (
            may(session.role, "annotator") && (
              <button type="button" onClick={() => void takeOver()}>
                {text("editMasks")}
              </button>
            )
          )}
        </>
      )}
      {said !== "" && <p role="status">{said}</p>}
    </div>
  );
}

/** The model's masks as the reader's own, frame by frame. */
async function maskEdits(kase: string, { facts, stack, frame, model }: Overlay): Promise<Extract<Edit, { what: "region" }>[]> {
  const isVolume = facts.shape.length === 3;
  const frames = isVolume ? Array.from({ length: facts.shape[0] ?? 0 }, (_, number) => number) : [frame ?? 0];
  const found: Extract<Edit, { what: "region" }>[] = [];
  for (const [number, label] of facts.labels.entries())
    for (const each of frames) {
      const mask = new Uint8Array(await api.layer(kase, facts.name, number, each));
      if (!mask.includes(1)) continue;
      const after = { stack, frame: each, label, model, runs: encode(mask) };
      found.push({ what: "region", id: regionKey(after), before: null, after });
    }
  return found;
}
