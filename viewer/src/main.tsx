import { render } from "preact";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, Refusal, setToken } from "./api/client";
import type { Session } from "./api/types";
import { PageContext } from "./pages/context";
import { SignIn } from "./pages/signin";
import { Study } from "./pages/study";
import { forgetCases, Worklist } from "./pages/worklist";
import { type Language, LANGUAGES, say } from "./words";
import "./style.css";

const LANGUAGE = "hounsfield-language";
const THEME = "hounsfield-theme";

function firstLanguage(): Language {
  const found = localStorage.getItem(LANGUAGE) ?? navigator.language.slice(0, 2);
  return LANGUAGES.find((language) => language === found) ?? "en";
}

function usePlace(): string {
  const [place, setPlace] = useState(location.hash);
  useEffect(() => {
    const follow = (): void => setPlace(location.hash);
    window.addEventListener("hashchange", follow);
    return () => window.removeEventListener("hashchange", follow);
  }, []);
  return place;
}

function App() {
  const [language, setLanguage] = useState(firstLanguage);
  const [session, setSession] = useState<Session | null>(null);
  const signedIn = useRef<Session | null>(null);
  const [signedOut, setSignedOut] = useState("");
  const [needsToken, setNeedsToken] = useState(false);
  const place = usePlace();

  const failed = useCallback(
    (error: unknown): string => {
      if (!(error instanceof Refusal)) return String(error);
      if (error.status === 401) setNeedsToken(true);
      return error.status === 0 ? say(language, "offline") : error.message;
    },
    [language],
  );

  const open = useCallback(async (): Promise<void> => {
    try {
      const next = await api.session();
      if (whose(signedIn.current) !== whose(next)) forgetCases();
      signedIn.current = next;
      setSession(next);
      setNeedsToken(false);
      setSignedOut("");
    } catch (error) {
      setSignedOut(failed(error));
      if (error instanceof Refusal && error.status === 0) setTimeout(() => void open(), 2000);
    }
  }, [failed]);

  useEffect(() => void open(), []);
  useEffect(() => {
    document.documentElement.lang = language;
    localStorage.setItem(LANGUAGE, language);
  }, [language]);

  const page = useMemo(() => (session === null ? null : { session, language, failed }), [session, language, failed]);
  const kase = /^#\/case\/([su]\d+)$/.exec(place)?.[1];
  const signOut = (): void => {
    setToken("");
    forgetCases();
    // What was loaded goes with the page.
    location.hash = "";
    location.reload();
  };
  return (
    <>
      <Top
        language={language}
        setLanguage={setLanguage}
        name={session?.local === false ? session.name : ""}
        signOut={signOut}
      />
      {page !== null && (
        <PageContext.Provider value={page}>
          {kase === undefined ? <Worklist key={whose(session)} /> : <Study key={`${whose(session)}/${kase}`} kase={kase} />}
        </PageContext.Provider>
      )}
      {page === null && !needsToken && signedOut !== "" && (
        <p class="message" role="alert">
          {signedOut}
        </p>
      )}
      {needsToken && <SignIn language={language} isAgain={session !== null} open={open} />}
    </>
  );
}

/** Nothing of one user's page is left on that of the next. */
const whose = (session: Session | null): string => `${session?.name} ${session?.role}`;

interface TopProps {
  language: Language;
  setLanguage: (language: Language) => void;
  name: string;
  signOut: () => void;
}

function Top({ language, setLanguage, name, signOut }: TopProps) {
  const turn = (): void => {
    const root = document.documentElement;
    root.dataset.theme = isDarkNow() ? "light" : "dark";
    localStorage.setItem(THEME, root.dataset.theme);
  };
  return (
    <header class="page-top">
      <strong class="banner" role="note">
        {say(language, "banner")}
      </strong>
      <span class="who">
        {name !== "" && (
          <>
            {name}{" "}
            <button type="button" onClick={signOut}>
              {say(language, "signOut")}
            </button>
          </>
        )}
        <button type="button" onClick={turn}>
          {say(language, "theme")}
        </button>
        <button type="button" lang={language === "en" ? "zh" : "en"} onClick={() => setLanguage(language === "en" ? "zh" : "en")}>
          {say(language, "language")}
        </button>
      </span>
    </header>
  );
}

const isDarkNow = (): boolean => {
  const chosen = document.documentElement.dataset.theme;
  return chosen === undefined ? matchMedia("(prefers-color-scheme: dark)").matches : chosen === "dark";
};

const theme = localStorage.getItem(THEME);
if (theme !== null) document.documentElement.dataset.theme = theme;
const target = document.getElementById("page");
if (target !== null) render(<App />, target);
