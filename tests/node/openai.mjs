// The official openai SDK for Node against the relay. Prints one JSON object of what it saw.
import OpenAI from "openai";

const [baseURL, apiKey, model, scenario] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });
const messages = [{ role: "user", content: "How warm is it in Oslo?" }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const schema = {
  type: "object",
  properties: { city: { type: "string" }, degrees: { type: "integer" } },
  required: ["city", "degrees"],
  additionalProperties: false,
};

const scenarios = {
  async chat() {
    const answer = await client.chat.completions.create({ model, messages });
    return { text: answer.choices[0].message.content, total: answer.usage.total_tokens, id: answer._request_id };
  },
  async stream() {
    let text = "";
    let total = null;
    const stream = await client.chat.completions.create({
      model,
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      total = chunk.usage?.total_tokens ?? total;
    }
    return { text, total };
  },
  async accumulated() {
    const runner = client.chat.completions.stream({ model, messages });
    const completion = await runner.finalChatCompletion();
    return { text: completion.choices[0].message.content, reason: completion.choices[0].finish_reason };
  },
  async tools() {
    const called = [];
    const get_weather = ({ city }) => {
      called.push(city);
      return "7 degrees";
    };
    const tools = [{ type: "function", function: { name: "get_weather", function: get_weather, parse: JSON.parse, parameters } }];
    const runner = client.chat.completions.runTools({ model, messages, tools });
    return { text: await runner.finalContent(), called };
  },
  async streamed_tools() {
    const called = [];
    const get_weather = ({ city }) => {
      called.push(city);
      return "7 degrees";
    };
    const tools = [{ type: "function", function: { name: "get_weather", function: get_weather, parse: JSON.parse, parameters } }];
    const runner = client.chat.completions.runTools({ model, messages, tools, stream: true });
    return { text: await runner.finalContent(), called };
  },
  async schema() {
    const response_format = { type: "json_schema", json_schema: { name: "weather", strict: true, schema } };
    const completion = await client.chat.completions.parse({ model, messages, response_format });
    return { value: JSON.parse(completion.choices[0].message.content) };
  },
  async error() {
    try {
      await client.chat.completions.create({ model: "@cf/no/such-model", messages });
    } catch (error) {
      return { kind: error.constructor.name, status: error.status, code: error.code, param: error.param };
    }
  },
  async broken() {
    let text = "";
    try {
      for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
        text += chunk.choices[0]?.delta?.content ?? "";
      }
    } catch (error) {
      return { text, kind: error.constructor.name, code: error.code };
    }
    return { text };
  },
  async cancel() {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0].delta.content) {
        stream.controller.abort();
        break;
      }
    }
    return { cancelled: true };
  },
  async models() {
    const ids = [];
    for await (const entry of client.models.list()) ids.push(entry.id);
    return { listed: ids.includes(model), id: (await client.models.retrieve(model)).id };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
