// OpenAI's own client.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const { SIGNET_URL, SIGNET_KEY, SIGNET_MODEL: model } = process.env;
const client = (more = {}) => new OpenAI({ baseURL: `${SIGNET_URL}/v1`, apiKey: SIGNET_KEY, maxRetries: 0, ...more });
const Person = z.object({ name: z.string().max(20), age: z.int().min(0).max(150) });
const parameters = z.toJSONSchema(Person, { target: "draft-7" });

const input = "Jane is 7 years old. Record her.";
const messages = [{ role: "user", content: input }];
const tools = [{ type: "function", function: { name: "record", description: "Records a person.", parameters } }];
const tool_choice = { type: "function", function: { name: "record" } };
const ask = (more = {}, made = client()) =>
  made.chat.completions.create({ model, messages, max_tokens: 60, ...more });
const respond = (more = {}) => client().responses.create({ model, input, max_output_tokens: 60, ...more });

export default {
  chat: async () => (await ask()).choices[0].message.content,
  stream: async () => {
    let said = "";
    for await (const chunk of await ask({ stream: true })) said += chunk.choices[0]?.delta?.content ?? "";
    return said;
  },
  stream_usage: async () => {
    const stream = client().chat.completions.stream({
      model, messages, max_tokens: 60, stream_options: { include_usage: true },
    });
    return (await stream.totalUsage()).completion_tokens;
  },
  forced: async () => JSON.parse((await ask({ tools, tool_choice })).choices[0].message.tool_calls[0].function.arguments),
  forced_stream: async () => {
    const stream = client().chat.completions.stream({ model, messages, max_tokens: 60, tools, tool_choice });
    return JSON.parse((await stream.finalMessage()).tool_calls[0].function.arguments);
  },
  structured: async () => {
    const response_format = zodResponseFormat(Person, "person");
    const answer = await client().chat.completions.parse({ model, messages, max_tokens: 60, response_format });
    return answer.choices[0].message.parsed;
  },
  responses: async () => (await respond()).output_text,
  responses_stream: async () => {
    let said = "";
    for await (const event of await respond({ stream: true }))
      if (event.type === "response.output_text.delta") said += event.delta;
    return said;
  },
  responses_forced: async () => {
    const answer = await respond({
      tools: [{ type: "function", name: "record", description: "Records a person.", parameters }],
      tool_choice: "required",
    });
    return JSON.parse(answer.output.find((item) => item.type === "function_call").arguments);
  },
  models: async () => {
    const names = [];
    for await (const one of client().models.list()) names.push(one.id);
    return names;
  },
  model: async () => (await client().models.retrieve(model)).id,
  embeddings: () => client().embeddings.create({ model, input }),
  wrong_key: () => ask({}, client({ apiKey: "sk-wrong" })),
  unknown_model: () => ask({ model: "nobody" }),
  too_long: () => ask({ messages: [{ role: "user", content: "one two three four ".repeat(3000) }] }),
};
