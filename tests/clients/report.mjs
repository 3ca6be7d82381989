// Run a library's checks, and its example in docs/guides/clients.md; write what each gave, or what it threw, as JSON.
//     node report.mjs ./ask_openai.mjs ./page_openai.mjs openai.json
import { writeFileSync } from "node:fs";

const [script, page, out] = process.argv.slice(2);
const checks = (await import(script)).default;
const outcome = async (check) => {
  try {
    return { answer: (await check()) ?? null };
  } catch (error) {
    // One class of the AI SDK's has the status for them all.
    const status = error.statusCode ? ` ${error.statusCode}` : "";
    return { error: `${error.constructor.name}${status}`, message: `${error.message}` };
  }
};

// Four at a time: an engine answers several in little more time than one.
const waiting = Object.entries({ ...checks, page: async () => (await import(page)).answer });
const seen = {};
const lane = async () => {
  for (let next = waiting.shift(); next; next = waiting.shift()) seen[next[0]] = await outcome(next[1]);
};
await Promise.all([lane(), lane(), lane(), lane()]);
writeFileSync(out, JSON.stringify(seen));
