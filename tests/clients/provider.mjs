// The AI SDK's provider for Workers AI, with credentials and with a binding. Prints what each scenario saw.
import { embedMany, generateText, streamText, tool } from "ai";
import { createWorkersAI } from "workers-ai-provider";
import { getPlatformProxy } from "wrangler";
import { z } from "zod";

const [mode, baseURL, apiKey, configPath] = process.argv.slice(2);
const CLOUDFLARE = "https://api.cloudflare.com/client/v4";
const chat = "@cf/meta/llama-3.3-70b-instruct-fp8-fast";
const prompt = "How warm is it in Oslo?";

/** The provider's host is fixed: its own `fetch` option is where another comes in. */
function redirected(url, init) {
  return fetch(String(url).replace(CLOUDFLARE, baseURL), init);
}

const platform =
  mode === "binding" ? await getPlatformProxy({ configPath, environment: "relay", persist: false }) : null;
const provider = createWorkersAI(
  platform === null ? { accountId: "local", apiKey, fetch: redirected } : { binding: platform.env.AI },
);

const scenarios = {
  async text() {
    const { text, usage } = await generateText({ model: provider(chat), prompt, maxOutputTokens: 12 });
    return { text, total: usage.totalTokens };
  },
  async stream() {
    const result = streamText({ model: provider(chat), prompt, maxOutputTokens: 12 });
    let [text, pieces] = ["", 0];
    for await (const piece of result.textStream) {
      text += piece;
      pieces += 1;
    }
    return { text, several: pieces > 2, total: (await result.usage).totalTokens };
  },
  async tools() {
    const weather = tool({ description: "The weather of a city", inputSchema: z.object({ city: z.string() }) });
    const asked = { model: provider(chat), prompt, tools: { weather }, toolChoice: "required" };
    const { toolCalls } = await generateText(asked);
    return toolCalls.map(({ toolName, input }) => ({ toolName, keys: Object.keys(input) }));
  },
  async embeddings() {
    const model = provider.textEmbedding("@cf/baai/bge-base-en-v1.5");
    const { embeddings } = await embedMany({ model, values: ["warm", "cold"] });
    return embeddings.map((vector) => vector.length);
  },
  async error() {
    return generateText({ model: provider("@cf/example/no-such-model"), prompt, maxRetries: 0 });
  },
};

const seen = {};
for (const [name, scenario] of Object.entries(scenarios)) {
  try {
    seen[name] = await scenario();
  } catch (error) {
    seen[name] = { error: error.name, message: error.message };
  }
}
console.log(JSON.stringify(seen));
await platform?.dispose();
