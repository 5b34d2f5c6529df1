// Cloudflare's SDK for Node against the relay. Prints one JSON object of what each scenario saw.
import Cloudflare, { toFile } from "cloudflare";

const [baseURL, apiToken] = process.argv.slice(2);
const client = new Cloudflare({ apiToken, baseURL, maxRetries: 0, timeout: 100_000 });
const account_id = "local";
const chat = "@cf/meta/llama-3.2-1b-instruct";
const asked = { account_id, messages: [{ role: "user", content: "How warm is it in Oslo?" }], max_tokens: 12 };

const scenarios = {
  async text() {
    const { response, usage } = await client.ai.run(chat, asked);
    return { text: response, total: usage.total_tokens };
  },
  async stream() {
    const response = await client.ai.run(chat, { ...asked, stream: true }).asResponse();
    const data = (await response.text()).trim().split("\n\n").map((frame) => frame.replace(/^data: /, ""));
    const text = data.slice(0, -1).map((frame) => JSON.parse(frame).response).join("");
    return { text, last: data.at(-1), type: response.headers.get("content-type") };
  },
  async embeddings() {
    const { shape, data } = await client.ai.run("@cf/baai/bge-base-en-v1.5", { account_id, text: ["warm", "cold"] });
    return { shape, lengths: data.map((vector) => vector.length) };
  },
  async picture() {
    const model = "@cf/stabilityai/stable-diffusion-xl-base-1.0";
    const response = await client.ai.run(model, { account_id, prompt: "a red square" }).asResponse();
    const bytes = Buffer.from(await response.arrayBuffer());
    return { type: response.headers.get("content-type"), begins: bytes.subarray(1, 4).toString() };
  },
  async error() {
    return client.ai.run("@cf/example/no-such-model", { account_id, prompt: "hi" });
  },
  async bad_token() {
    return client.withOptions({ apiToken: "wrong" }).ai.run(chat, asked);
  },
  async models() {
    const names = [];
    for await (const model of client.ai.models.list({ account_id, per_page: 20 })) names.push(model.name);
    const unique = new Set(names).size === names.length;
    return { several_pages: names.length > 20, unique, known: names.includes(chat) };
  },
  async schema() {
    const { input } = await client.ai.models.schema.get({ account_id, model: chat });
    return { type: typeof input };
  },
  async finetunes() {
    const mine = await client.ai.finetunes.list({ account_id });
    let ended = true;
    for await (const finetune of client.ai.finetunes.public.list({ account_id })) ended = finetune.id !== undefined;
    return { mine: Array.isArray(mine), ended };
  },
  async names() {
    const found = {};
    for (const [kind, list] of [["tasks", client.ai.tasks], ["authors", client.ai.authors]]) {
      found[kind] = 0;
      for await (const _ of list.list({ account_id })) found[kind] += 1;
    }
    return { tasks: found.tasks > 5, authors: found.authors > 5 };
  },
  async markdown() {
    const file = await toFile(Buffer.from("<h1>Oslo</h1>"), "oslo.html", { type: "text/html" });
    const done = await client.ai.toMarkdown.transform({ account_id, file: { files: [file] } });
    return done.result.map(({ name, data }) => ({ name, data }));
  },
  async supported() {
    const found = await client.ai.toMarkdown.supported({ account_id });
    return { html: found.result.some((format) => format.mimeType === "text/html") };
  },
  async identity() {
    const accounts = [];
    for await (const account of client.accounts.list()) accounts.push(account.id);
    const memberships = [];
    for await (const membership of client.memberships.list()) memberships.push(membership.account.id);
    return { status: (await client.user.tokens.verify()).status, accounts, memberships };
  },
};

const seen = {};
for (const [name, scenario] of Object.entries(scenarios)) {
  try {
    seen[name] = await scenario();
  } catch (error) {
    const codes = error.errors?.map((one) => one.code) ?? String(error);
    seen[name] = { error: error.constructor.name, status: error.status ?? null, codes };
  }
}
console.log(JSON.stringify(seen));
