// Anthropic's own client.
import Anthropic from "@anthropic-ai/sdk";
import { z } from "zod";

const { SIGNET_URL, SIGNET_KEY, SIGNET_MODEL: model } = process.env;
const client = (more = {}) => new Anthropic({ baseURL: SIGNET_URL, apiKey: SIGNET_KEY, maxRetries: 0, ...more });
const Person = z.object({ name: z.string().max(20), age: z.int().min(0).max(150) });

const question = "Jane is 7 years old. Record her.";
const messages = [{ role: "user", content: question }];
const input_schema = z.toJSONSchema(Person, { target: "draft-7" });
const tools = [{ name: "record", description: "Records a person.", input_schema }];
const tool_choice = { type: "tool", name: "record" };
const asked = { model, messages, max_tokens: 60 };
const called = (answer) => answer.content.find((block) => block.type === "tool_use").input;

export default {
  chat: async () => (await client().messages.create(asked)).content[0].text,
  stream: async () => client().messages.stream(asked).finalText(),
  forced: async () => called(await client().messages.create({ ...asked, tools, tool_choice })),
  forced_stream: async () => called(await client().messages.stream({ ...asked, tools, tool_choice }).finalMessage()),
  count: async () => (await client().messages.countTokens({ model, messages })).input_tokens,
  models: async () => {
    const names = [];
    for await (const one of client().models.list()) names.push(one.id);
    return names;
  },
  model: async () => (await client().models.retrieve(model)).id,
  wrong_key: () => client({ apiKey: "sk-wrong" }).messages.create(asked),
  unknown_model: () => client().messages.create({ ...asked, model: "nobody" }),
  too_long: () =>
    client().messages.create({ ...asked, messages: [{ role: "user", content: "one two three four ".repeat(3000) }] }),
};
