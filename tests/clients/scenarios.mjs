// What a Worker does with its AI binding, each time the same, whichever client provides the binding. Each scenario
// gives a JSON value of what it saw; an error that it throws is what it saw as well.

const CHAT = "@cf/meta/llama-3.2-1b-instruct";
const ASKED = { messages: [{ role: "user", content: "How warm is it in Oslo?" }], max_tokens: 12 };
const PAGE = "<html><body><h1>Oslo</h1><p>Four degrees.</p></body></html>";

/** The first bytes of a body, as text, and its length. */
async function begin(body) {
  const bytes = new Uint8Array(await new Response(body).arrayBuffer());
  return { begins: String.fromCharCode(...bytes.slice(0, 4)), bytes: bytes.length };
}

/** A second of silence as a WAV file. */
function silence() {
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, value) => [...value].forEach((char, index) => header.setUint8(at + index, char.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + 32000, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, 16000, true);
  header.setUint32(28, 32000, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, 32000, true);
  const file = new Uint8Array(44 + 32000);
  file.set(new Uint8Array(header.buffer));
  return file;
}

const scenarios = {
  async text(ai) {
    const answer = await ai.run(CHAT, ASKED);
    return { text: answer.response, total: answer.usage.total_tokens };
  },
  async request_id(ai) {
    await ai.run(CHAT, ASKED);
    return { id: await ai.lastRequestId, status: await ai.lastRequestHttpStatusCode };
  },
  async stream(ai) {
    const stream = await ai.run(CHAT, { ...ASKED, stream: true });
    const frames = (await new Response(stream).text()).split("\n\n").filter(Boolean);
    const data = frames.map((frame) => frame.replace(/^data: /, ""));
    const events = data.slice(0, -1).map((text) => JSON.parse(text));
    return {
      text: events.map((event) => event.response).join(""),
      last: data.at(-1),
      total: events.at(-1).usage.total_tokens,
      several: events.length > 2,
    };
  },
  async embeddings(ai) {
    const { shape, data } = await ai.run("@cf/baai/bge-base-en-v1.5", { text: ["warm", "cold"] });
    const lengths = data.map((vector) => Math.hypot(...vector));
    return { shape, unit: lengths.every((length) => Math.abs(length - 1) < 0.001) };
  },
  async picture(ai) {
    const png = await ai.run("@cf/stabilityai/stable-diffusion-xl-base-1.0", { prompt: "a red square" });
    return begin(png);
  },
  async picture_as_text(ai) {
    const { image } = await ai.run("@cf/black-forest-labs/flux-1-schnell", { prompt: "a red square" });
    return { begins: atob(image).slice(0, 4), more: image.length > 100 };
  },
  async transcript_of_numbers(ai) {
    return { text: (await ai.run("@cf/openai/whisper", { audio: [...silence()] })).text };
  },
  async transcript_of_a_stream(ai) {
    const audio = { body: new Response(silence()).body, contentType: "audio/wav" };
    return { text: (await ai.run("@cf/openai/whisper", { audio })).text };
  },
  async error(ai) {
    return ai.run("@cf/example/no-such-model", { prompt: "hi" });
  },
  async invalid(ai) {
    return ai.run(CHAT, { messages: "none" });
  },
  async raw(ai) {
    const response = await ai.run(CHAT, ASKED, { returnRawResponse: true });
    const { usage } = await response.json();
    return { status: response.status, type: response.headers.get("content-type"), total: usage.total_tokens };
  },
  async raw_error(ai) {
    const response = await ai.run("@cf/example/no-such-model", {}, { returnRawResponse: true });
    return { status: response.status, code: (await response.json()).internalCode };
  },
  async models(ai) {
    const found = await ai.models({ search: "bge-base", per_page: 5 });
    return found.map((model) => [model.name, model.task.name]);
  },
  // Before the next: getPlatformProxy takes a method that gave a promise once for one that always does.
  async supported(ai) {
    const formats = await ai.toMarkdown().supported();
    return { html: formats.some((format) => format.mimeType === "text/html") };
  },
  async to_markdown(ai) {
    const files = [{ name: "oslo.html", blob: new Blob([PAGE], { type: "text/html" }) }];
    const [{ name, format, data, mimeType }] = await ai.toMarkdown(files);
    return { name, format, data, mimeType };
  },
  async gateway(ai) {
    const gateway = ai.gateway("test");
    const request = { provider: "workers-ai", endpoint: CHAT, headers: {}, query: ASKED };
    const response = await gateway.run(request);
    const body = await response.json();
    return { status: response.status, success: body.success, text: body.result.response };
  },
  async through_gateway(ai) {
    const answer = await ai.run(CHAT, ASKED, { gateway: { id: "test" } });
    return { text: answer.response, log: typeof (await ai.aiGatewayLogId) };
  },
};

/** What every scenario saw, by name. Those of one binding run one after another: it remembers its last request. */
export async function seeAll(ai, except = []) {
  const seen = {};
  for (const [name, scenario] of Object.entries(scenarios)) {
    if (except.includes(name)) continue;
    try {
      seen[name] = await scenario(ai);
    } catch (error) {
      seen[name] = { error: error.name, message: error.message };
    }
  }
  return seen;
}
