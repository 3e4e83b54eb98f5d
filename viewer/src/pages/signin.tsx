import { useEffect, useRef, useState } from "preact/hooks";
import { api, Refusal, setToken } from "../api/client";
import { type Language, say } from "../words";

interface SignInProps {
  language: Language;
  /** Whether somebody was signed in before: what is on the page stays behind the dialog. */
  isAgain: boolean;
  open: () => Promise<void>;
}

/** Where a token is asked for. */
export function SignIn({ language, isAgain, open }: SignInProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [token, write] = useState("");
  const [trouble, setTrouble] = useState("");
  useEffect(() => dialog.current?.showModal(), []);
  const enter = async (event: Event): Promise<void> => {
    event.preventDefault();
    setToken(token.trim());
    try {
      await api.session();
      await open();
    } catch (error) {
      const isWrong = error instanceof Refusal && error.status === 401;
      setTrouble(isWrong || !(error instanceof Refusal) ? say(language, "tokenWrong") : error.message || say(language, "offline"));
    }
  };
  return (
    <dialog ref={dialog} aria-label={say(language, "signIn")} onCancel={(event) => event.preventDefault()}>
      <form onSubmit={(event) => void enter(event)}>
        <h1>{say(language, "signIn")}</h1>
        <p>{say(language, isAgain ? "expired" : "tokenHelp")}</p>
        <label>
          {say(language, "token")}
          <input
            type="password"
            autoComplete="off"
            value={token}
            onInput={(event) => write(event.currentTarget.value)}
          />
        </label>
        {trouble !== "" && <p role="alert">{trouble}</p>}
        <button type="submit" disabled={token.trim() === ""}>
          {say(language, "signIn")}
        </button>
      </form>
    </dialog>
  );
}
