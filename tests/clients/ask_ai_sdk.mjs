// Vercel's AI SDK, through its providers for servers like OpenAI's and for OpenAI's Responses API.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateObject, generateText, Output, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";

const { SIGNET_URL, SIGNET_KEY, SIGNET_MODEL } = process.env;
const like = (more = {}) =>
  createOpenAICompatible({ name: "signet", baseURL: `${SIGNET_URL}/v1`, apiKey: SIGNET_KEY, includeUsage: true, ...more });
const model = like()(SIGNET_MODEL);
const strict = like({ supportsStructuredOutputs: true })(SIGNET_MODEL);
const responses = createOpenAI({ baseURL: `${SIGNET_URL}/v1`, apiKey: SIGNET_KEY })(SIGNET_MODEL);
const Person = z.object({ name: z.string().max(20), age: z.int().min(0).max(150) });

const prompt = "Jane is 7 years old. Record her.";
const asked = { model, prompt, maxOutputTokens: 60, maxRetries: 0 };
const tools = { record: tool({ description: "Records a person.", inputSchema: Person }) };
const forced = { tools, toolChoice: { type: "tool", toolName: "record" } };
const joined = async (stream) => {
  let said = "";
  for await (const piece of stream) said += piece;
  return said;
};

export default {
  chat: async () => (await generateText(asked)).text,
  chat_usage: async () => (await generateText(asked)).usage.outputTokens,
  stream: () => joined(streamText(asked).textStream),
  stream_usage: async () => {
    const answer = streamText(asked);
    await answer.consumeStream();
    return (await answer.usage).outputTokens;
  },
  responses: async () => (await generateText({ ...asked, model: responses })).text,
  responses_stream: () => joined(streamText({ ...asked, model: responses }).textStream),
  forced: async () => (await generateText({ ...asked, ...forced })).toolCalls[0].input,
  forced_stream: async () => (await streamText({ ...asked, ...forced }).toolCalls)[0].input,
  forced_responses: async () => (await generateText({ ...asked, ...forced, model: responses })).toolCalls[0].input,
  tool_turns: async () => {
    const record = tool({ description: "Records a person.", inputSchema: Person, execute: ({ name }) => name });
    const prepareStep = ({ stepNumber }) => ({ toolChoice: stepNumber ? "none" : "required" });
    return (await generateText({ ...asked, tools: { record }, prepareStep, stopWhen: stepCountIs(2) })).steps.length;
  },
  structured: async () => (await generateObject({ ...asked, model: strict, schema: Person })).object,
  structured_output: async () =>
    (await generateText({ ...asked, model: strict, output: Output.object({ schema: Person }) })).output,
  structured_stream: async () => {
    let last;
    for await (const object of streamObject({ ...asked, model: strict, schema: Person }).partialObjectStream) last = object;
    return last;
  },
  structured_responses: async () => (await generateObject({ ...asked, model: responses, schema: Person })).object,
  embeddings: () => embed({ model: like().embeddingModel(SIGNET_MODEL), value: prompt, maxRetries: 0 }),
  wrong_key: () => generateText({ ...asked, model: like({ apiKey: "sk-wrong" })(SIGNET_MODEL) }),
  unknown_model: () => generateText({ ...asked, model: like()("nobody") }),
  too_long: () => generateText({ ...asked, prompt: "one two three four ".repeat(3000) }),
};
