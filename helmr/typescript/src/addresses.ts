/** The addresses of one runtime, or of a pair, of which one is at work at a time. */

/** A runtime that is paused takes connections and says nothing: with another address a request waits this long. */
const SILENT_MS = 5_000;

/** Requests that may take longer say so by a field of their body, or by their path. */
const SLOW_PATH = /\/(dry-run|query|export|backup)$/;
const SLOW_MS = 30_000;

export class Addresses {
  private readonly urls: readonly string[];
  private place = 0;

  constructor(urls: readonly string[]) {
    this.urls = urls.map((url) => url.replace(/\/+$/, ""));
    if (this.urls.length === 0) throw new TypeError("a client needs an address");
  }

  get count(): number {
    return this.urls.length;
  }

  get first(): string {
    return this.urls[0] ?? "";
  }

  /** The one that is asked now. */
  get at(): string {
    return this.urls[this.place] ?? "";
  }

  /** Ask the next one from now on, unless another request has turned away from this one before; are there several? */
  turn(from: string): boolean {
    if (this.at === from) this.place = (this.place + 1) % this.count;
    return this.count > 1;
  }

  /** Send a request, which names the first address, to the one that is asked now. */
  async ask(request: Request, send: (request: Request) => Promise<Response>): Promise<Response> {
    if (this.count === 1) return send(request.clone());
    const body = request.method === "GET" ? undefined : await request.clone().text();
    const silence = new AbortController();
    const silent = setTimeout(() => silence.abort(), patienceMs(request, body));
    try {
      return await send(
        new Request(this.at + request.url.slice(this.first.length), {
          method: request.method,
          headers: request.headers,
          credentials: request.credentials,
          signal: AbortSignal.any([request.signal, silence.signal]),
          ...(body === undefined || body === "" ? {} : { body }),
        }),
      );
    } finally {
      clearTimeout(silent);
    }
  }
}

function patienceMs(request: Request, body: string | undefined): number {
  if (SLOW_PATH.test(new URL(request.url).pathname)) return SLOW_MS;
  const waits = body === undefined ? null : /"result_timeout_s"\s*:\s*([0-9.]+)/.exec(body);
  return SILENT_MS + (waits === null ? 0 : 1_000 * Number(waits[1]));
}
