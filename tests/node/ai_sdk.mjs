// The Vercel AI SDK against the relay. Prints one JSON object of what it saw.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [baseURL, apiKey, id, scenario] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "relay", baseURL, apiKey, includeUsage: true, supportsStructuredOutputs: true });
const model = provider(id);
const prompt = "How warm is it in Oslo?";
const stopWhen = (stepCountIs ?? isStepCount)(3);
const weather = (called) => ({
  get_weather: tool({
    description: "The weather of a city",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => {
      called.push(city);
      return "7 degrees";
    },
  }),
});

const scenarios = {
  async chat() {
    const { text, usage, finishReason } = await generateText({ model, prompt });
    return { text, total: usage.totalTokens, reason: finishReason };
  },
  async stream() {
    const result = streamText({ model, prompt });
    let text = "";
    for await (const piece of result.textStream) text += piece;
    return { text, total: (await result.usage).totalTokens, reason: await result.finishReason };
  },
  async tools() {
    const called = [];
    const { text } = await generateText({ model, prompt, tools: weather(called), stopWhen });
    return { text, called };
  },
  async streamed_tools() {
    const called = [];
    const result = streamText({ model, prompt, tools: weather(called), stopWhen });
    return { text: await result.text, called };
  },
  async schema() {
    const schema = z.object({ city: z.string(), degrees: z.number() });
    const { output } = await generateText({ model, prompt, output: Output.object({ schema }) });
    return { value: output };
  },
  async error() {
    try {
      await generateText({ model: provider("@cf/no/such-model"), prompt });
    } catch (error) {
      return { kind: error.name, status: error.statusCode, code: error.data?.error?.code };
    }
  },
  async broken() {
    let text = "";
    let failure = null;
    const result = streamText({ model, prompt, onError() {} });
    for await (const part of result.fullStream ?? result.stream) {
      if (part.type === "text-delta") text += part.text;
      if (part.type === "error") failure = String(part.error.message ?? part.error);
    }
    return { text, failure, reason: await result.finishReason.then((reason) => reason, () => "error") };
  },
  async cancel() {
    const controller = new AbortController();
    const result = streamText({ model, prompt, abortSignal: controller.signal, onError() {} });
    for await (const piece of result.textStream) {
      if (piece) controller.abort();
    }
    return { cancelled: true };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
