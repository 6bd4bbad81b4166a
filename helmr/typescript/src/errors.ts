/** Refusals, as the runtime says them: problem documents of RFC 9457. */
import type { components } from "./schema.js";

type Problem = components["schemas"]["Problem"];

/** What the runtime refused, or that it can't be reached. Programs read `code`. */
export class HelmrError extends Error {
  /** Stable, `wait_resolved`; `unavailable` if the runtime can't be reached. */
  readonly code: string;
  /** Of the answer; 0 if there was none. */
  readonly status: number;
  /** What to do. */
  readonly hint: string | undefined;
  /** What the code goes with: who answered, when, and so on. */
  readonly facts: Readonly<Record<string, unknown>>;

  constructor(message: string, said: { code: string; status: number; hint?: string | null; facts?: Record<string, unknown>; cause?: unknown }) {
    super(message, { cause: said.cause });
    this.name = "HelmrError";
    this.code = said.code;
    this.status = said.status;
    this.hint = said.hint ?? undefined;
    this.facts = said.facts ?? {};
  }

  /** Nobody answers there. */
  static away(url: string, cause: unknown): HelmrError {
    const { origin } = new URL(url);
    return new HelmrError(`no runtime answers at ${origin}`, {
      code: "unavailable",
      status: 0,
      hint: "Start it with `helmr up`, or check the URL.",
      cause,
    });
  }
}

/** The error that a refusal is. */
export async function problemOf(response: Response): Promise<HelmrError> {
  const said = await response
    .clone()
    .json()
    .then((found: unknown) => (isProblem(found) ? found : undefined))
    .catch(() => undefined);
  if (said === undefined) {
    return new HelmrError(`${response.status} ${response.statusText}, and not from a runtime of Helmr`, {
      code: "unknown",
      status: response.status,
    });
  }
  return new HelmrError(said.detail, {
    code: said.code,
    status: response.status,
    ...(said.hint === undefined ? {} : { hint: said.hint }),
    ...(said.facts === undefined ? {} : { facts: said.facts }),
  });
}

function isProblem(found: unknown): found is Problem {
  return typeof found === "object" && found !== null && "code" in found && "detail" in found;
}
