import { useEffect, useRef } from "preact/hooks";
import { COMMANDS } from "../commands/table";
import { usePage } from "./context";

/** All keys, from the table of commands. */
export function Keys({ close }: { close: () => void }) {
  const { text } = usePage();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
    // The focus goes to what can be pressed first, which stands at the end.
    dialog.current?.scrollTo(0, 0);
  }, []);
  return (
    <dialog ref={dialog} aria-label={text("keys")} onClose={close}>
      <h2>{text("keys")}</h2>
      <dl class="keys">
        {COMMANDS.map((command) => (
          <div key={command.name}>
            <dt>
              {command.keys.map((key) => (
                <kbd key={key}>{key.replaceAll("+", " + ").replace("Arrow", "")}</kbd>
              ))}
            </dt>
            <dd>{text(command.word)}</dd>
          </div>
        ))}
      </dl>
      <p class="small">
        <a href="assets/licences.txt" target="_blank" rel="noreferrer">
          {text("licences")}
        </a>
      </p>
      <button type="button" onClick={() => dialog.current?.close()}>
        {text("close")}
      </button>
    </dialog>
  );
}
