// Run a library's checks, and its example in docs/guides/clients.md; write what each gave, or what it threw, as JSON.
//     node report.mjs ./ask_openai.mjs ./page_openai.mjs openai.json
import { writeFileSync } from "node:fs";

const [script, page, out] = process.argv.slice(2);
const checks = (await import(script)).default;
const seen = {};
for (const [name, check] of Object.entries({ ...checks, page: async () => (await import(page)).answer })) {
  try {
    seen[name] = { answer: (await check()) ?? null };
  } catch (error) {
    // One class of the AI SDK's has the status for them all.
    const status = error.statusCode ? ` ${error.statusCode}` : "";
    seen[name] = { error: `${error.constructor.name}${status}`, message: `${error.message}` };
  }
}
writeFileSync(out, JSON.stringify(seen));
