/** What a program does with the client, against a real runtime; says what it saw as a line of JSON. */
import { createClient, done, HelmrError, type Models } from "@helmr/client";

const [url, key] = process.argv.slice(2);
if (url === undefined || key === undefined) throw new Error("usage: calls URL KEY");
const helmr = createClient({ url, key, onBehalfOf: "ada" });

const started: Models["StartReceipt"] = await done(
  helmr.POST("/v1/sessions", { body: { task: "newsletter", payload: "otters", result_timeout_s: 30 } }),
);
const path = { session_id: started.session.id };
const inbox = await done(helmr.GET("/v1/waits", { params: { query: { status: "pending", limit: 10 } } }));
const wait = inbox.items.find((one) => one.session_id === path.session_id);
if (wait === undefined) throw new Error("the inbox lacks the wait");
const whole = await done(helmr.GET("/v1/waits/{wait_id}", { params: { path: { wait_id: wait.id } } }));
const who = await done(helmr.GET("/v1/whoami"));
await helmr.POST("/v1/waits/{wait_id}/claim", { params: { path: { wait_id: wait.id } }, body: {} });

const code = async (call: Promise<unknown>): Promise<string> => {
  const error: unknown = await call.then(() => undefined, (thrown: unknown) => thrown);
  return error instanceof HelmrError ? error.code : `no refusal: ${String(error)}`;
};
const params = { path: { wait_id: wait.id } };
const unfit = await code(helmr.POST("/v1/waits/{wait_id}/answer", { params, body: { data: { decision: "maybe" } } }));
const note = await done(helmr.POST("/v1/sessions/{session_id}/notes", { params: { path }, body: { text: "by node" } }));

const records: unknown[] = [];
const following = (async () => {
  for await (const { data } of helmr.outputs(path.session_id, "progress")) {
    const seq: number = data.seq;
    records.push(seq > 0 ? data : seq);
  }
})();
const receipt = await done(helmr.POST("/v1/waits/{wait_id}/answer", { params, body: { data: { decision: "send" } } }));
const again = await code(helmr.POST("/v1/waits/{wait_id}/answer", { params, body: { data: { decision: "drop" } } }));
let run = await done(helmr.GET("/v1/runs/{run_id}", { params: { path: { run_id: started.run.id } } }));
while (run.status !== "succeeded") {
  await new Promise((resolve) => setTimeout(resolve, 50));
  run = await done(helmr.GET("/v1/runs/{run_id}", { params: { path: { run_id: started.run.id } } }));
}
const session = await done(helmr.POST("/v1/sessions/{session_id}/close", { params: { path }, body: {} }));
await following;
const transcript = await done(helmr.GET("/v1/sessions/{session_id}/transcript", { params: { path } }));
const unreachable = await code(createClient({ url: "http://127.0.0.1:9", tryForMs: 0 }).GET("/v1/waits"));
const both = createClient({ url: ["http://127.0.0.1:9", `${url}/`], key });
const byTheOther = await done(both.GET("/v1/sessions/{session_id}", { params: { path } }));
const followed: unknown[] = [];
for await (const { data } of both.outputs(path.session_id, "progress")) followed.push(data);
const neither = await code(createClient({ url: ["http://127.0.0.1:9", "http://127.0.0.1:19"], tryForMs: 0 }).GET("/v1/waits"));
const unknownKey = await code(createClient({ url, key: "nonsense" }).GET("/v1/waits"));

const wrong = async (): Promise<void> => {
  for await (const { data } of helmr.outputs(path.session_id, "progress")) {
    // @ts-expect-error: the record is compared, where its data is meant
    if (data === "end") return;
  }
  for await (const one of helmr.outputs(path.session_id, "progress", { chunks: true })) {
    if (one.event === "record") void one.data.seq.toFixed();
    // @ts-expect-error: a chunk has no seq
    if (one.event === "chunk") void one.data.seq;
  }
  for await (const { data } of helmr.entries(path.session_id)) {
    void data.kind.length;
    // @ts-expect-error: a field that no entry has
    void data.colour;
  }
};
void wrong;
// @ts-expect-error: a field that no session has
void started.session.colour;
// @ts-expect-error: a path that the runtime does not serve
void (() => helmr.GET("/v1/nothing"));
// @ts-expect-error: a body of another shape
void (() => helmr.POST("/v1/sessions", { body: { payload: 1 } }));

console.log(
  JSON.stringify({
    subject: whole.subject,
    who: who.role,
    note: note.session_id === path.session_id,
    unfit,
    outcome: receipt.outcome,
    again,
    result: run.result,
    status: session.status,
    records,
    answeredBy: transcript.items.filter((one) => one.kind === "input.accepted").map((one) => one.principal.on_behalf_of),
    byTheOther: byTheOther.id === path.session_id,
    followed: followed.length,
    neither,
    unreachable,
    unknownKey,
  }),
);
