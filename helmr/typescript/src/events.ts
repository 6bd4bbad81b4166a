/** Following: server-sent events that outlast a broken connection and a runtime that starts again. */
import { EventSourceParserStream } from "eventsource-parser/stream";

import { problemOf } from "./errors.js";

/** One record or entry. */
export interface StreamEvent<Data = unknown, Name = string | undefined> {
  /** Where to go on: pass it as `after`. */
  id: string | undefined;
  /** `record`, `chunk`, `chunks.end`, or an entry's kind. */
  event: Name;
  /** What came, as the runtime's document says: of a record the value that the code appended is `data.data`. */
  data: Data;
}

/** The runtime says something every 15 s: a connection that is silent that long is dead. */
const SILENT_MS = 40_000;

/** The events at that URL, each once and in order, until the runtime says that no more will come. */
export async function* events(
  url: URL,
  headers: Readonly<Record<string, string>>,
  begin: { after?: number; chunks?: boolean; signal?: AbortSignal },
  send: (request: Request) => Promise<Response>,
): AsyncGenerator<StreamEvent> {
  if (begin.after !== undefined) url.searchParams.set("after", String(begin.after));
  if (begin.chunks === true) url.searchParams.set("chunks", "true");
  let last: string | undefined;
  for (;;) {
    const connection = new AbortController();
    const signal = begin.signal === undefined ? connection.signal : AbortSignal.any([connection.signal, begin.signal]);
    const went = last === undefined ? {} : { "last-event-id": last };
    const response = await send(new Request(url, { headers: { ...headers, accept: "text/event-stream", ...went }, signal }));
    if (response.status === 204) return; // it is over
    if (!response.ok || response.body === null) throw await problemOf(response);
    let silent: NodeJS.Timeout | undefined;
    const heard = (): void => {
      clearTimeout(silent);
      if (connection.signal.aborted) return; // a comment that was read before the end: no timer is left behind
      silent = setTimeout(() => connection.abort(), SILENT_MS);
    };
    heard();
    const reader = response.body
      .pipeThrough(new TextDecoderStream() as unknown as TransformStream<Uint8Array, string>)
      .pipeThrough(new EventSourceParserStream({ onComment: heard }))
      .getReader();
    try {
      for (;;) {
        const next = await reader.read();
        if (next.done) break;
        heard();
        last = next.value.id ?? last;
        yield { id: next.value.id, event: next.value.event, data: JSON.parse(next.value.data) as unknown };
      }
    } catch (error) {
      if (begin.signal?.aborted === true || error instanceof SyntaxError) throw error;
      // The connection broke: go on behind the last event.
    } finally {
      connection.abort();
      clearTimeout(silent);
    }
    url.searchParams.delete(last === undefined ? "" : "after");
  }
}
