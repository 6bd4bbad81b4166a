/**
 * A client of Helmr's HTTP API. Paths, parameters, bodies and answers have the types of the runtime's OpenAPI document.
 *
 * A call that fails because the runtime is away or busy is tried again, under one Operation-Id: it acts once.
 */
import createFetch, { type Client as FetchClient } from "openapi-fetch";

import { Addresses } from "./addresses.js";
import { events, type StreamEvent } from "./events.js";
import { HelmrError, problemOf } from "./errors.js";
import { newOperationId } from "./ids.js";
import type { components, paths } from "./schema.js";

export { HelmrError, type StreamEvent };

/** The models of the API by their names: `Models["WaitInfo"]`. */
export type Models = components["schemas"];

/** A record of an output stream: `data.data` is what the code appended, `data.seq` its number. */
export type RecordEvent = StreamEvent<Models["RecordInfo"], "record">;

/** Where a chunk comes from: `op` is the step's, none outside of steps; `lost` chunks before it did not come. */
interface ChunkPlace {
  stream: string;
  op?: number | null;
  lost?: number;
}

/** What the code emits without storing it, and the end of what a step emitted. */
export type ChunkEvent =
  | StreamEvent<ChunkPlace & { data: unknown }, "chunk">
  | StreamEvent<ChunkPlace & { outcome: string }, "chunks.end">;

/** An entry of a transcript; `event` is its kind. */
export type EntryEvent = StreamEvent<Models["EntryInfo"]>;

export interface Options {
  /** Where the runtime answers, `http://127.0.0.1:4356`; of a pair the addresses of both. No other is spoken to. */
  url: string | readonly string[];
  /** An API key, a person's key or a public token; without one only what is open to all can be called. */
  key?: string;
  /** The person a service acts for; the transcript records the name. */
  onBehalfOf?: string;
  /** No new try begins later than this after the first one, in milliseconds. 60,000 if not given; 0: one try. */
  tryForMs?: number;
  /** In place of the global one. */
  fetch?: (request: Request) => Promise<Response>;
}

/** Where to begin, and what to leave out, when following. */
export interface FollowOptions {
  /** Go on behind this record or entry; else an output stream begins with its first record, and events begin now. */
  after?: number;
  /** Of an output stream: also what the code emits from now on without storing it, as `chunk` and `chunks.end`. */
  chunks?: boolean;
  /** Ends it. */
  signal?: AbortSignal;
}

export type Client = FetchClient<paths> & {
  /** The records of an output stream, as they come, until the session is over. */
  outputs(sessionId: string, stream: string, options?: FollowOptions & { chunks?: false }): AsyncGenerator<RecordEvent>;
  /** And what the code emits: `event` tells them apart. */
  outputs(sessionId: string, stream: string, options: FollowOptions): AsyncGenerator<RecordEvent | ChunkEvent>;
  /** The entries of a session, or of all sessions without one. They end when you stop asking. */
  entries(sessionId?: string, options?: FollowOptions): AsyncGenerator<EntryEvent>;
};

const PAUSE_MS = 100;
const PAUSE_MAX_MS = 2_000;

/**
 * A client. Its methods `GET`, `POST`, `PUT` and `DELETE` take a path of the API and throw {@link HelmrError} where the
 * runtime refuses.
 *
 * @example
 * const helmr = createClient({ url: "http://127.0.0.1:4356", key: process.env.HELMR_API_KEY });
 * const inbox = await done(helmr.GET("/v1/waits", { params: { query: { status: "pending" } } }));
 */
export function createClient(options: Options): Client {
  const addresses = new Addresses(typeof options.url === "string" ? [options.url] : options.url);
  const url = addresses.first;
  const headers: Record<string, string> = {};
  if (options.key !== undefined) headers["authorization"] = `Bearer ${options.key}`;
  if (options.onBehalfOf !== undefined) headers["on-behalf-of"] = options.onBehalfOf;
  const send = options.fetch ?? ((request: Request) => fetch(request));
  const trying = (request: Request) => tried(request, addresses, send, options.tryForMs ?? 60_000);

  const client = createFetch<paths>({ baseUrl: url, headers, fetch: trying });
  client.use({
    async onResponse({ response }) {
      if (!response.ok) throw await problemOf(response);
    },
  });
  const follow = (path: string, begin: FollowOptions) =>
    // The runtime's document says what comes: nothing is checked here, as of its answers.
    events(new URL(url + path), headers, begin, trying) as AsyncGenerator<never>;
  return Object.assign(client, {
    outputs: (sessionId: string, stream: string, begin: FollowOptions = {}) =>
      follow(`/v1/sessions/${encodeURIComponent(sessionId)}/outputs/${encodeURIComponent(stream)}`, begin),
    entries: (sessionId?: string, begin: FollowOptions = {}) =>
      follow(sessionId === undefined ? "/v1/events" : `/v1/sessions/${encodeURIComponent(sessionId)}/events`, begin),
  });
}

/** What a call answered: its data, which it has, since a refusal has thrown. */
export async function done<Data>(call: Promise<{ data?: Data }>): Promise<NonNullable<Data>> {
  const { data } = await call;
  if (data === undefined || data === null) throw new TypeError("the runtime answered without a body");
  return data;
}

/**
 * Send a request until it is answered, or the time is over. Overload says how long to wait (Retry-After). What one
 * address does not take, or may not have taken, goes to the next one under the same Operation-Id.
 */
async function tried(
  request: Request,
  addresses: Addresses,
  send: (request: Request) => Promise<Response>,
  tryForMs: number,
): Promise<Response> {
  if (request.method !== "GET" && !request.headers.has("operation-id")) {
    request.headers.set("operation-id", newOperationId());
  }
  const endsAt = Date.now() + tryForMs;
  let pauseMs = PAUSE_MS;
  for (let tries = 1; ; tries += 1) {
    const at = addresses.at;
    let waitMs = pauseMs * (0.5 + Math.random() / 2);
    let refusal: Response | undefined;
    let failure: unknown;
    try {
      const response = await addresses.ask(request, send);
      const retryAfter = response.headers.get("retry-after");
      if (response.ok || retryAfter === null) return response;
      waitMs = Math.max(waitMs, 1_000 * Number(retryAfter));
      refusal = response;
    } catch (error) {
      if (request.signal.aborted) throw error;
      failure = error;
    }
    const isElsewhere = refusal?.status !== 429 && addresses.turn(at);
    const isNew = isElsewhere && tries % addresses.count !== 0; // in this round
    if (!isNew && Date.now() + waitMs > endsAt) {
      if (refusal !== undefined) return refusal;
      throw HelmrError.away(at, failure);
    }
    await refusal?.body?.cancel();
    if (isNew) continue;
    pauseMs = Math.min(2 * pauseMs, PAUSE_MAX_MS);
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}
